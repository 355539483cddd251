"""The search for the limit: which sizes are tried, what ends it, and what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtest.results.knee import knee
from loadtest.results.schema import Expectation, Results, Search, Verdict
from loadtest.run.limit import MOST_STEPS, LimitSearch, Vary, describe, resized, size_of
from loadtest.scenario.schema import Scenario
from tests.unit.loadtest.results.sample import sample
from tests.unit.loadtest.run.scenarios import scenario_of

BROKEN = Expectation(figure="latency.p99", limit="<= 50 ms", value=80.0, held=False)


def scenario(**keys: Any) -> Scenario:
    return scenario_of("limit", "http://127.0.0.1:1", **({"expect": {"latency.p99": "<= 50 ms"}} | keys))


class Target:
    """Holds up to `capacity` of what is varied; the load test itself is in the way from `blocked` on."""

    def __init__(self, capacity: int, blocked: int = 10**9, vary: Vary = "subscribers", **changes: Any) -> None:
        self.capacity, self.blocked, self.vary, self.changes = capacity, blocked, vary, changes
        self.tried: list[int] = []
        self.told: list[str] = []
        self.chance: list[int] = []  # sizes that break once though they would hold

    async def run(self, scenario: Scenario) -> Results:
        size = size_of(scenario, self.vary)
        self.tried.append(size)
        if size >= self.blocked:
            return self.result("no verdict", notes=["no verdict: it was busy"])
        if size in self.chance:
            self.chance.remove(size)
            return self.result("failed", expect=[BROKEN])
        return self.result("passed") if size <= self.capacity else self.result("failed", expect=[BROKEN])

    def result(self, verdict: Verdict, **changes: Any) -> Results:
        base: dict[str, Any] = {"verdict": verdict, "notes": [], "expect": []}
        return replace(sample(), **(base | changes | (self.changes if verdict == "failed" else {})))

    async def search(self, most: int = 20_000, **keys: Any) -> Search:
        found = await LimitSearch(scenario(**keys), self.vary, most, self.run, self.told.append).search()
        assert found.search is not None
        return found.search


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 50, 137])
async def test_the_knee_is_found_within_a_twentieth(capacity: int) -> None:
    target = Target(capacity)
    found = await target.search()
    assert found.held is not None and found.broke is not None
    assert found.held <= capacity < found.broke and found.broke - found.held <= max(1, found.held // 20)
    assert len(target.tried) == len(found.steps) == len(target.told) <= MOST_STEPS + 1
    assert found.first == [BROKEN] and found.why == ""
    assert f"{found.held} subscribers kept all limits; {found.broke} did not: latency.p99 <= 50 ms was 80" in knee(
        found
    )


async def test_a_size_that_breaks_by_chance_is_tried_again() -> None:
    target = Target(3)
    target.chance = [3]
    found = await target.search()
    assert target.tried == [3, 3, 4, 4] and (found.held, found.broke) == (3, 4)


async def test_nothing_holds() -> None:
    found = await Target(0).search()
    assert found.held is None and found.broke == 1
    assert knee(found).startswith("no size of subscribers that was tried kept the limits; 1 did not")


async def test_the_search_goes_no_further_than_told() -> None:
    target = Target(10**6)
    found = await target.search(most=5)
    assert target.tried == [3, 4, 5] and found.held == 5 and found.broke is None
    assert knee(found).endswith("(the search goes no further than 5 subscribers)")
    assert (await Target(10**6).search(most=2)).steps[0].value == 2


async def test_where_the_load_test_is_in_the_way_the_search_ends() -> None:
    target = Target(10**6, blocked=9)
    found = await target.search()
    assert found.held is not None and found.held < 9 and found.blocked == 9 and found.broke is None
    assert "the load test itself was in the way at 9" in found.why
    assert target.told[-1].endswith("no verdict, no verdict: it was busy")


async def test_why_a_run_was_broken_off_is_told() -> None:
    target = Target(5, broken_off="the target's process is gone", expect=[])
    found = await target.search()
    assert found.why == "the run was broken off: the target's process is gone"
    assert any(line == f"6 subscribers: failed, {found.why}" for line in target.told)


async def test_an_interrupted_run_ends_the_search() -> None:
    target = Target(5)

    async def interrupted(scenario: Scenario) -> Results:
        return target.result("interrupted")

    found = (await LimitSearch(scenario(), "subscribers", 99, interrupted, target.told.append).search()).search
    assert found and found.why == "interrupted" and len(found.steps) == 1


async def test_an_interrupted_search_has_not_passed_though_a_size_held() -> None:
    target = Target(5)

    async def interrupted_later(scenario: Scenario) -> Results:
        return await target.run(scenario) if len(target.tried) < 2 else target.result("interrupted")

    results = await LimitSearch(scenario(), "subscribers", 99, interrupted_later, target.told.append).search()
    assert results.verdict == "interrupted" and results.search
    assert results.search.held == 4 and results.search.why == "interrupted"


@pytest.mark.parametrize("error", [ValueError("it needs 9 open files"), OSError("it needs 9 open files")])
async def test_a_size_that_cannot_be_run_here_ends_the_search_and_loses_nothing(error: Exception) -> None:
    target = Target(10**6)

    async def run(scenario: Scenario) -> Results:
        if size_of(scenario, "subscribers") > 4:
            raise error
        return await target.run(scenario)

    results = await LimitSearch(scenario(), "subscribers", 99, run, target.told.append).search()
    found = results.search
    assert found and results.verdict == "passed" and (found.held, found.blocked, found.broke) == (4, 6, None)
    assert found.why == "6 subscribers can't be run here: it needs 9 open files"
    assert [step.verdict for step in found.steps] == ["passed", "passed", "no verdict"]
    assert target.told[-1] == found.why.replace(" can't", ": can't", 1)


async def test_a_first_size_that_cannot_be_run_here_is_bad_input() -> None:
    async def run(scenario: Scenario) -> Results:
        raise ValueError("it needs 9 open files")

    with pytest.raises(ValueError, match="open files"):
        await LimitSearch(scenario(), "subscribers", 99, run, print).search()


async def test_below_a_size_that_cannot_be_run_here_smaller_ones_are_tried() -> None:
    target = Target(4, blocked=12)

    async def run(scenario: Scenario) -> Results:
        if size_of(scenario, "subscribers") == 6:
            raise ValueError("not this one")
        return await target.run(scenario)

    found = (
        await LimitSearch(scenario(subscribers=[{"name": "a", "count": 12}]), "subscribers", 99, run, print).search()
    ).search
    assert found and found.steps[1].value == 6 and (found.held, found.broke, found.blocked) == (4, 5, 6)
    assert "not this one" in found.why


def test_a_search_needs_something_that_can_break_and_something_to_vary() -> None:
    run, tell = Target(1).run, print
    with pytest.raises(ValueError, match="no expect"):
        LimitSearch(scenario(expect={}), "subscribers", 9, run, tell)
    with pytest.raises(ValueError, match="no subscribers"):
        LimitSearch(scenario(subscribers=[]), "subscribers", 9, run, tell)


def test_groups_keep_their_proportions_and_none_is_empty() -> None:
    groups = [{"name": "a", "count": 60}, {"name": "b", "count": 20}, {"name": "c", "count": 1}]
    made = resized(scenario(subscribers=groups), "subscribers", 30)
    assert [group.count for group in made.subscribers] == [30, 10, 1] and size_of(made, "subscribers") == 30
    assert [group.count for group in resized(scenario(), "publishers", 4).publishers] == [4]
    assert resized(scenario(), "rooms", 7).rooms == 7 and size_of(resized(scenario(), "rooms", 7), "rooms") == 7


def test_a_step_is_told_in_a_line() -> None:
    results = replace(sample(), verdict="failed", expect=[BROKEN], notes=["other"], broken_off="it is gone")
    told = "failed, latency.p99 <= 50 ms is 80.0, the run was broken off: it is gone"
    assert describe(results) == told
