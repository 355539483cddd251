"""Whether a run is to end before its time, and why. Everything that waits in a run waits here, so that it can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


class Ending:
    """Set once, by whoever interrupts the run (Ctrl-C) or breaks it off because going on is of no use."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.interrupted = False
        self.broken_off = ""  # why

    @property
    def due(self) -> bool:
        """Whether the run is to end now."""
        return self._event.is_set()

    def interrupt(self) -> None:
        """End in order as soon as may be."""
        self.interrupted = True
        self._event.set()

    def break_off(self, why: str) -> None:
        """Going on is of no use; the first reason stays."""
        self.broken_off = self.broken_off or why
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Wait, or until the run is to end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), seconds)

    async def unless(self, work: Coroutine[Any, Any, object]) -> bool:
        """Whether something was done before the run is to end; else it is given up. What it raises is raised."""
        if self.due:
            work.close()
            return False
        task, ending = asyncio.create_task(work), asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task.done()
        finally:
            ending.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
