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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from loadtest.drivers.make import make_driver
from loadtest.engine.engine import ClientEngine
from loadtest.engine.totals import Totals, sum_of
from loadtest.measure import machine
from loadtest.results.distribution import Histogram
from loadtest.results.schema import Distribution, Results
from loadtest.results.schema import Scenario as RanScenario
from loadtest.results.schema import Target as RanTarget
from loadtest.run.crowd import Crowd
from loadtest.run.decoding import Decoding
from loadtest.run.events import Events
from loadtest.run.figures import Figures, Moment, join_figures, media_figures, target_figures, tool_figures
from loadtest.run.people import Person, Roster, Session
from loadtest.run.reels import Reels
from loadtest.run.sampler import Sampler
from loadtest.run.target import Target, TargetError, Usage
from loadtest.run.tool import Tool, allow_sockets, asides, bottlenecks
from loadtest.scenario.expect import evaluate
from loadtest.scenario.load import as_text
from loadtest.scenario.schema import Scenario
from loadtest.transport.addresses import host_towards

SETTLE = 1.0  # seconds between the last join and the beginning of what is measured
SAMPLE = 1.0  # seconds between points
STALLED = 10.0  # seconds without a packet for anybody, after which going on is of no use
SILENT = 3.0  # seconds without media at the end that are worth a note
NEVER = "joined, but no media came"  # of a join that is done when media comes
LOST_JOINS = 20  # joins that fail one after another before the rest is given up, at least
HELD_A_CLIENT = 64  # datagrams of a client with a bad network that may wait in the delay queue
MEMORY_SETTLES = 6.0  # seconds after which a server needs no handshake state any more

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
        self.notes: list[str] = []
        self.interrupted = False
        self._ending = asyncio.Event()
        self._broken_off = ""  # why the run ended before its time
        self._target = Target(scenario.target, options.target_cores, options.allow_remote)
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._begun = time.monotonic()
        self._joining = 0.0  # seconds that the joins took
        self._empty: Usage | None = None
        self._window: tuple[Moment, Moment] | None = None
        self._watching: dict[str, int] = {}  # by group, sessions that received at the end
        self._late = 0.0
        self._faults: list[tuple[Person, str]] = []

    def stop(self) -> None:
        """End in order as soon as may be: Ctrl-C."""
        self.interrupted = True
        self._ending.set()

    async def go(self) -> Results:
        """Everything. ValueError for a scenario that can't be run here; a target's faults are in the results."""
        if self.options.cores:
            os.sched_setaffinity(0, self.options.cores)
        self._tell("preparing", 0, None)
        self.reels = Reels(self.scenario)
        await asyncio.to_thread(self.reels.prepare)
        self.roster = Roster(self.scenario)
        sessions = self.scenario.sessions()
        room_for_churn = self._room_for_churn()
        allow_sockets(sessions + room_for_churn)
        impaired = sum(self.scenario.size_of(group) for group in self.scenario.groups().values() if group.network)
        self.engine = ClientEngine(
            sessions + room_for_churn,
            max(len(self.roster.publishers), 1) + 8,
            held=max(1024, min(HELD_A_CLIENT * impaired * 4, 262_144)),
        )
        try:
            await asyncio.to_thread(self.engine.compile)
            await self._with_target()
        finally:
            self.engine.stop()
            with contextlib.suppress(ProcessLookupError):
                await self._target.stop()
        return self._results()

    def _room_for_churn(self) -> int:
        """Sessions of those who may come while the run lasts: chance is allowed more than the mean."""
        people = 1.2 * self.scenario.churn.joins * self.scenario.duration
        return 64 + int(people * max((len(person.watches) for person in self.roster.subscribers), default=0))

    async def _with_target(self) -> None:
        try:
            await self._target.start()
        except TargetError as error:
            self._broken_off = str(error)
            return
        host = await asyncio.to_thread(self._own_address)
        driver = make_driver(self.scenario.target, self.options.allow_remote, self.scenario.joins.timeout)
        self.crowd = Crowd(self.scenario, driver, self.engine, self.reels, host, self.options.allow_remote)
        self.tool = Tool(self.engine)
        self.decoding = Decoding(self.engine.captures, self._capture_time)
        self.engine.start()
        self.decoding.start()
        try:
            await self._with_clients()
        finally:
            self.crowd.note_all_steps()
            await self._until_done(self.crowd.everybody_out(self.roster.everybody), 15.0)
            self.crowd.close()
            await driver.close()
            self.decoding.stop()

    def _own_address(self) -> str:
        """Our address towards the target's: where sockets are bound."""
        import socket

        parts = urlsplit(self.scenario.target.url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)
        return host_towards(str(found[0][4][0]))

    async def _with_clients(self) -> None:
        self._empty = self._target.usage()
        self._sampler = Sampler(self._moment, self.tool.late_ms)
        sampling = asyncio.create_task(self._sample())
        try:
            await self._join_all(self.roster.everybody)
            if self.crowd.done and not self._ending.is_set():
                await self._measure()
            elif not self.crowd.done and not self.interrupted:
                self._break_off("nobody could join")
        finally:
            sampling.cancel()
            (failure,) = await asyncio.gather(sampling, return_exceptions=True)
            if isinstance(failure, Exception):
                self.notes.append(f"the look at the counters failed: {type(failure).__name__}: {failure}")

    async def _join_all(self, people: Sequence[Person]) -> None:
        """Everybody in, at the scenario's pace, each group not before its time.

        Nobody begins to watch while somebody is about to publish: a server may know only publishers that are there.
        """
        begun = time.monotonic()
        tasks = set[asyncio.Task[None]]()
        try:
            await self._begin_joins(people, tasks)
            if tasks:
                await self._unless_ending(asyncio.wait(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._joining += time.monotonic() - begun

    async def _begin_joins(self, people: Sequence[Person], tasks: set[asyncio.Task[None]]) -> None:
        """Begin the joins one after another; those under way are in `tasks`."""
        joins, loop = self.scenario.joins, asyncio.get_running_loop()
        gate, publishing = asyncio.Semaphore(joins.parallel), set[asyncio.Task[None]]()
        failed_in_a_row = 0

        async def one(person: Person) -> None:
            nonlocal failed_in_a_row
            try:
                failed_in_a_row = 0 if await self.crowd.join(person) else failed_in_a_row + 1
            finally:
                gate.release()

        due = begun = loop.time()
        for person in sorted(people, key=lambda person: person.group.start):
            due = max(due, loop.time() - 1.0, begun + person.group.start)
            await self._pause(due - loop.time())
            if not person.publishes and publishing:
                await self._unless_ending(asyncio.wait(publishing))
            due += max(len(person.watches), 1) / joins.rate
            if self._ending.is_set() or not await self._unless_ending(gate.acquire()):
                break
            if failed_in_a_row >= max(LOST_JOINS, 2 * joins.parallel):
                self.notes.append(f"{failed_in_a_row} joins failed one after another; the others were not tried")
                break
            task = asyncio.create_task(one(person))
            for those in (tasks, publishing) if person.publishes else (tasks,):
                those.add(task)
                task.add_done_callback(those.discard)

    async def _unless_ending(self, work: Coroutine[Any, Any, object]) -> bool:
        """Whether something was done before the run is to end; else it is given up."""
        task, ending = asyncio.create_task(work), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
            return task.done()
        finally:
            task.cancel()
            ending.cancel()

    async def _measure(self) -> None:
        """The scenario's duration, with all its events."""
        events = Events(self.scenario, self.roster, self.crowd, self._target, self._join_all)
        await self._pause(SETTLE)
        self.engine.forget_maxima()
        self.tool.forget_lateness()
        before = self._moment()
        events.start()
        try:
            await self._pause(self.scenario.duration)
        finally:
            after = self._moment()
            self._late = self.tool.late_ms()
            self._window = before, after
            self._watching = {name: self._watching_of(name) for name in self.crowd.groups}
            await events.stop()
            self.notes += events.notes
            self._note_silence()

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the run is to end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)

    async def _sample(self) -> None:
        """A point a second; ends the run when the target is dead or nothing comes, or comes any more."""
        received, moved = 0, time.monotonic()
        restarts = any(action.do == "restart-target" for action in self.scenario.actions)
        quiet = restarts or any(action.do == "mute" for action in self.scenario.actions)
        while True:
            await asyncio.sleep(SAMPLE)
            figures = self._sampler.look(self.crowd.done)
            elapsed = time.monotonic() - self._begun
            self._tell("measuring" if self._joining else "joining", elapsed, None, figures)
            total = sum_of(self.engine.totals()).packets
            if total != received or not self.crowd.watching:
                received, moved = total, time.monotonic()
            if (why := self._target.dead) and not restarts:
                self._break_off(f"{why}: {self._target.tail()}".rstrip(": "))
            elif time.monotonic() - moved > STALLED and not quiet:
                self._break_off(f"no media came for anybody in {STALLED:g} s")

    def _break_off(self, why: str) -> None:
        if not self._broken_off:
            self._broken_off = why
        self._ending.set()

    def _note_silence(self) -> None:
        """Who was getting nothing at the end, or never did: that was no join."""
        now = time.monotonic_ns()
        for person in self.roster.subscribers:
            for session in person.sessions if person.state == "here" else ():
                if what := self._silence(session, now):
                    self.crowd.note(person, what)
                    if what == NEVER:
                        self.crowd.done, self.crowd.failed = self.crowd.done - 1, self.crowd.failed + 1

    def _silence(self, session: Session, now: int) -> str:
        if not session.index or session.ended:
            return ""
        last = int(self.engine.clients.rows[session.index].last_packet)
        if last == 0:
            return NEVER if now - session.timings.secured > SETTLE * 1e9 else ""
        if why := self._target.dead:
            return f"no media any more: {why}"
        return f"no media in the last {SILENT:g} s" if now - last > SILENT * 1e9 else ""

    def _moment(self) -> Moment:
        totals, usage = self.engine.totals(), self._target.usage()
        return Moment(time.monotonic(), totals, self.tool.mark(), usage, self.crowd.watching)

    def _watching_of(self, group: str) -> int:
        """Sessions of a group that receive now."""
        return sum(len(person.watches) for person in self.roster.by_group(group) if person.state == "here")

    def _capture_time(self, client: int, number: int) -> int:
        """When the only publisher captured the frame with this number, ns; 0 when there are several."""
        if len(self.roster.publishers) != 1:
            return 0
        for session in self.roster.publishers[0].sessions:
            for source in self.engine.sources_of(session.index) if session.index else ():
                if int(source.kind) == 1:
                    return self.engine.captured(source, number)
        return 0

    def _tell(self, phase: str, elapsed: float, total: float | None, figures: Figures | None = None) -> None:
        self.options.progress(figures or {}, phase, elapsed, total)

    async def _until_done(self, work: Awaitable[None], seconds: float) -> None:
        """Let something finish, but not for ever."""
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            self.notes.append(f"not everybody had left after {seconds:g} s")

    def _results(self) -> Results:
        figures, groups, distributions = self._figures()
        expect = evaluate(self.scenario.expect, figures, groups)
        notes, verdict = list(self.notes), "passed"
        if self._window:
            in_the_way = bottlenecks(self._window[0].tool, self._window[1].tool, self._late)
            notes += [f"no verdict: {what}" for what in in_the_way]
            notes += asides(self._window[0].tool, self._window[1].tool)
            verdict = "no verdict" if in_the_way else verdict
        if self._broken_off:
            notes.insert(0, f"the run was broken off: {self._broken_off}")
        if verdict == "passed" and (self._broken_off or any(not item.held for item in expect)):
            verdict = "failed"
        if self.interrupted:
            verdict = "interrupted"
        crowd = getattr(self, "crowd", None)
        sampler = getattr(self, "_sampler", None)
        return Results(
            scenario=RanScenario(name=self.scenario.name, text=as_text(self.scenario), seed=self.scenario.seed),
            target=RanTarget(url=self.scenario.target.url, driver=self.scenario.target.driver, pid=self._target.pid),
            machine=dict(machine()),
            command=self.options.command,
            started=self._started,
            duration=round(time.monotonic() - self._begun, 3),
            verdict=verdict,  # type: ignore[arg-type]
            notes=notes,
            figures=figures,
            groups=groups,
            expect=expect,
            distributions=distributions,
            series=sampler.series if sampler else {},
            faults=crowd.faults() if crowd else [],
            repetitions=[figures],
        )

    def _figures(self) -> tuple[Figures, dict[str, Figures], dict[str, Distribution]]:
        """All figures, those of each group, and the distributions."""
        crowd = getattr(self, "crowd", None)
        if crowd is None:
            return {}, {}, {}
        figures = join_figures(crowd.attempted, crowd.done, crowd.failed, self._joining, crowd.steps)
        distributions: dict[str, Distribution] = {}
        frames = Histogram()
        for step in crowd.steps:
            if step.frame is not None:
                frames.record(step.frame * 1e6)
        if frames.total:
            distributions["join.frame"] = frames.distribution()
        groups: dict[str, Figures] = {}
        if self._window:
            before, after = self._window
            seconds = after.at - before.at
            new = sum_of(after.totals).since(sum_of(before.totals))
            figures |= media_figures(new, seconds, after.sessions)
            figures |= target_figures(before, after, self._empty) | tool_figures(before, after, self._late)
            figures |= self._decode_figures()
            distributions["latency"] = Histogram(new.latency).distribution()
            for number, name in enumerate(crowd.groups):
                part = after.totals.get(number, Totals()).since(before.totals.get(number, Totals()))
                groups[name] = media_figures(part, seconds, self._watching.get(name, 0))
        return figures, groups, distributions

    def _decode_figures(self) -> Figures:
        counts, latency = self.decoding.counts(), self.decoding.latency
        if not counts["clients"]:
            return {}
        found: Figures = {f"decode.{name}": count for name, count in counts.items()}
        return found | {"decode.latency.p50": latency.quantile(0.5), "decode.latency.p95": latency.quantile(0.95)}


async def run_scenario(scenario: Scenario, options: Options | None = None) -> Results:
    """Run a scenario once. ValueError when it can't be run here."""
    return await Run(scenario, options or Options()).go()
