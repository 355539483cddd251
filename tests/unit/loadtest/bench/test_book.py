"""Figures, limits and how they are shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from loadtest.bench.book import Book, shown


def book() -> Book:
    made = Book({"cpu": "some"}, "weir bench")
    for value in (3.0, 1.0, 2.5):
        made.note("Cost", "even, 100", "µs", value, limit=2.5)
    made.note("Joins", "a second", "1/s", 149, limit=150, least=True)
    made.remark("the tool was the bottleneck")
    made.remark("the tool was the bottleneck")
    return made


def test_a_figure_is_judged_by_its_median() -> None:
    cost, joins = book().figures.values()
    assert cost.median == 2.5 and cost.reached() is True
    assert joins.reached() is False


def test_tables_show_least_median_and_most() -> None:
    out = io.StringIO()
    book().print(Console(file=out, width=120))
    text = out.getvalue()
    assert "1" in text and "2.50" in text and "≤ 2.5" in text and "≥ 150" in text
    assert text.count("the tool was the bottleneck") == 1


def test_json_holds_every_value(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    book().write(file)
    read = json.loads(file.read_text())
    assert read["figures"][0]["values"] == [3.0, 1.0, 2.5] and read["machine"] == {"cpu": "some"}


def test_numbers_are_short() -> None:
    assert [shown(x) for x in (3.0, 1.23456, 12345.6, 0.0123, float("nan"))] == ["3", "1.23", "12,346", "0.01", "-"]
