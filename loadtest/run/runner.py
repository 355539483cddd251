"""One run from beginning to end: prepare, start the target, let everybody join, measure, let everybody leave, report.

Whatever happens (a target that is absent, refuses, dies or goes silent, Ctrl-C), it ends in bounded time with what was
measured until then, and nothing is left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from loadtest.drivers.make import make_driver
from loadtest.engine.engine import ClientEngine
from loadtest.engine.layout import VIDEO
from loadtest.results.schema import Results
from loadtest.run.crowd import Crowd
from loadtest.run.decoding import Decoding
from loadtest.run.ending import Ending
from loadtest.run.figures import Figures
from loadtest.run.joining import Joining
from loadtest.run.measuring import Measuring
from loadtest.run.people import Roster
from loadtest.run.reels import Reels
from loadtest.run.report import Joins, Seen, results_of
from loadtest.run.target import Target, TargetError
from loadtest.run.tool import allow_sockets
from loadtest.scenario.schema import Scenario
from loadtest.transport.addresses import host_towards

SETTLE = 1.0  # seconds between the last join and the beginning of what is measured
HELD_A_CLIENT = 64  # datagrams of a client with a bad network that may wait in the delay queue
LEAVING, LEAVING_EACH = 15.0, 0.02  # seconds that everybody and each session may take to leave

Progress = Callable[[Figures, str, float, float | None], None]


@dataclass
class Options:
    """How to run; what is measured is the scenario's."""

    allow_remote: bool = False
    cores: set[int] | None = None  # of the load test; None: all
    target_cores: set[int] | None = None  # of a target that we start
    command: str = field(default_factory=lambda: shlex.join(sys.argv))
    progress: Progress = lambda figures, phase, elapsed, total: None


