"""The results file: what is written is read back and fits the published schema; what is wrong is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from loadtest.results.figures import FIGURES, GROUPS, group_of, shown, unit_shown
from loadtest.results.schema import SCHEMA, from_json, read_results, results_schema, to_json, write_results
from tests.unit.loadtest.results.sample import repeated, sample


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    results = repeated()
    write_results(results, tmp_path / "run.json")
    assert read_results(tmp_path / "run.json") == results
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_what_is_written_fits_the_published_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(results_schema())
    jsonschema.Draft202012Validator(results_schema()).validate(json.loads(to_json(repeated())))


def test_values_that_json_does_not_know_become_null() -> None:
    results = sample()
    results.figures = {"latency.p50": float("nan"), "latency.max": float("inf"), "tool.cpu": np.float64(3.5)}
    results.series = {"time": np.arange(2.0).tolist(), "joined": [float("nan"), 1.0]}
    read = from_json(to_json(results))
    assert read.figures == {"latency.p50": None, "latency.max": None, "tool.cpu": 3.5}
    assert read.series["joined"] == [None, 1.0]


def test_text_that_utf8_can_not_hold_is_written_all_the_same() -> None:
    results = sample()
    results.notes = ["half a character \ud800", "µ"]
    assert from_json(to_json(results)).notes == ["half a character ?", "µ"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "weir.loadtest.results/2"}, "newer version"),
        ({"schema": "weir.loadtest.results/0"}, "schema is"),
        ({"schema": "something else"}, "schema is"),
        ({"schema": None}, "schema is missing"),
        ({"figures": {"latency.p50": "1"}}, "figures.latency.p50: input should be a valid number"),
        ({"figures": {"latency.p51": 1}}, "figures.latency.p51: 'latency.p51' is no figure"),
        ({"repetitions": [{}, {"bogus": 1}]}, "repetitions.1.bogus"),
        ({"series": {"time": [1.0, 2.0], "joined": [1.0]}}, "series: joined has 1 values for 2 times"),
        ({"series": {"joined": []}}, "series: time is missing"),
        ({"series": {"time": [None]}}, "series: time has a null"),
        ({"distributions": {"latency": {"unit": "ms", "bounds": [1, 2], "counts": [1]}}}, "distributions.latency"),
        ({"distributions": {"latency": {"unit": "ms", "bounds": [2, 1], "counts": [1, 1]}}}, "bounds do not rise"),
        ({"distributions": {"latency": {"unit": "ms", "bounds": [1], "counts": [-1]}}}, "latency.counts.0"),
        ({"verdict": "fine"}, "verdict"),
        ({"extra": 1}, "extra: unknown key"),
        ({"target": {"url": "u", "driver": "d", "pid": 1.5}}, "target.pid"),
        ({"duration": "90"}, "duration"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_key(change: dict[str, Any], complaint: str) -> None:
    text = json.dumps(json.loads(to_json(sample())) | change)
    with pytest.raises(ValueError, match="run.json") as refused:
        from_json(text, "run.json")
    assert complaint in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"schema": NaN}', b"\xff\xfe"])
def test_what_is_no_results_file_at_all_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="run.json"):
        from_json(text, "run.json")


def test_all_complaints_are_counted() -> None:
    with pytest.raises(ValueError, match=r"more\)"):
        from_json(json.dumps({"schema": SCHEMA}))


def test_each_figure_has_a_heading_and_a_meaning() -> None:
    assert {group_of(name) for name in FIGURES} == set(GROUPS)
    assert all(figure.text and figure.unit and figure.better in ("low", "high", None) for figure in FIGURES.values())
    with pytest.raises(KeyError):
        group_of("weather")


def test_values_are_shown_with_few_digits() -> None:
    assert [shown(value) for value in (None, 0.0, 3.0, 0.01234, 1.234, 12.34, 1234.6)] == [
        "–", "0", "3", "0.0123", "1.23", "12.3", "1,235",
    ]  # fmt: skip
    assert shown(0.00205, "share") == "0.205 %" and unit_shown("share") == "" and unit_shown("ms") == "ms"
    assert shown(float("nan")) == "–" and shown(0.00001) == "1.0e-05"
