"""Several runs: repetitions of one scenario, or two in turn, so that what changes on the machine hits both alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from loadtest.results.schema import Results, Verdict
from loadtest.run.runner import Options, Run
from loadtest.scenario.expect import evaluate
from loadtest.scenario.schema import Scenario

VERDICTS: tuple[Verdict, ...] = ("passed", "failed", "no verdict", "interrupted")  # from the best to the worst


class Runs:
    """Runs one after another. `stop` ends the one under way in order, and no other begins."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._current: Run | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ctrl-C."""
        self.stopped = True
        if self._current:
            self._current.stop()

    async def once(self, scenario: Scenario) -> Results:
        """One run. ValueError when the scenario can't be run here."""
        self._current = Run(scenario, self._options)
        if self.stopped:
            self._current.stop()
        return await self._current.go()

    async def in_turn(self, scenarios: Sequence[Scenario], repetitions: int) -> list[list[Results]]:
        """Each scenario `repetitions` times, in turn; results by scenario. Ends early when stopped."""
        found: list[list[Results]] = [[] for _ in scenarios]
        for _ in range(repetitions):
            for number, scenario in enumerate(scenarios):
                found[number].append(await self.once(scenario))
                if self.stopped:
                    return found
        return found


def together(found: Sequence[Results]) -> Results:
    """One result of several repetitions: medians, which are held against the limits, and all notes and faults."""
    if len(found) == 1:
        return found[0]
    figures = medians([results.figures for results in found])
    groups = {name: medians([results.groups.get(name, {}) for results in found]) for name in found[-1].groups}
    expect = evaluate({item.figure: item.limit for item in found[-1].expect}, figures, groups)
    return replace(
        found[-1],
        figures=figures,
        groups=groups,
        expect=expect,
        broken_off=next((results.broken_off for results in found if results.broken_off), ""),
        verdict=_verdict(found, all(item.held for item in expect)),
        notes=list(dict.fromkeys(note for results in found for note in results.notes)),
        faults=[fault for results in found for fault in results.faults],
        repetitions=[results.figures for results in found],
    )


def _verdict(found: Sequence[Results], held: bool) -> Verdict:
    """The worst of the repetitions; where only limits broke, whether the medians keep them."""
    worst = max((results.verdict for results in found), key=VERDICTS.index)
    if worst in ("passed", "failed") and not any(map(_unsound, found)):
        return "passed" if held else "failed"
    return worst


def _unsound(results: Results) -> bool:
    """Whether a run failed whatever the medians say: it was broken off, misses a figure, or got wrong packets."""
    unknown = any(item.value is None for item in results.expect)
    return bool(results.broken_off or unknown or results.figures.get("packets.wrong"))


def medians(all_figures: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The median of each figure over those that have it."""
    names = dict.fromkeys(name for figures in all_figures for name in figures)
    values = {name: [v for figures in all_figures if (v := figures.get(name)) is not None] for name in names}
    return {name: statistics.median(found) if found else None for name, found in values.items()}
