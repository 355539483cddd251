"""Limits on figures, such as `"<= 50 ms"`: read strictly, and held against what a run measured.

A limit is an operator, a number and, if one is written, the figure's own unit: `<= 50 ms`, `>= 200`, `== 0`. Shares
may be in percent: `< 1 %` is `< 0.01`. Any other unit is a mistake and not converted.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtest.results.figures import COUNT, FIGURES, SHARE
from loadtest.results.schema import Expectation

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
FORM = re.compile(r"(<=|>=|==|<|>)\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*)")


class LimitError(ValueError):
    """Text that is no limit for its figure; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on one figure: `number` is in the figure's unit, `text` as it was written."""

    figure: str
    sign: str
    number: float
    text: str

    def holds(self, value: float | None) -> bool | None:
        """Whether a value keeps the limit; None when there is no value."""
        return None if value is None or value != value else OPERATORS[self.sign](value, self.number)


def figure_of(name: str) -> tuple[str | None, str]:
    """The group and the figure that a key of `expect` names: `latency.p99`, or `viewers/latency.p99` for one group."""
    group, slash, figure = name.rpartition("/")
    return (group if slash else None), figure


def parse_limit(name: str, text: str) -> Limit:
    """The limit that `expect` sets for a figure of this name. Raises LimitError; its text is what is expected."""
    unit = FIGURES[figure_of(name)[1]].unit
    match = FORM.fullmatch(text.strip())
    if match is None or not math.isfinite(float(match[2])):
        raise LimitError(f"<=, <, ==, > or >= and a number, such as {_example(unit)}")
    sign, number, written = match[1], float(match[2]), unicodedata.normalize("NFKC", match[3])
    if written == "%" and unit == SHARE:
        return Limit(name, sign, number / 100, text)
    if written and written not in (unicodedata.normalize("NFKC", unit), unit.split()[0]):
        raise LimitError(f"a limit in {_unit(unit)}, such as {_example(unit)}")
    return Limit(name, sign, number, text)


def _unit(unit: str) -> str:
    return {SHARE: "% or as a share without a unit", COUNT: "whole numbers without a unit"}.get(unit, unit)


def _example(unit: str) -> str:
    return {SHARE: '"<= 1 %"', COUNT: '"== 0"'}.get(unit, f'"<= 50 {unit}"')


def evaluate(
    expect: Mapping[str, str],
    figures: Mapping[str, float | None],
    groups: Mapping[str, Mapping[str, float | None]] | None = None,
) -> list[Expectation]:
    """Each limit, the value that it was held against, and whether it held (None: the value is missing).

    `groups` are the figures of each group, for limits written as group/figure.
    """
    found = []
    for name, text in expect.items():
        group, figure = figure_of(name)
        value = (figures if group is None else (groups or {}).get(group, {})).get(figure)
        held = parse_limit(name, text).holds(value)
        found.append(Expectation(figure=name, limit=text, value=None if held is None else value, held=held))
    return found
