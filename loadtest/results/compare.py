"""Two sets of results side by side: what differs, and whether the difference is more than the noise of repetitions.

A difference counts only when the ranges of both sides' repetitions do not overlap. One repetition has no range, so it
says nothing about noise, and that is what is printed. Results without a verdict or of a run that was broken off, and
sets that were measured in other circumstances, are compared with loud warnings.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from loadtest.results.console import clean, output, styled
from loadtest.results.figures import FIGURES, GROUPS, SHARE, Better, brief, group_of, unit_shown
from loadtest.results.schema import Results, read_results
from loadtest.results.summary import titled

SCHEMA = "weir.loadtest.comparison/1"
VERSION_KEY = "weir"  # of machine: the version of the tool
NOISE, UNKNOWN = "same within noise", "spread unknown"
STYLES = {"better": "green", "worse": "red", UNKNOWN: "yellow", NOISE: "dim", "same": "dim"}


@dataclass(frozen=True)
class Spread:
    """A figure over the repetitions of one side."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Row:
    """One figure of both sides; ratio is B to A, None when A is 0 or a side has no value."""

    figure: str
    a: Spread | None
    b: Spread | None
    ratio: float | None
    word: str


@dataclass
class Side:
    """The files of one side, by name."""

    files: list[str]
    results: list[Results]
    targets: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.targets = list(dict.fromkeys(results.target.url for results in self.results))

    def spread(self, figure: str) -> Spread | None:
        """The figure over all repetitions of all files."""
        values = [value for one in self.repetitions() if (value := one.get(figure)) is not None]
        return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None

    def repetitions(self) -> list[dict[str, float | None]]:
        """A figures dict for each repetition; a file without repetitions is one."""
        return [figures for one in self.results for figures in (one.repetitions or [one.figures])]


@dataclass
class Comparison:
    """Both sides, the rows of all figures that one of them knows, and what makes the comparison doubtful."""

    a: Side
    b: Side
    rows: list[Row]
    loud: list[str]  # results without a verdict, or of a run that was broken off
    warnings: list[str]  # different circumstances


def compare(a: Sequence[Path | str], b: Sequence[Path | str]) -> Comparison:
    """Compare results files. OSError or ValueError for a file that can't be read or is wrong."""
    if not a or not b:
        raise ValueError("a comparison takes at least one results file for each side")
    sides = [Side([str(file) for file in files], [read_results(file) for file in files]) for files in (a, b)]
    return compared(*sides)


def compared(a: Side, b: Side) -> Comparison:
    """Compare results that were read already."""
    rows = [_row(name, a.spread(name), b.spread(name), FIGURES[name].better) for name in FIGURES]
    known = [row for row in rows if row.a or row.b]
    return Comparison(a, b, known, _not_whole(a) + _not_whole(b), _differences(a, b) + _order(a, b))


def _row(name: str, a: Spread | None, b: Spread | None, better: Better) -> Row:
    if a is None or b is None:
        return Row(name, a, b, None, "only in A" if a else "only in B")
    return Row(name, a, b, b.median / a.median if a.median else None, _word(a, b, better))


def _word(a: Spread, b: Spread, better: Better) -> str:
    """What the difference means; neutral figures are only higher or lower."""
    if a.low == a.high == b.low == b.high:
        return "same"
    if a.low <= b.high and b.low <= a.high:
        return NOISE
    if a.count < 2 or b.count < 2:
        return UNKNOWN
    higher = b.median > a.median
    if better is None:
        return "higher" if higher else "lower"
    return "better" if higher == (better == "high") else "worse"


def _not_whole(side: Side) -> list[str]:
    """A sentence for each file whose figures are not those of a whole run that the tool could judge."""
    found = []
    for file, one in zip(side.files, side.results, strict=True):
        if one.verdict in ("no verdict", "interrupted"):
            why = f": {' '.join(one.notes)}" if one.notes else ""
            words = "has NO VERDICT" if one.verdict == "no verdict" else "was INTERRUPTED"
            found.append(f"{file} {words}{why}")
        if one.broken_off:
            found.append(f"{file} was BROKEN OFF: {one.broken_off}")
    return found


