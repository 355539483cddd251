"""What control has asked a worker to let go, in the order asked, and what is to be done once it has.

A worker carries commands out in order, so only the oldest removal needs a look: its record's state says whether the
worker has let go of it. Nothing can be lost, nothing has to be waited for, and an acknowledgement may come however
late. Events that the worker sent before it let go are about the old record: they are handled first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mediaserver.engine.layout import CLOSING
from mediaserver.engine.ring import Ring
from packetio.log import load_acquire_py


class Removals:
    """The unacknowledged removals of one worker, oldest first."""

    def __init__(self, events: Ring) -> None:
        self._events = events
        self._asked: deque[tuple[int, Callable[[], None]]] = deque()  # address of the record's state, what then
        self._behind = -1  # events that must be handled before the oldest may be; -1: it is not acknowledged yet

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, address: int, then: Callable[[], None]) -> None:
        """A removal was sent; call `then` once the worker has let go of the record at `address`."""
        self._asked.append((address, then))

    def settle(self, most: int) -> bool:
        """Do what is due of at most `most` removals; returns whether more may be due."""
        for _ in range(most):
            if not self._due():
                return False
            _, then = self._asked.popleft()
            self._behind = -1
            then()
        return bool(self._asked)

    def abandon(self) -> None:
        """The worker has ended: it holds no record any more, whatever it has acknowledged."""
        while self._asked:
            self._asked.popleft()[1]()
        self._behind = -1

    def _due(self) -> bool:
        if not self._asked:
            return False
        if self._behind < 0:
            if load_acquire_py(self._asked[0][0]) != CLOSING:
                return False
            self._behind = self._events.produced
        return self._events.taken >= self._behind
