"""Several runs as one result: medians, and a verdict that does not hide a run that failed for another reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.results.schema import Expectation, Fault, Results, Verdict
from loadtest.run.repeat import Runs, medians, together
from loadtest.run.runner import Options
from tests.unit.loadtest.results.sample import sample
from tests.unit.loadtest.run.scenarios import scenario_of

LIMIT = "<= 50 ms"


def result(latency: float | None, verdict: Verdict = "passed", **changes: object) -> Results:
    held = None if latency is None else latency <= 50
    expect = [Expectation(figure="latency.p99", limit=LIMIT, value=latency, held=held)]
    figures = {"latency.p99": latency, "packets.wrong": 0.0}
    base = replace(sample(), figures=figures, groups={}, expect=expect, verdict=verdict, notes=[], faults=[])
    return replace(base, **changes)  # type: ignore[arg-type]


def test_one_run_is_its_own_result() -> None:
    one = result(20)
    assert together([one]) is one


def test_figures_are_medians_over_those_that_have_them() -> None:
    assert medians([{"a": 1, "b": None}, {"a": 9, "b": 4}, {"a": 2, "c": None}]) == {"a": 2, "b": 4, "c": None}


def test_medians_are_held_against_the_limits() -> None:
    found = together([result(20), result(70, "failed"), result(30)])
    assert found.verdict == "passed" and found.expect[0].value == 30 and found.expect[0].held
    assert [figures["latency.p99"] for figures in found.repetitions] == [20, 70, 30]
    found = together([result(60, "failed"), result(70, "failed"), result(30)])
    assert found.verdict == "failed" and found.expect[0].value == 60


def test_a_run_that_was_broken_off_fails_all() -> None:
    found = together([result(20), result(20, "failed", broken_off="the target is gone"), result(20)])
    assert found.verdict == "failed" and found.broken_off == "the target is gone"


def test_wrong_packets_and_unknown_figures_fail_all() -> None:
    wrong = result(20, "failed", figures={"latency.p99": 20.0, "packets.wrong": 3.0})
    assert together([result(20), wrong, result(20)]).verdict == "failed"
    assert together([result(20), result(None, "failed"), result(20)]).verdict == "failed"


@pytest.mark.parametrize("verdict", ["no verdict", "interrupted"])
def test_the_worst_verdict_stays(verdict: Verdict) -> None:
    assert together([result(20), result(70, "failed"), result(20, verdict)]).verdict == verdict


def test_notes_are_told_once_and_faults_all() -> None:
    fault = Fault(client="a", group="g", room="r", what="gone")
    found = together([result(1, notes=["x"], faults=[fault]), result(2, notes=["y", "x"], faults=[fault])])
    assert found.notes == ["x", "y"] and len(found.faults) == 2


async def test_when_stopped_no_other_run_begins() -> None:
    runs = Runs(Options(command="test"))
    runs.stop()
    a, b = scenario_of("a", "http://127.0.0.1:1"), scenario_of("b", "http://127.0.0.1:1")
    found = await runs.in_turn([a, b], 3)
    assert [[results.verdict for results in side] for side in found] == [["interrupted"], []]
