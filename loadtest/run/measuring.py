"""What is measured of the clients of a run: the scenario's duration, with its events."""

from __future__ import annotations

import time

from loadtest.engine.engine import ClientEngine
from loadtest.run.crowd import Crowd
from loadtest.run.decoding import Decoding
from loadtest.run.ending import Ending
from loadtest.run.events import Events
from loadtest.run.figures import Attendance, Moment
from loadtest.run.joining import Joining
from loadtest.run.people import Roster
from loadtest.run.report import Window
from loadtest.run.sampler import Sampler
from loadtest.run.target import Target
from loadtest.run.tool import Cores, Mark, Tool, cores_of
from loadtest.run.watch import Watch
from loadtest.scenario.schema import Scenario, Subscribers


class Measuring:
    """Looks at one run's clients from their joins on; `measure` is its duration, and `window` what that found."""

    def __init__(
        self,
        scenario: Scenario,
        roster: Roster,
        target: Target,
        engine: ClientEngine,
        crowd: Crowd,
        joining: Joining,
        decoding: Decoding,
        ending: Ending,
    ) -> None:
        self.scenario, self.roster, self.target, self.engine = scenario, roster, target, engine
        self.crowd, self.joining, self.decoding, self.ending = crowd, joining, decoding, ending
        self.tool = Tool(engine)
        self.sampler = Sampler(self.moment, self.tool.late_ms)
        self.watch = Watch(roster, crowd, engine, target, self.sampler, ending)
        self.window: Window | None = None
        self.joins: tuple[Mark, Mark] | None = None  # before and after the joins at the start

    def moment(self) -> Moment:
        """Everything that is counted, now."""
        totals, usage = self.engine.totals(), self.target.usage()
        return Moment(time.monotonic(), totals, self.tool.mark(), usage, self.crowd.watching)

    async def join(self) -> None:
        """Everybody in for the first time; the tool's marks are kept, however that ends."""
        before = self.tool.mark()
        try:
            await self.joining.first(self.roster.everybody)
        finally:
            self.joins = before, self.tool.mark()

    async def measure(self) -> None:
        """The scenario's duration, with all its events."""
        events = Events(self.scenario, self.roster, self.crowd, self.target, self.joining.again, self.ending)
        self.engine.forget_maxima()
        self.decoding.count_anew()
        before, cores = self.moment(), cores_of(self.target.pid)
        self.sampler.attendance = attendance = Attendance(before, self._receivers())
        self.watch.events = events
        events.start()
        try:
            await self.ending.pause(self.scenario.duration)
        finally:
            self._close(before, attendance, cores)
            await events.stop()
            self.watch.note_silence()

    def _close(self, before: Moment, attendance: Attendance, cores: Cores) -> None:
        after, self.sampler.attendance = self.moment(), None
        attendance.add(after)
        self.window = Window(before, after, attendance, self.tool.late_ms(), self.decoding.figures(), cores)

    def _receivers(self) -> set[int]:
        """The numbers of the groups that receive."""
        groups = self.scenario.groups()
        return {number for number, name in enumerate(self.crowd.groups) if isinstance(groups[name], Subscribers)}