class Run:
    """One run of a scenario. `stop` ends it early, in order."""

    def __init__(self, scenario: Scenario, options: Options) -> None:
        self.scenario, self.options = scenario, options
        self.roster, self.reels = Roster(scenario), Reels(scenario)
        self.ending = Ending()
        self._target = Target(scenario.target, options.target_cores, options.allow_remote)
        self.seen = Seen(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
        self._begun = time.monotonic()
        self._first: tuple[int, float] = 0, 0.0  # joins done at the start, and the seconds that they took
        self._phase, self._phase_begun = "", self._begun
        self._length: float | None = None  # seconds of the phase, where they are known

    def stop(self) -> None:
        """End in order as soon as may be: Ctrl-C."""
        self.ending.interrupt()

    async def go(self) -> Results:
        """Everything. ValueError for a scenario that can't be run here; a target's faults are in the results."""
        if self.options.cores:
            os.sched_setaffinity(0, self.options.cores)
        await self._encode()
        if not self.ending.due:
            await self._with_engine()
        self.seen.interrupted, self.seen.broken_off = self.ending.interrupted, self.ending.broken_off
        self.seen.duration, self.seen.pid = time.monotonic() - self._begun, self._target.pid
        return results_of(self.scenario, self.options.command, self.seen)

    async def _encode(self) -> None:
        """In a thread, which ends between two media profiles when the run is to end."""
        loop = asyncio.get_running_loop()

        def goes_on(media: str) -> bool:
            loop.call_soon_threadsafe(self._enter, f"encoding {media}")
            return not self.ending.due

        self._enter("preparing")
        await asyncio.to_thread(self.reels.prepare, goes_on)

    async def _with_engine(self) -> None:
        sessions = self.scenario.sessions() + self._room_for_churn()
        allow_sockets(sessions)
        impaired = sum(self.scenario.size_of(group) for group in self.scenario.groups().values() if group.network)
        held = max(1024, min(HELD_A_CLIENT * impaired * 4, 262_144))
        engine = ClientEngine(sessions, max(len(self.roster.publishers), 1) + 8, held=held)
        try:
            self._enter("compiling")
            await asyncio.to_thread(engine.compile)
            if not self.ending.due and await self._target_is_there():
                await self._with_target(engine)
        finally:
            engine.stop()
            with contextlib.suppress(ProcessLookupError):
                await self._target.stop()

    def _room_for_churn(self) -> int:
        """Sessions of those who may come while the run lasts: chance is allowed more than the mean."""
        people = 1.2 * self.scenario.churn.joins * self.scenario.duration
        return 64 + int(people * max((len(person.watches) for person in self.roster.subscribers), default=0))

    async def _target_is_there(self) -> bool:
        self._enter("starting the target" if self.scenario.target.command else "connecting")
        try:
            return await self.ending.unless(self._target.start())
        except TargetError as error:
            self.ending.break_off(str(error))
            return False

    async def _with_target(self, engine: ClientEngine) -> None:
        """Clients in front of the target; each part is closed again, whatever the others do."""
        try:
            host = host_towards(self._target.address)
        except OSError as error:
            self.ending.break_off(f"no way to {self._target.address}: {error.strerror}")
            return
        async with contextlib.AsyncExitStack() as closing:
            driver = make_driver(self.scenario.target, self.options.allow_remote, self.scenario.joins.timeout)
            closing.push_async_callback(driver.close)
            crowd = Crowd(self.scenario, driver, engine, self.reels, host, self.options.allow_remote)
            decoding = Decoding(engine.captures, lambda number: self._capture_time(engine, number))
            crowd.removed = decoding.forget
            engine.start()
            decoding.start()
            closing.callback(self._close_decoding, decoding)
            closing.callback(crowd.close)
            joining = Joining(self.scenario, crowd, self.ending)
            closing.callback(self._note_crowd, crowd, joining)
            closing.push_async_callback(self._everybody_out, crowd)
            measuring = Measuring(
                self.scenario, self.roster, self._target, engine, crowd, joining, decoding, self.ending
            )
            await self._with_clients(measuring)

    def _close_decoding(self, decoding: Decoding) -> None:
        decoding.stop()
        self.seen.notes += decoding.notes()

    def _note_crowd(self, crowd: Crowd, joining: Joining) -> None:
        """What is known of joins and faults when everybody has left."""
        seen, (first, seconds) = self.seen, self._first
        first = min(first, crowd.done)  # a join that never got media turned out to be none
        seen.joins = Joins(crowd.attempted, crowd.done, crowd.failed, first, seconds, crowd.steps)
        seen.groups, seen.faults = crowd.groups, crowd.faults()
        seen.notes += joining.notes

    async def _everybody_out(self, crowd: Crowd) -> None:
        self._enter("leaving")
        crowd.note_all_steps()
        seconds = LEAVING + LEAVING_EACH * crowd.sessions
        await self._until_done(crowd.everybody_out(self.roster.everybody), seconds)

    async def _until_done(self, work: Awaitable[None], seconds: float) -> None:
        """Let something finish, but not for ever."""
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            self.seen.notes.append(f"not everybody had left after {seconds:.0f} s")
        except Exception as error:  # the rest is closed all the same, and what was measured is reported
            self.seen.notes.append(f"leaving failed: {type(error).__name__}: {error}")

    async def _with_clients(self, measuring: Measuring) -> None:
        crowd = measuring.crowd
        self.seen.empty, self.seen.series = self._target.usage(), measuring.sampler.series
        self._enter("joining")
        sampling = asyncio.create_task(measuring.watch.keep(self._show))
        try:
            await self._join_first(measuring)
            if crowd.done and not self.ending.due:
                await self._pause_and_measure(measuring)
            elif not crowd.done and not self.ending.interrupted:
                self.ending.break_off("nobody could join")
        finally:
            sampling.cancel()
            (failure,) = await asyncio.gather(sampling, return_exceptions=True)
            if isinstance(failure, Exception):
                self.seen.notes.append(f"the look at the counters failed: {type(failure).__name__}: {failure}")

    async def _join_first(self, measuring: Measuring) -> None:
        try:
            await measuring.join()
        finally:
            self._first = measuring.crowd.done, measuring.joining.seconds
            self.seen.joining, self.seen.scheduling = measuring.joins, measuring.engine.scheduling

    async def _pause_and_measure(self, measuring: Measuring) -> None:
        await self.ending.pause(SETTLE)
        if not self.ending.due:
            self._enter("measuring", self.scenario.duration)
            await measuring.measure()
            self.seen.window = measuring.window

    def _capture_time(self, engine: ClientEngine, number: int) -> int:
        """When the only publisher captured the frame with this number, ns; 0 when there are several."""
        if len(self.roster.publishers) != 1:
            return 0
        for session in self.roster.publishers[0].sessions:
            for source in engine.sources_of(session.index) if session.index else ():
                if int(source.kind) == VIDEO:
                    return engine.captured(source, number)
        return 0

    def _enter(self, phase: str, seconds: float | None = None) -> None:
        """A phase of the run begins, which takes so long, if anybody knows."""
        self._phase, self._phase_begun, self._length = phase, time.monotonic(), seconds
        self._show({})

    def _show(self, figures: Figures) -> None:
        self.options.progress(figures, self._phase, time.monotonic() - self._phase_begun, self._length)
