"""Plots as SVG text, drawn without a library: lines over time, a distribution on a logarithmic axis, stacked bars.

Each plot is drawn twice, wide and narrow, and the page shows the one that fits: one scaled to a phone would have
words too small to read. Colours are CSS variables of the page, so that the same drawing serves light and dark.
Where a value is unknown a line breaks; a value alone between two gaps is a dot. Long series are thinned to what the
width can show, keeping the lowest and the highest of each stretch, because the peaks are what people look for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from loadtest.results.axes import Axis, clock_ticks, log_axis, nice_axis
from loadtest.results.figures import brief

Points = Sequence[tuple[float, float | None]]

CHARACTER = 6.8  # px at most of a character at the font size of the page's plots, 12 px
ROW = 18  # px between rows of words
HOVER_COLUMNS = 90  # stretches of time that tell their values when pointed at


@dataclass(frozen=True)
class Size:
    """A drawing's size in px and the CSS class that shows it where it fits."""

    width: int
    height: int
    name: str


SIZES = (Size(620, 260, "wide"), Size(340, 230, "narrow"))


@dataclass(frozen=True)
class Line:
    """A named series; the points rise in x, y None is a gap."""

    name: str
    points: Points


@dataclass(frozen=True)
class Mark:
    """A value on the x axis worth a name."""

    name: str
    x: float


