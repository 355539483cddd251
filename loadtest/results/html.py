"""One self-contained HTML page of a run: plots, expectations, figures, notes, faults, the scenario and the machine.

The page has no script and loads nothing; its Content-Security-Policy says so too, so that a name or an error message of
a server under test could do nothing even if it were not escaped. Everything foreign goes through `escape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from loadtest.results.figures import (
    FIGURES,
    GROUPS,
    JOIN_STEPS,
    PERCENTILES,
    STEPS_IN_TURN,
    group_of,
    shown,
    unit_shown,
)
from loadtest.results.knee import knee, step_cells, step_head
from loadtest.results.plots import Line, Mark, distribution, lines_over_time, stacked
from loadtest.results.schema import Results
from loadtest.results.style import STYLE
from loadtest.results.summary import HELD, all_notes, load, value_of, verdict_line

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MOST_FAULTS = 500  # rows; the rest is in the results file
TILES = (
    "joins.done",
    "joins.failed",
    "latency.p50",
    "latency.p99",
    "loss.after",
    "packets.rate",
    "target.cpu",
    "tool.cpu",
)
JOIN_NAMES = {"http": "HTTP", "ice": "ICE", "dtls": "DTLS", "packet": "first packet", "frame": "first frame"}


def write_report(results: Results, path: Path | str) -> None:
    """Write the report. OSError when the file can't be written."""
    Path(path).write_text(render_report(results), encoding="utf-8", errors="replace")


def render_report(results: Results) -> str:
    """The whole page."""
    title = f"{results.scenario.name}: load test"
    body = "".join([_head(results), _tiles(results), *_details(results)])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _details(results: Results) -> Iterable[str]:
    yield _section("Limit", _search(results))
    yield _section("Notes", _items(all_notes(results)))
    yield _section("Expectations", _expectations(results))
    yield _section("Plots", f'<div class="plots">{"".join(_plots(results))}</div>')
    yield _section("Figures", "".join(_figures(heading, results) for heading in GROUPS))
    yield _section("Faults", _faults(results))
    yield _section("Scenario", f"<pre>{escape(results.scenario.text)}</pre>")
    machine = [(name, str(value)) for name, value in results.machine.items()]
    yield _section("Machine", _table((), [tuple(map(escape, row)) for row in machine], head_shown=False))


def _head(results: Results) -> str:
    target = results.target
    process = f", process {target.pid}" if target.pid is not None else ""
    rows = {
        "Target": f"{target.url} ({target.driver}{process})",
        "Load": load(results),
        "Started": f"{results.started}, took {shown(results.duration)} s, seed {results.scenario.seed}",
        "Command": results.command,
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items() if text)
    kind = results.verdict.replace(" ", "-")
    verdict = f'<p class="verdict {kind}">{escape(verdict_line(results).plain)}</p>'
    return f"<header><h1>{escape(results.scenario.name)}</h1>{verdict}<dl>{items}</dl></header>\n"


def _tiles(results: Results) -> str:
    tiles = []
    for name in TILES:
        value, figure = results.figures.get(name), FIGURES[name]
        if value is not None:
            number = f"<b>{escape(shown(value, figure.unit))}</b> {escape(unit_shown(figure.unit))}"
            tiles.append(f"<li><span>{escape(name)}</span>{number}</li>")
    return f'<ul class="tiles">{"".join(tiles)}</ul>\n' if tiles else ""


def _section(title: str, body: str) -> str:
    return f'<section id="{title.lower()}"><h2>{title}</h2>{body}</section>\n' if body else ""


def _items(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, head_shown: bool = True, caption: str = "") -> str:
    """Cells are HTML already; the first column names the row."""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead><tr>{''.join(f'<th scope=col>{cell}</th>' for cell in head)}</tr></thead>" if head_shown else ""
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{cell}</td>' for cell in others)}</tr>"
        for first, *others in rows
    )
    return f'<div class="wide-table" tabindex="0"><table>{named}{top}<tbody>{body}</tbody></table></div>'


def _search(results: Results) -> str:
    if results.search is None:
        return ""
    rows = [tuple(map(escape, step_cells(step))) for step in results.search.steps]
    head = tuple(map(escape, step_head(results.search)))
    return f"<p>{escape(knee(results.search))}</p>{_table(head, rows, caption='Steps')}"


def _expectations(results: Results) -> str:
    rows = []
    for item in results.expect:
        word = HELD[item.held][0].lower()
        rows.append(
            (escape(item.figure), escape(item.limit), escape(value_of(item)), f'<span class="{word}">{word}</span>')
        )
    return _table(("figure", "limit", "value", "held?"), rows) if rows else ""


