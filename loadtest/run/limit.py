"""How many: the load is raised step by step until an expectation breaks, then the knee is found by halving the gap.

Each step is a run of its own. A step that breaks is run again, since a busy machine breaks a limit by chance. A step in
which the load test itself was in the way, or that can't be run here, says nothing about the target: there the search
ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Literal

from loadtest.results.schema import Results, Search, SearchStep
from loadtest.results.summary import told_broken_off
from loadtest.scenario.schema import Group, Scenario

Vary = Literal["subscribers", "publishers", "rooms"]
GROWTH = 1.5
CLOSE = 0.05  # of the knee: a gap that is not halved any more
MOST_STEPS = 24

RunOnce = Callable[[Scenario], Awaitable[Results]]
Tell = Callable[[str], None]


def size_of(scenario: Scenario, vary: Vary) -> int:
    """What is varied: clients of the largest group in each room, or rooms."""
    if vary == "rooms":
        return scenario.rooms
    groups = scenario.subscribers if vary == "subscribers" else scenario.publishers
    return max((group.count for group in groups), default=0)


def resized(scenario: Scenario, vary: Vary, value: int) -> Scenario:
    """The scenario with that size; groups keep their proportions, and no group is empty."""
    if vary == "rooms":
        return scenario.model_copy(update={"rooms": value})
    now = size_of(scenario, vary)

    def grown(group: Group) -> Group:
        return group.model_copy(update={"count": max(1, round(group.count * value / now))})

    return scenario.model_copy(update={vary: [grown(group) for group in getattr(scenario, vary)]})


class LimitSearch:
    """One search. `best` is the results of the largest size that held, or of the smallest tried.

    An interrupted one has the verdict "interrupted", whatever was found until then.
    """

    def __init__(self, scenario: Scenario, vary: Vary, most: int, run: RunOnce, tell: Tell) -> None:
        if not scenario.expect:
            raise ValueError("the scenario has no expect: nothing could break")
        if size_of(scenario, vary) == 0:
            raise ValueError(f"the scenario has no {vary}")
        self.scenario, self.vary, self.most = scenario, vary, most
        self._run, self._tell = run, tell
        self.steps: list[SearchStep] = []
        self.broke: Results | None = None  # of the smallest size that broke
        self.best: Results | None = None
        self.last: Results | None = None
        self.held = 0
        self.above: int | None = None  # smallest size that broke
        self.blocked: int | None = None  # smallest size at which the load test itself was the limit
        self.cannot = ""  # why that size can't be run here, where it can't

    async def search(self) -> Results:
        """Find the knee; returns the results to report, with `search` filled.

        ValueError, OSError: the first step can't be run here.
        """
        value: int | None = min(size_of(self.scenario, self.vary), self.most)
        while value is not None and len(self.steps) < MOST_STEPS:
            if not await self._try(value):
                break
            value = self._next(value)
        chosen = self.best or self.broke or self.last
        assert chosen is not None
        found = Search(
            vary=self.vary,
            held=self.held or None,
            broke=self.above,
            blocked=self.blocked,
            first=[item for item in self.broke.expect if not item.held] if self.broke else [],
            why=self._why(),
            steps=self.steps,
        )
        verdict = "interrupted" if self._interrupted() else chosen.verdict
        return dataclasses.replace(chosen, search=found, verdict=verdict)

    def _interrupted(self) -> bool:
        return self.last is not None and self.last.verdict == "interrupted"

    def _why(self) -> str:
        """What ended the search, where it was not a limit that broke."""
        if self._interrupted():
            return "interrupted"
        if self.blocked is not None and self.cannot:
            return f"{self.blocked} {self.vary} can't be run here: {self.cannot}"
        if self.blocked is not None:
            return f"the load test itself was in the way at {self.blocked} {self.vary}"
        if self.above is None and self.held >= self.most:
            return f"the search goes no further than {self.most} {self.vary}"
        return told_broken_off(self.broke) if self.broke else ""

    async def _try(self, value: int) -> bool:
        """Run one size, and again if it breaks; False ends the search."""
        for attempt in (1, 2):
            try:
                results = await self._run(resized(self.scenario, self.vary, value))
            except (ValueError, OSError) as error:  # such as more open files than the system allows
                if not self.steps:
                    raise
                return self._no_step(value, str(error))
            self.last = results
            self.steps.append(SearchStep(value=value, verdict=results.verdict, figures=results.figures))
            self._tell(f"{value} {self.vary}: {describe(results)}")
            if results.verdict == "interrupted":
                return False
            if results.verdict == "no verdict":
                return self._block(value)
            if results.verdict == "passed":
                self.held, self.best = value, results
                return True
            if attempt == 2:
                self.above, self.broke = value, results
        return True

    def _no_step(self, value: int, why: str) -> bool:
        """A size that can't be run here; what was found with the others stays. False ends the search."""
        self.steps.append(SearchStep(value=value, verdict="no verdict", figures={}))
        self._tell(f"{value} {self.vary}: can't be run here: {why}")
        return self._block(value, why)

    def _block(self, value: int, cannot: str = "") -> bool:
        """At this size nothing can be said of the target; False ends the search."""
        if self.blocked is None or value < self.blocked:
            self.blocked, self.cannot = value, cannot
        return self.held == 0 and value > 1

    def _next(self, value: int) -> int | None:
        """The next size to try; None when the knee is known."""
        ceiling = min((size for size in (self.above, self.blocked) if size is not None), default=None)
        if ceiling is None:
            return min(max(value + 1, round(value * GROWTH)), self.most) if value < self.most else None
        if ceiling - self.held <= max(1, int(self.held * CLOSE)):
            return None
        return (ceiling + self.held) // 2


def describe(results: Results) -> str:
    """One step in a line: its verdict, and what broke."""
    broken = [f"{item.figure} {item.limit} is {item.value}" for item in results.expect if not item.held]
    why = [told_broken_off(results)] if results.broken_off else []
    notes = results.notes if results.verdict == "no verdict" else []
    return ", ".join([results.verdict, *broken, *why, *notes])
