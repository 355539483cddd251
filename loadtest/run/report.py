"""From what a run has seen to its results: figures, verdict, and what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.engine.totals import Totals, sum_of
from loadtest.measure import machine
from loadtest.results.distribution import Histogram
from loadtest.results.schema import Distribution, Expectation, Fault, Results, Verdict
from loadtest.results.schema import Scenario as RanScenario
from loadtest.results.schema import Target as RanTarget
from loadtest.run.figures import (
    Attendance,
    Figures,
    Moment,
    Stay,
    join_figures,
    media_figures,
    ratio,
    target_figures,
    tool_figures,
)
from loadtest.run.steps import Step
from loadtest.run.target import Usage
from loadtest.run.tool import Cores, Mark, asides, bottlenecks, crowded, held_up_joins, others, slow_control
from loadtest.scenario.expect import evaluate, figure_of
from loadtest.scenario.load import as_text
from loadtest.scenario.schema import Scenario

DOUBTS = {
    "packets.wrong": "{:.0f} packets were not byte for byte what was sent",
    "packets.refused": "{:.0f} packets could not be opened or belong to no stream",
}


@dataclass(frozen=True)
class Window:
    """What is measured: all that is counted at the beginning and the end of the scenario's duration."""

    before: Moment
    after: Moment
    attendance: Attendance  # who was there meanwhile, and how long
    late: float  # ms: how late publishers' packets left at most
    decoding: Figures
    cores: Cores = Cores()


@dataclass
class Joins:
    """The joins of a run; of those done, how many were at the start, and how many seconds these took in all."""

    attempted: int = 0
    done: int = 0
    failed: int = 0
    first: int = 0
    seconds: float = 0.0
    steps: Sequence[Step] = ()


@dataclass
class Seen:
    """What a run has seen until its end, however early that was."""

    started: str  # ISO 8601
    joins: Joins | None = None  # None: nobody tried
    groups: Sequence[str] = ()
    empty: Usage | None = None  # what the target used before anybody joined
    window: Window | None = None
    series: dict[str, list[float | None]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    broken_off: str = ""
    duration: float = 0.0  # s
    pid: int | None = None
    joining: tuple[Mark, Mark] | None = None  # the tool before and after the joins at the start
    scheduling: str = ""  # of the engine's thread


def results_of(scenario: Scenario, command: str, seen: Seen) -> Results:
    """All of it."""
    figures, groups = figures_of(seen)
    expect = evaluate(scenario.expect, figures, groups)
    in_the_way = obstacles(seen, scenario)
    return Results(
        scenario=RanScenario(name=scenario.name, text=as_text(scenario), seed=scenario.seed),
        target=RanTarget(url=scenario.target.url, driver=scenario.target.driver, pid=seen.pid),
        machine={**machine(), **({"engine thread": seen.scheduling} if seen.scheduling else {})},
        command=command,
        started=seen.started,
        duration=round(seen.duration, 3),
        verdict=verdict_of(seen, figures, expect, in_the_way),
        broken_off=seen.broken_off,
        notes=[*seen.notes, *(f"no verdict: {what}" for what in in_the_way), *doubts(figures), *asides_of(seen)],
        figures=figures,
        groups=groups,
        expect=expect,
        distributions=distributions_of(seen),
        series=seen.series,
        faults=seen.faults,
        repetitions=[figures],
    )


def verdict_of(seen: Seen, figures: Figures, expect: Sequence[Expectation], in_the_way: Sequence[str]) -> Verdict:
    """A tool that was in the way can't judge; a packet that is not what was sent fails whatever was expected."""
    if seen.interrupted:
        return "interrupted"
    if in_the_way:
        return "no verdict"
    sound = not seen.broken_off and not figures.get("packets.wrong")
    return "passed" if sound and all(item.held for item in expect) else "failed"


def doubts(figures: Figures) -> list[str]:
    """What a reader must know of packets that were not as they should be."""
    return [text.format(value) for name, text in DOUBTS.items() if (value := figures.get(name))]


def obstacles(seen: Seen, scenario: Scenario) -> list[str]:
    """In what ways the tool itself was in the way of what is expected."""
    window = seen.window
    joins = expects_joins(scenario)
    found = held_up_joins(*seen.joining) if seen.joining and joins else []
    if window is None:
        return found
    before, after = window.before, window.after
    found += bottlenecks(before.tool, after.tool, window.late)
    if joins and scenario.churn.joins:
        found += slow_control(before.tool, after.tool)
    if before.target and after.target and after.at > before.at:
        seconds = after.at - before.at
        tool, target = after.tool.cpu - before.tool.cpu, after.target.cpu - before.target.cpu
        found += crowded(tool / seconds, target / seconds, window.cores)
    return found


def expects_joins(scenario: Scenario) -> bool:
    """Whether a limit is on how long joins took, which is the tool's own time when it was full."""
    figures = [figure_of(name)[1] for name in scenario.expect]
    return any(name.startswith("join.") or name == "joins.rate" for name in figures)


def asides_of(seen: Seen) -> list[str]:
    """What else of the tool and the machine a reader must know."""
    if seen.window is None:
        return []
    before, after = seen.window.before, seen.window.after
    found = asides(before.tool, after.tool)
    if before.target and after.target:  # else the target would be one of the others
        found += others(before.tool, after.tool, after.target.cpu - before.target.cpu)
    return found


def figures_of(seen: Seen) -> tuple[Figures, dict[str, Figures]]:
    """All figures, and those of each group."""
    figures: Figures = {}
    if seen.joins:
        joins = seen.joins
        figures = join_figures(
            joins.attempted, joins.done, joins.failed, ratio(joins.first, joins.seconds), joins.steps
        )
    if seen.window is None:
        return figures, {}
    window = seen.window
    before, after = window.before, window.after
    seconds = after.at - before.at
    figures |= media_figures(counted(before, after), seconds, window.attendance.all)
    figures |= target_figures(before, after, seen.empty) | tool_figures(before, after, window.late) | window.decoding
    groups = {
        name: media_figures(counted(before, after, number), seconds, window.attendance.groups.get(number, Stay()))
        for number, name in enumerate(seen.groups)
    }
    return figures, groups


def counted(before: Moment, after: Moment, group: int | None = None) -> Totals:
    """What was counted between two moments, of one group or of all."""
    if group is None:
        return sum_of(after.totals).since(sum_of(before.totals))
    return after.totals.get(group, Totals()).since(before.totals.get(group, Totals()))


def distributions_of(seen: Seen) -> dict[str, Distribution]:
    """Of joins to the first frame, and of the latency."""
    found: dict[str, Distribution] = {}
    frames = Histogram()
    for step in seen.joins.steps if seen.joins else ():
        if step.frame is not None:
            frames.record(step.frame * 1e6)
    if frames.total:
        found["join.frame"] = frames.distribution()
    if seen.window:
        latency = counted(seen.window.before, seen.window.after).latency
        found["latency"] = Histogram(latency).distribution()
    return found
