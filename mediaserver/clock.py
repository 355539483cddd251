"""The time in which this process was running, for deadlines of others: whoever was late must not be us.

A process that is stopped, or gets no processor for seconds, goes on with timers that are all due at once, before it has
read what came meanwhile. `RunningClock` counts only the time in which the event loop took its turns, so that a peer has
as long as it was promised. It follows the loop's own clock (CLOCK_MONOTONIC), which nobody can set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

BEAT = 0.5  # seconds between two looks at the clock
LATE = 2.0  # seconds that a look may be late; more is a stop, and does not count


class RunningClock:
    """Seconds of the event loop's turns. `on_stop(seconds)` is called when it has stood still."""

    def __init__(self, on_stop: Callable[[float], None] = lambda seconds: None) -> None:
        self.on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._looked = self._lost = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._looked = self._loop.time()
        self._next()

    def stop(self) -> None:
        """End: deadlines are due by the loop's clock from now on."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def time(self) -> float:
        """Now: seconds from any moment on, without those in which the loop stood still."""
        assert self._loop is not None
        now = self._loop.time()
        late = now - self._looked - BEAT
        self._looked = now
        if late > LATE and self._beat is not None:
            self._lost += late
            self.on_stop(late)
        return now - self._lost

    def call_later(self, seconds: float, callback: Callable[..., Any], *arguments: Any) -> Deadline:
        """Call back when so many seconds have gone by on this clock."""
        return Deadline(self, seconds, callback, arguments)

    def _next(self) -> None:
        assert self._loop is not None
        self._beat = self._loop.call_later(BEAT, self._turn)

    def _turn(self) -> None:
        self.time()
        self._next()


class Deadline:
    """A callback at a time of a RunningClock, unless it is cancelled."""

    def __init__(
        self, clock: RunningClock, seconds: float, callback: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self._clock, self._callback, self._arguments = clock, callback, arguments
        self._at = clock.time() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def cancel(self) -> None:
        """Not any more. Again, or afterwards: nothing."""
        self._timer.cancel()

    def _due(self) -> None:
        left = self._at - self._clock.time()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._due)
        else:
            self._callback(*self._arguments)