@dataclass
class Frame:
    """The area inside the axes, and the way from values to px."""

    size: Size
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)
    left: float = 0.0
    right: float = 0.0
    top: float = 2.0 * ROW - 6
    bottom: float = 0.0

    def __post_init__(self) -> None:
        self.left = CHARACTER * max((len(text) for _, text in self.y.ticks), default=1) + 12
        self.right = self.size.width - 14
        self.bottom = self.size.height - 2.0 * ROW - 6

    def at_x(self, value: float) -> float:
        return self.left + self.x.share(value) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        return self.bottom - self.y.share(value) * (self.bottom - self.top)

    def axes(self, x_unit: str, y_unit: str) -> None:
        """Grid lines, ticks and units; words that would touch their neighbour are left out."""
        for value, text in self.y.ticks:
            y = self.at_y(value)
            self.parts.append(f'<line class="grid" x1="{self.left:.1f}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self.parts.append(_words(text, self.left - 6, y + 4, "end"))
        free_from = -math.inf
        for value, text in self.x.ticks:
            x, half = self.at_x(value), len(text) * CHARACTER / 2
            self.parts.append(
                f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{self.bottom:.1f}" y2="{self.bottom + 4:.1f}"/>'
            )
            if x - half > free_from and x + half < self.size.width:
                self.parts.append(_words(text, x, self.bottom + ROW, "middle"))
                free_from = x + half + CHARACTER
        self.parts.append(
            f'<line class="axis" x1="{self.left:.1f}" x2="{self.right}" y1="{self.bottom:.1f}" y2="{self.bottom:.1f}"/>'
        )
        self.parts.append(_words(y_unit, 4, ROW - 6, "start", "unit"))
        self.parts.append(_words(x_unit, self.right, self.bottom + 2 * ROW, "end", "unit"))

    def svg(self, title: str, description: str) -> str:
        return _svg(self.size, title, description, self.parts)


def lines_over_time(title: str, unit: str, lines: Sequence[Line], *, log: bool = False, whole: bool = False) -> str:
    """Lines over seconds; `log` puts values that lie far apart on a logarithmic axis, `whole` has no ticks between."""
    known = [y for line in lines for _, y in line.points if y is not None]
    if not known:
        return ""
    times = [x for line in lines for x, _ in line.points]
    positive = [y for y in known if y > 0]
    far_apart = log and positive and max(positive) > 30 * min(positive)
    drawings = []
    for size in SIZES:
        y = log_axis(min(positive), max(positive), 5) if far_apart else nice_axis(0, max(known), 5, whole=whole)
        frame = Frame(size, clock_ticks(min(times), max(times), size.width // 70), y)
        frame.axes("time, min:s" if max(times) >= 300 else "time, s", f"{unit}, log scale" if far_apart else unit)
        for index, line in enumerate(lines):
            frame.parts.append(_drawn(frame, line, index))
        if size.name == "wide":
            _hover(frame, lines, unit)
        drawings.append(frame.svg(title, _described(lines, unit)))
    return "".join(drawings)


def _drawn(frame: Frame, line: Line, index: int) -> str:
    points = thinned(line.points, int(frame.right - frame.left) // 2)
    return f'<path class="line c{index}" d="{path_of(points, frame.at_x, frame.at_y)}"/>'


def path_of(points: Points, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> str:
    """The d of a path: a new stretch after each gap, a dot (of the round line end) for a stretch of one point."""
    steps: list[str] = []
    length = 0
    for x, y in [*points, (0.0, None)]:
        if y is None:
            if length == 1:
                steps.append("h0")
            length = 0
            continue
        steps.append(f"{'L' if length else 'M'}{at_x(x):.1f} {at_y(y):.1f}")
        length += 1
    return "".join(steps)


def thinned(points: Points, most: int) -> Points:
    """At most about `most` points: of each stretch the lowest and the highest, or a gap when all of it is one."""
    if len(points) <= most:
        return points
    step = math.ceil(len(points) / max(most // 2, 1))
    kept: list[tuple[float, float | None]] = []
    for start in range(0, len(points), step):
        stretch = points[start : start + step]
        known = [(x, y) for x, y in stretch if y is not None]
        if not known:
            kept.append((stretch[0][0], None))
            continue
        extremes = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}
        kept.extend(sorted(extremes))
        if len(known) < len(stretch):
            kept.append((stretch[-1][0], None))
    return kept


def _hover(frame: Frame, lines: Sequence[Line], unit: str) -> None:
    """Invisible stretches over the plot that tell the values below the pointer."""
    points = lines[0].points
    step = math.ceil(len(points) / HOVER_COLUMNS)
    for index in range(0, len(points), step):
        begin = frame.at_x(points[index][0])
        end = frame.at_x(points[min(index + step, len(points) - 1)][0])
        texts = (f"{line.name} {_value(line.points[index][1], unit)}" for line in lines if index < len(line.points))
        words = f"{points[index][0]:.4g} s: {', '.join(texts)}"
        frame.parts.append(
            f'<rect class="hit" x="{begin:.1f}" y="{frame.top}" width="{max(end - begin, 1):.1f}"'
            f' height="{frame.bottom - frame.top:.1f}"><title>{escape(words)}</title></rect>'
        )


def _value(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{brief(value)} {unit}".strip()


def _described(lines: Sequence[Line], unit: str) -> str:
    """What a plot shows, for those who hear it."""
    found = []
    for line in lines:
        known = [y for _, y in line.points if y is not None]
        if known:
            low, high, last = (_value(y, unit) for y in (min(known), max(known), known[-1]))
            found.append(f"{line.name}: from {low} to {high}, at the end {last}.")
        else:
            found.append(f"{line.name}: unknown.")
    return " ".join(found)


def distribution(
    title: str, unit: str, bounds: Sequence[float], counts: Sequence[int], marks: Sequence[Mark] = (), of: str = ""
) -> str:
    """Shares of all values in each bucket over a logarithmic axis, with marks at quantiles. Bounds are above 0."""
    total = sum(counts)
    edges = [max(bounds[0] / 1.1, 1e-9), *bounds] if bounds else []
    if not total or edges[-1] <= 0:
        return ""
    shares = [100 * count / total for count in counts]
    words = ", ".join(f"{mark.name} {_value(mark.x, unit)}" for mark in marks)
    words = f"{total:,} values from {_value(edges[0], unit)} to {_value(edges[-1], unit)}. {words}"
    drawings = []
    for size in SIZES:
        frame = Frame(
            size, log_axis(edges[0], edges[-1], size.width // 60, exact=True), nice_axis(0, max(shares) * 1.3, 4)
        )
        frame.axes(f"{unit}, log scale", f"% of {of}" if of else "%")
        frame.parts.append(f'<path class="area c0" d="{_steps(frame, edges, shares)}"/>')
        for row, mark in enumerate(sorted(marks, key=lambda mark: mark.x)):
            frame.parts.append(_marked(frame, mark, row, unit))
        drawings.append(frame.svg(title, words))
    return "".join(drawings)


def _steps(frame: Frame, edges: Sequence[float], shares: Sequence[float]) -> str:
    """The outline of all bars."""
    steps = [f"M{frame.at_x(edges[0]):.1f} {frame.bottom:.1f}"]
    for upper, share in zip(edges[1:], shares, strict=True):
        steps.append(f"V{frame.at_y(share):.1f}H{frame.at_x(upper):.1f}")
    return "".join([*steps, f"V{frame.bottom:.1f}Z"])


def _marked(frame: Frame, mark: Mark, row: int, unit: str) -> str:
    """A dashed line with its name on a row of its own, so that near marks' names don't overlap."""
    x = min(max(frame.at_x(mark.x), frame.left), frame.right)
    y = frame.top + 10 + row * (ROW - 3)
    text = f"{mark.name} {_value(mark.x, unit)}"
    fits = x + 6 + len(text) * CHARACTER < frame.right
    words = _words(text, x + 5 if fits else x - 5, y, "start" if fits else "end", "mark")
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8:.1f}" y2="{frame.bottom:.1f}"/>{words}'


def stacked(title: str, unit: str, names: Sequence[str], bars: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Horizontal bars of stretches that follow each other: for each bar the values at which the stretches end.

    A value that is unknown, or below the one before, gives its stretch no length.
    """
    ends = [value for _, values in bars for value in values if value is not None]
    if not ends:
        return ""
    texts = (f"{name}: " + ", ".join(map(_ended, names, values, [unit] * len(names))) for name, values in bars)
    description = ". ".join(texts)
    drawings = []
    for size in SIZES:
        size = Size(size.width, 3 * ROW + 44 * len(bars), size.name)
        frame = Frame(size, nice_axis(0, max(ends), size.width // 80), Axis(0, 1, []))
        frame.top, frame.left = 6.0, CHARACTER * max(len(name) for name, _ in bars) + 12
        frame.axes(unit, "")
        height = (frame.bottom - frame.top) / len(bars)
        for row, (name, values) in enumerate(bars):
            place = (frame.top + (row + 0.2) * height, 0.6 * height)
            frame.parts.append(_bar(frame, place, name, zip(names, values, strict=True), unit))
        drawings.append(frame.svg(title, description))
    return "".join(drawings)


def _ended(name: str, value: float | None, unit: str) -> str:
    return f"{name} after {_value(value, unit)}"


def _bar(
    frame: Frame, place: tuple[float, float], name: str, ends: Iterable[tuple[str, float | None]], unit: str
) -> str:
    """One bar; place is its upper edge and its thickness in px."""
    y, thick = place
    parts = [_words(name, frame.left - 6, y + thick / 2 + 4, "end")]
    begin = 0.0
    for index, (step, end) in enumerate(ends):
        if end is None or end <= begin:
            continue
        left, right = frame.at_x(begin), frame.at_x(end)
        words = escape(f"{name}: {step} after {_value(end, unit)}, {_value(end - begin, unit)} of it")
        parts.append(
            f'<path class="piece c{index}" d="M{left:.1f} {y:.1f}H{right:.1f}v{thick:.1f}H{left:.1f}Z">'
            f"<title>{words}</title></path>"
        )
        begin = end
    return "".join(parts)


def _words(text: str, x: float, y: float, anchor: str, name: str = "") -> str:
    if not text:
        return ""
    kind = f' class="{name}"' if name else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(size: Size, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot {size.name}" viewBox="0 0 {size.width} {size.height}" role="img"'
        f' aria-label="{escape(title)}. {escape(description)}">{"".join(parts)}</svg>'
    )
