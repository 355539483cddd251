"""The share of a worker's tables: which indices are free, and what a transport is about to take.

That is known from the offer, so a worker is chosen that has room for all of it; a join that finds none takes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mediaserver.engine.layout import AUDIO, VIDEO

if TYPE_CHECKING:
    from mediaserver.engine.worker import Worker


class EngineFull(Exception):
    """A table or the logs of a worker are used up: the join is refused, nothing else happens."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"no more {what}: the limit of {limit} per worker is reached")
        self.what, self.limit = what, limit


class Slots:
    """Free indices of one table. Index 0 is never given out."""

    def __init__(self, what: str, count: int) -> None:
        self.what, self.limit = what, count
        self.free = list(range(count, 0, -1))

    def take(self) -> int:
        """A free index. Raises EngineFull."""
        if not self.free:
            raise EngineFull(self.what, self.limit)
        return self.free.pop()

    def give(self, index: int) -> None:
        """Return an index that the worker has let go."""
        self.free.append(index)

    @property
    def used(self) -> int:
        """Indices in use."""
        return self.limit - len(self.free)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Counts of records besides the transport itself; `feedback`: congestion feedback will be sent to it."""

    audio: int = 0  # published layers, each with a log and a feed
    video: int = 0
    subscriptions: int = 0
    feedback: bool = False

    def lacking(self, worker: Worker) -> Slots | None:
        """The first table of a worker that has too little left; None: there is room."""
        layers = self.audio + self.video
        wanted = (
            (worker.transport_slots, 1),
            (worker.twcc_slots, int(self.feedback)),
            (worker.layer_slots, layers),
            (worker.feed_slots, layers),
            (worker.logs.slots[AUDIO], self.audio),
            (worker.logs.slots[VIDEO], self.video),
            (worker.subscription_slots, self.subscriptions),
        )
        return next((slots for slots, count in wanted if len(slots.free) < count), None)
