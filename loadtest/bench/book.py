"""The figures of a run: noted as they come, printed as tables with minimum, median and spread, written as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

DIGITS = 4  # significant digits


@dataclass
class Figure:
    """One measured quantity over the repetitions; limit is what it should not pass (or, if least, not fall below)."""

    group: str
    case: str
    unit: str
    limit: float | None = None
    least: bool = False
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median over the repetitions."""
        return statistics.median(self.values)

    def reached(self) -> bool | None:
        """Whether the median keeps the limit; None without one."""
        if self.limit is None:
            return None
        return self.median >= self.limit if self.least else self.median <= self.limit


class Book:
    """All figures, in the order in which they were first noted, and remarks on what may have spoiled them."""

    def __init__(self, machine: dict[str, str], command: str) -> None:
        self.machine, self.command = machine, command
        self.figures: dict[tuple[str, str], Figure] = {}
        self.remarks: list[str] = []
        self.compared = self.wrong = 0  # packets opened by libsrtp and compared with what was sent

    def note(
        self, group: str, case: str, unit: str, value: float, *, limit: float | None = None, least: bool = False
    ) -> None:
        """Add one repetition's value."""
        figure = self.figures.setdefault((group, case), Figure(group, case, unit, limit, least))
        figure.values.append(value)

    def remark(self, text: str) -> None:
        """Note once what a reader of the figures must know."""
        if text not in self.remarks:
            self.remarks.append(text)

    def median(self, group: str, case: str, otherwise: float) -> float:
        """The median so far, or a value to go on with."""
        figure = self.figures.get((group, case))
        return figure.median if figure else otherwise

    def print(self, console: Console) -> None:
        """One table a group."""
        console.print(", ".join(f"{name} {value}" for name, value in self.machine.items()), style="dim")
        for group in dict.fromkeys(group for group, _ in self.figures):
            console.print(self._table(group))
        console.print(f"Packets opened and compared with what was sent: {self.compared:,}, wrong: {self.wrong:,}.")
        for remark in self.remarks:
            console.print(f"[yellow]Note:[/] {remark}")

    def _table(self, group: str) -> Table:
        table = Table(title=group, title_justify="left", title_style="bold")
        table.add_column("case")
        for name in ("min", "median", "max", "limit"):
            table.add_column(name, justify="right")
        table.add_column("unit")
        table.add_column("n", justify="right")
        for figure in (f for f in self.figures.values() if f.group == group):
            reached = figure.reached()
            colour = {True: "[green]", False: "[red]", None: ""}[reached]
            sign = "≥ " if figure.least else "≤ "
            limit = f"{sign}{figure.limit:g}" if figure.limit is not None else ""
            row = (shown(min(figure.values)), colour + shown(figure.median), shown(max(figure.values)), limit)
            table.add_row(figure.case, *row, figure.unit, str(len(figure.values)))
        return table

    def write(self, file: Path) -> None:
        """Everything as JSON."""
        figures = [asdict(figure) | {"median": figure.median} for figure in self.figures.values()]
        body = {
            "machine": self.machine,
            "command": self.command,
            "figures": figures,
            "compared": self.compared,
            "wrong": self.wrong,
            "remarks": self.remarks,
        }
        file.write_text(json.dumps(body, indent=2) + "\n")


def shown(value: float) -> str:
    """A number with a few significant digits, whole ones whole."""
    if value != value:
        return "-"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.{max(0, DIGITS - 1 - len(str(int(abs(value)))))}f}"
