"""What the load test wants of a server's signalling, whatever its protocol: an offer in, an answer and a handle out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class DriverError(Exception):
    """The server refused, answered nonsense or did not answer; the message is a sentence.

    `step` is the operation: publish, subscribe, leave or layer; `status` the HTTP status, None when none came.
    """

    def __init__(self, message: str, step: str, status: int | None = None) -> None:
        super().__init__(message)
        self.step, self.status = step, status


@dataclass(frozen=True)
class Accepted:
    """A session: the server's SDP answer, and what `leave` and `set_layer` call the session by."""

    answer: str
    session: str


class Driver(Protocol):
    """One target. All but `close` raise DriverError, within a bounded time."""

    async def publish(self, room: str, identity: str, offer: str) -> Accepted:
        """Begin to publish."""

    async def subscribe(self, room: str, identity: str, publisher: str, offer: str, layer: str | None) -> Accepted:
        """Begin to watch a publisher, at a layer if one is named."""

    async def leave(self, session: str) -> None:
        """End a session."""

    async def set_layer(self, session: str, layer: str) -> None:
        """Ask for another layer; DriverError if the target has no such thing."""

    async def close(self) -> None:
        """Give up what the driver holds; sessions stay as they are."""
