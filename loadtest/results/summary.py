"""The end of a run in plain text: what was loaded, what was found, what was expected, and what a reader must know."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.results.console import clean, output, styled
from loadtest.results.figures import FIGURES, GROUPS, Figure, group_of, shown, unit_shown
from loadtest.results.knee import knee, step_cells, step_head
from loadtest.results.schema import Expectation, Results

COLOURS = {"passed": "bold green", "failed": "bold red", "no verdict": "bold yellow", "interrupted": "bold yellow"}
HELD = {True: ("held", "green"), False: ("BROKEN", "bold red"), None: ("unknown", "yellow")}
MOST_FAULTS = 20  # lines; the rest is in the results file


def print_summary(results: Results, console: Console | None = None) -> None:
    """All of it, on the console given or on standard output."""
    console = console or output()
    _print_head(results, console)
    for heading in GROUPS:
        if table := _figures(heading, results):
            console.print(table)
    _print_expectations(results.expect, console)
    _print_faults(results, console)
    _print_search(results, console)
    for note in all_notes(results):
        console.print(Text.assemble(("Note: ", "yellow"), clean(note)))
    console.print(verdict_line(results))


def told_broken_off(results: Results) -> str:
    """Why a run ended before its time, in a sentence; empty: it did not."""
    return f"the run was broken off: {results.broken_off}" if results.broken_off else ""


def all_notes(results: Results) -> list[str]:
    """What a reader must know, the most important first."""
    return [note for note in (told_broken_off(results), *results.notes) if note]


def _print_search(results: Results, console: Console) -> None:
    if results.search is None:
        return
    table = titled("Search for the limit")
    for name in step_head(results.search):
        table.add_column(name, justify="right")
    for step in results.search.steps:
        table.add_row(*step_cells(step))
    console.print(table)
    console.print(styled(f"Limit: {knee(results.search)}", "bold"))


def titled(title: str) -> Table:
    """An empty table as all of ours look."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)


def verdict_line(results: Results) -> Text:
    """The verdict with its reason in one line."""
    broken = [item for item in results.expect if item.held is False]
    unknown = [item for item in results.expect if item.held is None]
    reasons = {
        "passed": f"{len(results.expect)} expectations held" if results.expect else "nothing was expected",
        "failed": ", ".join(f"{item.figure} {item.limit} broken" for item in broken),
        "no verdict": f"{len(unknown)} expectations without a value" if unknown else "see the notes",
        "interrupted": f"after {shown(results.duration)} s",
    }
    reason = reasons[results.verdict] or told_broken_off(results) or "see the notes"
    return styled(f"{results.verdict.upper()}: {reason}", COLOURS[results.verdict])


def _print_head(results: Results, console: Console) -> None:
    target = results.target
    process = f", process {target.pid}" if target.pid is not None else ""
    rows = {
        "Scenario": f"{results.scenario.name} (seed {results.scenario.seed})",
        "Target": f"{target.url} ({target.driver}{process})",
        "Load": load(results),
        "Started": f"{results.started}, took {shown(results.duration)} s",
        "Machine": ", ".join(f"{name} {value}" for name, value in results.machine.items()),
    }
    for name, text in rows.items():
        if text:
            console.print(Text.assemble((f"{name:<9} ", "dim"), clean(text)))
    console.print()


def load(results: Results) -> str:
    """What the target had to carry, in a few words; empty: nobody tried to join."""
    figures = results.figures
    done, attempted = figures.get("joins.done"), figures.get("joins.attempted")
    parts = [f"{shown(done)} of {shown(attempted)} joins"] if attempted is not None else []
    for name in ("packets.rate", "bitrate.video", "bitrate.audio"):
        if (value := figures.get(name)) is not None:
            words = {"packets.rate": "packets/s"}.get(name, f"kbit/s of {name.partition('.')[2]} each")
            parts.append(f"{shown(value)} {words}")
    return ", ".join(parts)


def _figures(heading: str, results: Results) -> Table | None:
    """The figures below one heading; what is unknown is left out, but for a heading where all is unknown: no table."""
    names = [name for name in FIGURES if group_of(name) == heading]
    known = [name for name in names if results.figures.get(name) is not None]
    if not known:
        return None
    groups = [name for name, figures in results.groups.items() if any(n in figures for n in known)]
    table = titled(heading)
    table.add_column("figure", no_wrap=True)
    for column in ("all", *map(clean, groups if len(results.groups) > 1 else [])):
        table.add_column(Text(column), justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("meaning", style="dim", ratio=1)
    for name in known:
        figure = FIGURES[name]
        values = [results.figures.get(name)]
        values += [results.groups[g].get(name) for g in groups] if len(results.groups) > 1 else []
        table.add_row(name, *_cells(values, figure), unit_shown(figure.unit), figure.text)
    return table


def _cells(values: list[float | None], figure: Figure) -> list[str]:
    first, *others = values
    return [shown(first, figure.unit), *("" if v is None else shown(v, figure.unit) for v in others)]


def _print_expectations(expect: list[Expectation], console: Console) -> None:
    if not expect:
        return
    table = titled("Expectations")
    for column in ("figure", "limit", "value", ""):
        table.add_column(column, justify="right" if column == "value" else "left")
    for item in expect:
        word, style = HELD[item.held]
        table.add_row(styled(item.figure), styled(item.limit), value_of(item), Text(word, style))
    console.print(table)


def value_of(item: Expectation) -> str:
    """The value of an expectation, in the unit that its limit is written in."""
    figure = FIGURES.get(item.figure.rpartition("/")[2])
    unit = "" if figure is None or "%" not in item.limit else figure.unit
    known = unit_shown(figure.unit) if figure else ""
    return f"{shown(item.value, unit)} {known if item.value is not None else ''}".strip()


def _print_faults(results: Results, console: Console) -> None:
    if not results.faults:
        return
    table = titled("Faults")
    for column in ("client", "group", "room", "times", "what"):
        table.add_column(
            column, justify="right" if column == "times" else "left", ratio=1 if column == "what" else None
        )
    ordered = sorted(results.faults, key=lambda fault: -fault.count)
    for fault in ordered[:MOST_FAULTS]:
        words = [styled(text) for text in (fault.client, fault.group, fault.room)]
        table.add_row(*words, f"{fault.count:,}", styled(fault.what))
    console.print(table)
    if more := len(ordered) - MOST_FAULTS:
        if more > 0:
            console.print(f"… and {more:,} more in the results file.")