def _figures(heading: str, results: Results) -> str:
    names = [name for name in FIGURES if group_of(name) == heading and results.figures.get(name) is not None]
    if not names:
        return ""
    groups = list(results.groups) if len(results.groups) > 1 else []
    groups = [group for group in groups if any(name in results.groups[group] for name in names)]
    rows = []
    for name in names:
        figure = FIGURES[name]
        values = [results.figures.get(name), *(results.groups[group].get(name) for group in groups)]
        cells = [f'<span class="number">{escape(shown(value, figure.unit))}</span>' for value in values]
        rows.append((f"<code>{name}</code>", *cells, escape(unit_shown(figure.unit)), escape(figure.text)))
    columns = [f'<span class="number">{escape(column)}</span>' for column in ("all", *groups)]
    return _table(("figure", *columns, "unit", "meaning"), rows, caption=heading)


def _faults(results: Results) -> str:
    ordered = sorted(results.faults, key=lambda fault: -fault.count)
    rows = [
        (escape(f.client), escape(f.group), escape(f.room), f'<span class="number">{f.count:,}</span>', escape(f.what))
        for f in ordered[:MOST_FAULTS]
    ]
    if not rows:
        return ""
    more = len(ordered) - MOST_FAULTS
    rest = f"<p>… and {more:,} more in the results file.</p>" if more > 0 else ""
    return _table(("client", "group", "room", "times", "what"), rows) + rest


def _plots(results: Results) -> Iterable[str]:
    """All plots, in the order of what people ask first."""
    latency = _lines(results, {"latency.p50": "median", "latency.p99": "99th percentile"})
    yield _plot("latency", "Latency over time", lines_over_time("Latency over time", "ms", latency, log=True), latency)
    yield _plot("latency-distribution", "Latency distribution", _latencies(results))
    loss = _lines(results, {"loss.before": "before repair", "loss.after": "after repair"}, factor=100)
    yield _plot("loss", "Loss", lines_over_time("Loss", "% of packets", loss), loss)
    cpu = _lines(results, {"cpu.target": "target", "cpu.tool": "load test"})
    yield _plot("cpu", "CPU", lines_over_time("CPU", "% of a core", cpu), cpu)
    yield _one(results, "joined", "Subscribers' sessions", "sessions", whole=True)
    yield _one(results, "joins.rate", "Joins a second", "1/s")
    steps = [Line(JOIN_NAMES[step], []) for step in JOIN_STEPS]
    yield _plot("join-split", "Join time", _join_split(results), steps)
    yield _plot("join-distribution", "Join to first frame, distribution", _join_times(results))
    yield _one(results, "packets.rate", "Packets received", "1/s")
    yield _one(results, "bitrate", "Bitrate received", "kbit/s")
    yield _one(results, "nack.rate", "NACK", "1/s")


def _one(results: Results, name: str, title: str, unit: str, *, whole: bool = False) -> str:
    """A plot of a single series."""
    drawn = lines_over_time(title, unit, _lines(results, {name: title}), whole=whole)
    return _plot(name.replace(".", "-"), title, drawn)


def _lines(results: Results, names: dict[str, str], *, factor: float = 1) -> list[Line]:
    times = [time or 0.0 for time in results.series.get("time", [])]
    found = []
    for name, words in names.items():
        values = results.series.get(name) or [None] * len(times)
        scaled = [None if value is None else value * factor for value in values]
        found.append(Line(words, list(zip(times, scaled, strict=True))))
    return found


def _latencies(results: Results) -> str:
    found = results.distributions.get("latency")
    if found is None:
        return ""
    names = {"latency.p50": "p50", "latency.p95": "p95", "latency.p99": "p99"}
    marks = [Mark(word, value) for name, word in names.items() if (value := results.figures.get(name))]
    return distribution("Latency distribution", found.unit, found.bounds, found.counts, marks, "packets")


def _join_times(results: Results) -> str:
    found = results.distributions.get("join.frame")
    if found is None:
        return ""
    names = {"join.frame.p50": "p50", "join.frame.p95": "p95"}
    marks = [Mark(word, value) for name, word in names.items() if (value := results.figures.get(name))]
    return distribution("Join to first frame", found.unit, found.bounds, found.counts, marks, "joins")


def _join_split(results: Results) -> str:
    bars = [(PERCENTILES[name], _ends(results, name)) for name in ("p50", "p95")]
    return stacked("Join time, by its steps", "ms", [JOIN_NAMES[step] for step in JOIN_STEPS], bars)


def _ends(results: Results, percentile: str) -> list[float | None]:
    """When the steps of a join end, ms from its beginning, as far as percentiles of steps can be put end to end."""
    ends, end = [], 0.0
    for step in JOIN_STEPS:
        value = results.figures.get(f"join.{step}.{percentile}")
        if step in STEPS_IN_TURN and value is not None:
            value = end = end + value
        ends.append(value)
    return ends


def _plot(name: str, title: str, drawn: str, legend: Sequence[Line] = ()) -> str:
    """A figure element with its title and the colours of its lines."""
    if not drawn:
        drawn, legend = '<p class="none">Not measured.</p>', ()
    colours = "".join(f'<li class="c{index}">{escape(line.name)}</li>' for index, line in enumerate(legend))
    keys = f'<ul class="legend">{colours}</ul>' if colours else ""
    return f'<figure id="plot-{name}"><figcaption><h3>{title}</h3>{keys}</figcaption>{drawn}</figure>'
