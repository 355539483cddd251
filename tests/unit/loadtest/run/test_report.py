"""The verdict and the notes of a run, from what it has seen."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from loadtest.engine.totals import Totals
from loadtest.results.schema import from_json, to_json
from loadtest.run.figures import Attendance, Moment
from loadtest.run.report import Joins, Seen, Window, results_of
from loadtest.run.steps import Step
from loadtest.run.target import Usage
from loadtest.run.tool import Cores, Mark
from tests.unit.loadtest.run.scenarios import scenario_of

MARK = Mark(at=0, cpu=0, engine=0, drops=0, held_lost=0, events_lost=0, captures_lost=0)
SCENARIO = scenario_of("report", "http://127.0.0.1:1", expect={"joins.failed": "== 0"})
STEPS = [Step(1, 2, 3, 10, 40), Step(1, 2, 3, 10, None)]


def seen(late: float = 0.0, **counts: int) -> Seen:
    before = Moment(10.0, {1: Totals(packets=100)}, MARK, None, 3)
    after = Moment(20.0, {1: Totals(packets=600, **counts)}, replace(MARK, at=10), None, 3)
    attendance = Attendance(before, {1})
    attendance.add(after)
    window = Window(before, after, attendance, late, {"decode.frames": 7})
    return Seen("2025-01-01T00:00:00+00:00", Joins(4, 4, 0, 4, 2.0, STEPS), ["hosts", "audience"], window=window)


def test_a_run_that_held_everything_has_passed() -> None:
    found = results_of(SCENARIO, "weir loadtest", seen())
    assert found.verdict == "passed" and not found.notes and not found.broken_off
    assert found.figures["packets.rate"] == 50 and found.figures["decode.frames"] == 7
    assert found.groups["audience"]["packets.received"] == 500 and found.groups["hosts"]["packets.received"] == 0
    assert sum(found.distributions["join.frame"].counts) == 1 and found.repetitions == [found.figures]
    assert from_json(to_json(found)) == found


def test_averages_are_of_streams_that_were_there_and_of_joins_at_the_start() -> None:
    """Nobody had a stream at first and two at the end: ten seconds of one."""
    run = seen(frames=250, videos=2, clients=2, video_octets=1_250_000)
    found = results_of(SCENARIO, "", replace(run, joins=Joins(90, 84, 6, 4, 2.0)))
    assert found.figures["joins.rate"] == 2 and found.figures["joins.done"] == 84
    for figures in (found.figures, found.groups["audience"]):
        assert figures["frames.rate"] == 25 and figures["bitrate.video"] == 1000 and figures["bitrate.audio"] == 0
    assert found.groups["hosts"]["frames.rate"] is None and found.groups["hosts"]["bitrate.video"] is None


def test_packets_that_are_not_what_was_sent_fail_whatever_was_expected() -> None:
    found = results_of(SCENARIO, "", seen(wrong=2))
    assert found.verdict == "failed" and found.figures["packets.wrong"] == 2
    assert found.notes == ["2 packets were not byte for byte what was sent"]


def test_packets_that_could_not_be_opened_are_told() -> None:
    found = results_of(SCENARIO, "", seen(refused=1, garbage=2, excess=3))
    assert found.verdict == "passed" and found.figures["packets.refused"] == 6
    assert found.notes == ["6 packets could not be opened or belong to no stream"]


@pytest.mark.parametrize(
    ("late", "changes", "verdict"),
    [
        (0.0, {"broken_off": "gone"}, "failed"),
        (0.0, {"joins": Joins(4, 3, 1)}, "failed"),
        (99.0, {"joins": Joins(4, 3, 1)}, "no verdict"),
        (99.0, {"interrupted": True}, "interrupted"),
        (0.0, {"interrupted": True, "broken_off": "gone"}, "interrupted"),
    ],
)
def test_the_verdict(late: float, changes: dict[str, Any], verdict: str) -> None:
    assert results_of(SCENARIO, "", replace(seen(late), **changes)).verdict == verdict


@pytest.mark.parametrize(
    ("expect", "verdict"),
    [
        ({"joins.rate": ">= 1"}, "no verdict"),
        ({"joins.failed": "== 0"}, "passed"),
        ({"join.frame.p95": "<= 1000 ms"}, "no verdict"),
        ({"packets.rate": "> 1"}, "passed"),
    ],
)
def test_a_tool_that_held_joins_up_can_t_judge_them(expect: dict[str, str], verdict: str) -> None:
    scenario = SCENARIO.model_copy(update={"expect": expect})
    found = results_of(scenario, "", replace(seen(), joining=(MARK, replace(MARK, at=4, control=4))))
    note = "no verdict: the load test's thread for joins used 100% of its core while clients joined"
    assert found.verdict == verdict and found.notes == ([note] if verdict == "no verdict" else [])


@pytest.mark.parametrize(("joins", "verdict"), [(5.0, "no verdict"), (0.0, "passed")])
def test_a_tool_that_held_up_joins_of_churn_can_t_judge_them(joins: float, verdict: str) -> None:
    run = seen()
    assert run.window
    after = replace(run.window.after, tool=replace(run.window.after.tool, control=9.5))
    churn = SCENARIO.churn.model_copy(update={"joins": joins})
    scenario = SCENARIO.model_copy(update={"churn": churn, "expect": {"joins.rate": ">= 1"}})
    found = results_of(scenario, "", replace(run, window=replace(run.window, after=after)))
    assert found.verdict == verdict


def beside(cores: Cores, target: float, busy: float) -> Seen:
    """Ten seconds in which the tool used 4 s of CPU, the target and the whole machine so much."""
    run = seen()
    assert run.window
    before = replace(run.window.before, target=Usage(10, 1, 1, 1))
    after = replace(run.window.after, target=Usage(20, 1 + target, 1, 1))
    after = replace(after, tool=replace(after.tool, cpu=4, busy=busy))
    return replace(run, window=replace(run.window, before=before, after=after, cores=cores))


def test_a_tool_that_shared_full_cores_with_the_target_can_t_judge() -> None:
    found = results_of(SCENARIO, "", beside(Cores({0}, {0}), 6, 10))
    assert found.verdict == "no verdict"
    assert found.notes == ["no verdict: the load test and the target used 1.0 of the 1 cores that they share"]
    assert results_of(SCENARIO, "", beside(Cores({0}, {1}), 6, 10)).verdict == "passed"


def test_other_processes_are_told_and_change_no_verdict() -> None:
    found = results_of(SCENARIO, "", beside(Cores({0}, {1}), 6, 10 + 5 * (os.cpu_count() or 1)))
    assert found.verdict == "passed" and found.notes == ["other processes took 50% of the machine"]


def test_the_machine_says_how_the_engine_s_thread_was_run() -> None:
    found = results_of(SCENARIO, "", replace(seen(), scheduling="real-time"))
    assert found.machine["engine thread"] == "real-time" and from_json(to_json(found)) == found
    assert "engine thread" not in results_of(SCENARIO, "", seen()).machine


def test_a_run_that_came_nowhere_has_results_all_the_same() -> None:
    found = results_of(SCENARIO, "", Seen("2025-01-01T00:00:00+00:00", broken_off="nobody takes connections"))
    assert found.verdict == "failed" and found.broken_off and found.figures == {} and found.groups == {}
    assert found.expect[0].value is None and from_json(to_json(found)) == found
