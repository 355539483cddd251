"""Looks at a run once a second: the points over time, the live table, and whether going on is of any use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from loadtest.engine.engine import ClientEngine
from loadtest.run.crowd import Crowd
from loadtest.run.ending import Ending
from loadtest.run.events import Events
from loadtest.run.figures import Figures
from loadtest.run.people import Person, Roster, Session
from loadtest.run.sampler import Sampler
from loadtest.run.target import Target

SAMPLE = 1.0  # seconds between points
STALLED = 10.0  # seconds without a packet for anybody, after which going on is of no use
SILENT = 3.0  # seconds without media at the end that are worth a note
FRESH = 1.0  # seconds after a join in which no media is no news
NEVER = "joined, but no media came"  # of a join that is done when media comes

Show = Callable[[Figures], None]


class Watch:
    """Breaks the run off when the target is dead or nothing comes, or comes any more."""

    def __init__(
        self, roster: Roster, crowd: Crowd, engine: ClientEngine, target: Target, sampler: Sampler, ending: Ending
    ) -> None:
        self.roster, self.crowd, self.engine, self.target = roster, crowd, engine, target
        self.sampler, self.ending = sampler, ending
        self.events: Events | None = None  # of a run that is measuring
        self._received, self._moved = 0, time.monotonic()

    async def keep(self, show: Show) -> None:
        """A point a second, without end."""
        while True:
            await asyncio.sleep(SAMPLE)
            show(self.sampler.look(self.crowd.done))
            self.check()

    def check(self) -> None:
        """Break the run off if there is a reason."""
        total, now = sum(part.packets for part in self.engine.totals().values()), time.monotonic()
        restarting = self.events is not None and self.events.restarting
        if total != self._received or not self.crowd.watching or restarting or self._all_muted():
            self._received, self._moved = total, now
        if not restarting and (why := self.target.dead):
            self.ending.break_off(f"{why}: {self.target.tail()}".rstrip(": "))
        elif now - self._moved > STALLED:
            self.ending.break_off(f"no media came for anybody in {STALLED:g} s")

    def _all_muted(self) -> bool:
        """Whether publishers are here, and all that they could send is muted."""
        sessions = [session for person in self.roster.publishers for session in person.sessions]
        here = [session for session in sessions if session.index and not session.ended]
        sources = (source for session in here for source in self.engine.sources_of(session.index))
        return bool(here) and all(int(source.muted) for source in sources)

    def note_silence(self) -> None:
        """Who was getting nothing at the end, or never did: that was no join."""
        now = time.monotonic_ns()
        for person in self.roster.subscribers:
            for session in person.sessions if person.state == "here" else ():
                if what := self._silence(session, now):
                    self._note(person, what)

    def _note(self, person: Person, what: str) -> None:
        self.crowd.note(person, what)
        if what == NEVER:
            self.crowd.done, self.crowd.failed = self.crowd.done - 1, self.crowd.failed + 1

    def _silence(self, session: Session, now: int) -> str:
        if not session.index or session.ended:
            return ""
        last = int(self.engine.clients.rows[session.index].last_packet)
        if last == 0:
            return NEVER if now - session.timings.secured > FRESH * 1e9 else ""
        if why := self.target.dead:
            return f"no media any more: {why}"
        return f"no media in the last {SILENT:g} s" if now - last > SILENT * 1e9 else ""