def _differences(a: Side, b: Side) -> list[str]:
    """A sentence for each circumstance that is not the same in all files."""
    names = [_differs("scenario", a, b, lambda one: repr(one.scenario.name))]
    names.append(_differs("seed", a, b, lambda one: str(one.scenario.seed)))
    found = [text for text in names if text]
    if not found and len({one.scenario.text for one in [*a.results, *b.results]}) > 1:
        found.append("The scenarios have the same name but other contents.")
    for key in dict.fromkeys(key for one in [*a.results, *b.results] for key in one.machine):
        name = "tool version" if key == VERSION_KEY else f"machine ({key})"
        found.append(_differs(name, a, b, partial(_of_machine, key)))
    return [text for text in found if text]


def _of_machine(key: str, results: Results) -> str:
    return str(results.machine.get(key))


def _differs(name: str, a: Side, b: Side, of: Callable[[Results], str]) -> str:
    values = [list(dict.fromkeys(map(of, side.results))) for side in (a, b)]
    if len({*values[0], *values[1]}) == 1:
        return ""
    return f"The {name} differs: A {', '.join(values[0])}; B {', '.join(values[1])}."


def _order(a: Side, b: Side) -> list[str]:
    """Whether one side ran as a whole before the other, so that a drift of the machine looks like a difference."""
    times = [[one.started for one in side.results] for side in (a, b)]
    repeated = all(len(side.repetitions()) > 1 for side in (a, b))
    if repeated and (max(times[0]) < min(times[1]) or max(times[1]) < min(times[0])):
        return ["All runs of one side came before the other's: a drift of the machine would look like a difference."]
    return []


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Warnings, one table a group of figures, and what is loud once more at the end, where it is seen."""
    console = console or output()
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        text = f"{', '.join(side.files)} ({', '.join(side.targets)}; {_repetitions(side)})"
        console.print(Text.assemble((f"{name}  ", "bold"), clean(text)))
    _print_loud(comparison, console)
    for warning in comparison.warnings:
        console.print(Text.assemble(("Warning: ", "yellow"), clean(warning)))
    for heading in GROUPS:
        rows = [row for row in comparison.rows if group_of(row.figure) == heading]
        if rows:
            console.print(_table(heading, rows, trusted=not comparison.loud))
    _print_loud(comparison, console)


def _repetitions(side: Side) -> str:
    count = len(side.repetitions())
    return "1 repetition, spread unknown" if count == 1 else f"{count} repetitions"


def _print_loud(comparison: Comparison, console: Console) -> None:
    if comparison.loud:
        text = "\n".join(clean(line) for line in comparison.loud)
        console.print(Panel(Text(text), title="Do not trust this comparison", border_style="bold red"))


def _table(heading: str, rows: list[Row], *, trusted: bool) -> Table:
    table = titled(heading)
    table.add_column("figure", no_wrap=True)
    for column in ("A", "B"):
        table.add_column(f"{column} median (min–max)", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("B/A", justify="right", no_wrap=True)
    table.add_column("B is" if trusted else "B is (do not trust)", no_wrap=True)
    for row in rows:
        unit = FIGURES[row.figure].unit
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}" if 0.1 <= row.ratio < 100 else f"{row.ratio:.3g}"
        cells = (_cell(row.a, unit), _cell(row.b, unit), unit_shown(unit), ratio)
        table.add_row(row.figure, *cells, styled(row.word, STYLES.get(row.word, "")))
    return table


def _cell(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "–"
    factor, percent = (100, " %") if unit == SHARE else (1, "")
    median, low, high = (brief(value * factor) for value in (spread.median, spread.low, spread.high))
    if spread.count == 1:
        return median + percent
    return f"{median}{percent} (±0)" if spread.low == spread.high else f"{median}{percent} ({low}–{high}{percent})"


def comparison_json(comparison: Comparison) -> str:
    """The comparison for machines."""
    sides = {
        name: {"files": side.files, "targets": side.targets, "repetitions": len(side.repetitions())}
        for name, side in (("a", comparison.a), ("b", comparison.b))
    }
    rows = {row.figure: {k: v for k, v in asdict(row).items() if k != "figure"} for row in comparison.rows}
    trusted = not comparison.loud
    body = {"schema": SCHEMA, **sides, "trusted": trusted, "loud": comparison.loud, "warnings": comparison.warnings}
    return json.dumps(body | {"figures": rows}, indent=2, ensure_ascii=False) + "\n"
