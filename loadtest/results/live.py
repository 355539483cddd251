"""What is seen while a load test runs: a live table on a terminal, a line every five seconds elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.results.console import clean, output
from loadtest.results.figures import FIGURES, SHARE, shown, unit_shown

LINE_EVERY = 5.0  # s, without a terminal
DRAW_EVERY = 0.25  # s, on one: a busy terminal costs CPU that the clients need
COLUMNS = 2  # figures side by side

# What a snapshot may hold besides figures: the names of the results' series.
OTHERS = {
    "joined": ("sessions", ""),
    "cpu.target": ("CPU of the target", "% of a core"),
    "cpu.tool": ("CPU of the load test", "% of a core"),
    "bitrate": ("received", "kbit/s"),
}
SHORT = {  # words for the narrow cells of the live table; others are shown by name
    "joins.attempted": "joins begun",
    "joins.done": "joins done",
    "joins.failed": "joins failed",
    "joins.rate": "joins a second",
    "join.frame.p50": "first frame, median",
    "latency.p50": "latency, median",
    "latency.p99": "latency, 99th percentile",
    "latency.max": "latency, longest",
    "loss.before": "loss before repair",
    "loss.after": "loss after repair",
    "nack.rate": "NACK",
    "pli.rate": "PLI",
    "rtx.rate": "retransmitted",
    "packets.rate": "packets",
    "frames.rate": "frames of each stream",
    "freezes.count": "freezes",
    "tool.socket_drops": "own drops",
}


class Live:
    """Shows the newest snapshot; use it as a context manager, so that the terminal is given back in any case.

    `quiet` shows nothing; `clock` is in seconds.
    """

    def __init__(
        self, console: Console | None = None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or output()
        self.quiet, self.clock = quiet, clock
        self._screen: Screen | None = None
        self._shown_at: float | None = None
        self._phase = ""

    def __enter__(self) -> Live:
        if not self.quiet and self.console.is_terminal:
            self._screen = Screen(console=self.console, auto_refresh=False, transient=True)
            self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen:
            self._screen.stop()
            self._screen = None

    def update(self, snapshot: Mapping[str, float | None], phase: str, elapsed: float, total: float | None) -> None:
        """The newest values, what the run is doing, and how far it is (s; total None: nobody knows)."""
        if self.quiet or not self._due(phase):
            return
        if self._screen:
            self._screen.update(_picture(snapshot, phase, elapsed, total), refresh=True)
        else:
            self.console.print(_line(snapshot, phase, elapsed, total), soft_wrap=True)

    def _due(self, phase: str) -> bool:
        """Whether to show anything now: after the interval, and at once when a new phase begins."""
        now, every = self.clock(), DRAW_EVERY if self._screen else LINE_EVERY
        if phase == self._phase and self._shown_at is not None and now - self._shown_at < every:
            return False
        self._phase, self._shown_at = phase, now
        return True


def _picture(snapshot: Mapping[str, float | None], phase: str, elapsed: float, total: float | None) -> Group:
    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=total, completed=min(elapsed, total) if total else 0, width=30, pulse=not total)
    head.add_row(Text(clean(phase), "bold"), bar, Text(_progress(elapsed, total)))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(COLUMNS):
        table.add_column()
        table.add_column(justify="right")
        table.add_column(style="dim")
    cells = [_cell(name, value) for name, value in snapshot.items()]
    rows = -(-len(cells) // COLUMNS)
    for row in range(rows):
        side_by_side = cells[row::rows] if rows else []
        table.add_row(*(Text(text) for cell in side_by_side for text in cell))
    return Group(head, table)


def _line(snapshot: Mapping[str, float | None], phase: str, elapsed: float, total: float | None) -> Text:
    cells = (_cell(name, value) for name, value in snapshot.items() if value is not None)
    found = ", ".join(" ".join(filter(None, cell)) for cell in cells)
    return Text(f"{_progress(elapsed, total)} {clean(phase)}: {found or 'nothing measured yet'}")


def _cell(name: str, value: float | None) -> tuple[str, str, str]:
    """Words, value and unit."""
    words, unit = OTHERS.get(name, (SHORT.get(name, clean(name)), ""))
    if figure := FIGURES.get(name):
        return words, shown(value, figure.unit), unit_shown(figure.unit)
    return words, shown(value, SHARE if name.startswith("loss.") else unit), unit


def _progress(elapsed: float, total: float | None) -> str:
    return f"{elapsed:.0f} s" if total is None else f"{elapsed:.0f} of {total:.0f} s"
