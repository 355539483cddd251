"""Limits on figures are read strictly and held against what was measured."""

from __future__ import annotations

import pytest

from loadtest.scenario import LimitError, evaluate, parse_limit


@pytest.mark.parametrize(
    ("figure", "text", "number"),
    [
        ("latency.p99", "<= 50 ms", 50.0),
        ("latency.p99", "  <=50ms ", 50.0),
        ("packets.rate", ">= 2e5", 200_000.0),
        ("joins.failed", "== 0", 0.0),
        ("loss.after", "< 1 %", 0.01),
        ("loss.after", "<= 0.001", 0.001),
        ("joins.rate", "> 200 1/s", 200.0),
        ("target.cpu", "< 90 %", 90.0),
        ("target.cpu", "< 90 % of a core", 90.0),
        ("tool.cpu_per_packet", "< 2.5 µs", 2.5),
        ("tool.cpu_per_packet", "< 2.5 \u03bcs", 2.5),
        ("viewers/latency.p99", "<= 5 ms", 5.0),
    ],
)
def test_a_limit_is_an_operator_a_number_and_the_figures_unit(figure: str, text: str, number: float) -> None:
    limit = parse_limit(figure, text)
    assert (limit.number, limit.text) == (pytest.approx(number), text)


@pytest.mark.parametrize(
    ("figure", "text", "expected"),
    [
        ("latency.p99", "50 ms", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "= 50 ms", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "<= fifty ms", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "<= nan", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "<= 1e999 ms", '<=, <, ==, > or >= and a number, such as "<= 50 ms"'),
        ("latency.p99", "<= 0.05 s", 'a limit in ms, such as "<= 50 ms"'),
        ("latency.p99", "<= 5 % ms", 'a limit in ms, such as "<= 50 ms"'),
        ("latency.p99", "<= 5 6 ms", 'a limit in ms, such as "<= 50 ms"'),
        ("loss.after", "<= 1 ‰", 'a limit in % or as a share without a unit, such as "<= 1 %"'),
        ("joins.failed", "== 0 %", 'a limit in whole numbers without a unit, such as "== 0"'),
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(figure: str, text: str, expected: str) -> None:
    with pytest.raises(LimitError) as caught:
        parse_limit(figure, text)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "below", "same", "above"),
    [
        ("<= 5", True, True, False),
        ("< 5", True, False, False),
        ("== 5", False, True, False),
        (">= 5", False, True, True),
        ("> 5", False, False, True),
    ],
)
def test_operators_mean_what_they_say(text: str, below: bool, same: bool, above: bool) -> None:
    limit = parse_limit("latency.p99", text)
    assert [limit.holds(value) for value in (4.9, 5.0, 5.1)] == [below, same, above]


def test_each_limit_is_held_against_its_figure() -> None:
    limits = {
        "latency.p99": "<= 50 ms",
        "loss.after": "< 1 %",
        "late/latency.p99": "<= 50 ms",
        "gone/latency.p99": "<= 50 ms",
        "target.cpu": "< 90 %",
        "freezes.longest": "< 1 s",
    }
    figures = {"latency.p99": 49.0, "loss.after": 0.02, "target.cpu": None, "freezes.longest": float("nan")}
    found = evaluate(limits, figures, {"late": {"latency.p99": 51.0}})
    assert [(one.figure, one.limit) for one in found] == list(limits.items())
    assert [one.value for one in found] == [49.0, 0.02, 51.0, None, None, None]
    assert [one.held for one in found] == [True, False, False, None, None, None]
