"""Comparisons: a difference counts when the repetitions' ranges are apart, and doubtful ones are loud."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from loadtest.results.compare import Comparison, Side, compare, compared, comparison_json, print_comparison
from loadtest.results.console import output
from loadtest.results.schema import Results, Verdict, write_results
from tests.unit.loadtest.results.sample import repeated, sample


def of(figure: str, *values: float | None) -> Results:
    """Results with one figure, so often repeated."""
    results = sample()
    results.repetitions = [{figure: value} for value in values]
    return results


def word(figure: str, a: list[float | None], b: list[float | None]) -> str:
    return one(figure, a, b).rows[0].word


def one(figure: str, a: list[float | None], b: list[float | None]) -> Comparison:
    return compared(Side(["A.json"], [of(figure, *a)]), Side(["B.json"], [of(figure, *b)]))


def shown(comparison: Comparison) -> str:
    file = io.StringIO()
    print_comparison(comparison, output(file))
    return file.getvalue()


@pytest.mark.parametrize(
    ("figure", "a", "b", "expected"),
    [
        ("latency.p50", [1.0, 1.1], [1.2, 1.3], "worse"),
        ("latency.p50", [1.2, 1.3], [1.0, 1.1], "better"),
        ("packets.rate", [1.0, 1.1], [1.2, 1.3], "better"),
        ("packets.rate", [1.2, 1.3], [1.0, 1.1], "worse"),
        ("target.threads", [1.0, 1.0], [2.0, 2.0], "higher"),
        ("target.threads", [2.0, 2.0], [1.0, 1.0], "lower"),
        ("latency.p50", [1.0, 1.2], [1.2, 1.3], "same within noise"),
        ("latency.p50", [1.0, 9.0], [2.0, 2.1], "same within noise"),
        ("latency.p50", [1.0], [2.0], "spread unknown"),
        ("latency.p50", [1.0], [2.0, 2.1], "spread unknown"),
        ("latency.p50", [2.05], [2.0, 2.1], "same within noise"),
        ("joins.failed", [0.0, 0.0], [0.0, 0.0], "same"),
        ("latency.p50", [None, None], [1.0, 2.0], "only in B"),
        ("latency.p50", [1.0, 2.0], [None], "only in A"),
    ],
)
def test_a_difference_is_named_by_its_spread(
    figure: str, a: list[float | None], b: list[float | None], expected: str
) -> None:
    assert word(figure, a, b) == expected


def test_the_median_and_the_range_are_over_all_files_of_a_side(tmp_path: Path) -> None:
    files = {"a1": of("latency.p50", 1.0, 2.0), "a2": of("latency.p50", 9.0), "b": of("latency.p50", 4.0, None)}
    for name, results in files.items():
        write_results(results, tmp_path / name)
    comparison = compare([tmp_path / "a1", tmp_path / "a2"], [tmp_path / "b"])
    (row,) = comparison.rows
    assert row.a and (row.a.median, row.a.low, row.a.high, row.a.count) == (2.0, 1.0, 9.0, 3)
    assert row.b and row.b.count == 1 and row.ratio == 2.0


def test_a_ratio_to_zero_is_unknown() -> None:
    (row,) = one("joins.failed", [0.0, 0.0], [1.0, 2.0]).rows
    assert row.ratio is None and row.word == "worse"


def test_the_table_shows_medians_ranges_ratios_and_words() -> None:
    text = shown(one("latency.p50", [1.0, 1.1, 1.2], [2.0, 2.2, 2.4]))
    assert "1.10 (1–1.20)" in text and "2.20 (2–2.40)" in text and "2.00" in text and "worse" in text
    assert "Do not trust" not in text
    assert "spread unknown" in shown(one("latency.p50", [1.0], [2.0]))
    assert "10.51M" not in text and "0.1 % (0.05–0.2 %)" in shown(one("loss.after", [0.0005, 0.001, 0.002], [0.0]))


def test_the_same_runs_differ_in_nothing() -> None:
    comparison = compared(Side(["A"], [repeated()]), Side(["B"], [repeated()]))
    assert {row.word for row in comparison.rows} <= {"same", "same within noise"}
    assert not comparison.loud and not comparison.warnings


@pytest.mark.parametrize(("verdict", "words"), [("no verdict", "NO VERDICT"), ("interrupted", "INTERRUPTED")])
def test_results_without_a_verdict_are_never_compared_silently(verdict: Verdict, words: str) -> None:
    doubtful = repeated(9, slower=3)
    doubtful.verdict, doubtful.notes = verdict, ["The tool was the bottleneck."]
    comparison = compared(Side(["A.json"], [repeated()]), Side(["B.json"], [doubtful]))
    text = shown(comparison)
    assert text.count("Do not trust this comparison") == 2 and "B is (do not trust)" in text
    assert f"B.json {'has' if verdict == 'no verdict' else 'was'} {words}: The tool was the bottleneck." in text
    assert json.loads(comparison_json(comparison))["trusted"] is False


def test_a_run_that_was_broken_off_is_never_compared_silently() -> None:
    broken = repeated(9)
    broken.broken_off = "the target's process ended with 1"
    comparison = compared(Side(["A.json"], [broken]), Side(["B.json"], [repeated()]))
    text = shown(comparison)
    assert comparison.loud == ["A.json was BROKEN OFF: the target's process ended with 1"]
    assert text.count("Do not trust this comparison") == 2 and text.count(comparison.loud[0]) == 2
    assert json.loads(comparison_json(comparison))["trusted"] is False


def test_other_circumstances_are_warned_of() -> None:
    other = sample(name="meeting")
    other.machine = other.machine | {"cpu": "Another", "weir": "0.2.0"}
    other.scenario.seed = 2
    comparison = compared(Side(["A"], [sample()]), Side(["B"], [other]))
    assert comparison.warnings == [
        "The scenario differs: A 'webinar'; B 'meeting'.",
        "The seed differs: A 1; B 2.",
        "The machine (cpu) differs: A A Processor @ 3.00 GHz; B Another.",
        "The tool version differs: A 0.1.0; B 0.2.0.",
    ]
    assert "Warning: The tool version differs" in shown(comparison)


def test_a_scenario_that_was_edited_is_warned_of() -> None:
    other = sample()
    other.scenario.text += "# more\n"
    comparison = compared(Side(["A"], [sample()]), Side(["B"], [other]))
    assert comparison.warnings == ["The scenarios have the same name but other contents."]


def test_runs_that_were_not_interleaved_are_warned_of() -> None:
    times = {"A": ["2025-01-01T00:00", "2025-01-01T00:10"], "B": ["2025-01-01T00:20", "2025-01-01T00:30"]}
    sides = {name: Side([f"{name}1", f"{name}2"], [sample(), sample()]) for name in times}
    for name, starts in times.items():
        for results, started in zip(sides[name].results, starts, strict=True):
            results.started = started
    assert "drift" in compared(sides["A"], sides["B"]).warnings[0]
    sides["B"].results[0].started = "2025-01-01T00:05"
    assert not compared(sides["A"], sides["B"]).warnings


def test_a_comparison_as_json_has_every_figure() -> None:
    body = json.loads(comparison_json(one("latency.p50", [1.0, 1.1], [2.0, 2.2])))
    assert body["schema"] == "weir.loadtest.comparison/1" and body["trusted"] is True
    assert body["a"] == {"files": ["A.json"], "targets": ["http://127.0.0.1:7880"], "repetitions": 2}
    assert body["figures"]["latency.p50"]["word"] == "worse" and body["figures"]["latency.p50"]["ratio"] == 2.0


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    write_results(sample(), tmp_path / "good.json")
    with pytest.raises(ValueError, match=r"bad\.json"):
        compare([tmp_path / "good.json"], [tmp_path / "bad.json"])
    with pytest.raises(OSError, match=r"absent\.json"):
        compare([tmp_path / "good.json"], [tmp_path / "absent.json"])
    with pytest.raises(ValueError, match="at least one"):
        compare([], [tmp_path / "good.json"])
