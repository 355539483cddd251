"""Lines that strangers cause: the first is said, a flood is counted."""

from __future__ import annotations

from mediaserver import seldom
from mediaserver.seldom import BURST, EACH, Seldom


def test_first_line_about_a_source_is_said_and_the_next_after_a_while() -> None:
    lines = Seldom()
    assert lines.due("a", 100.0) == 0
    assert [lines.due("a", 101.0 + k) for k in range(5)] == [None] * 5
    assert lines.due("a", 100.0 + EACH) == 5


def test_many_sources_together_are_not_more_than_a_few_lines() -> None:
    lines = Seldom()
    said = [lines.due(str(k), 100.0 + k / 1000) for k in range(10_000)]  # ten seconds of a thousand sources each
    told = [one for one in said if one is not None]
    assert BURST <= len(told) <= BURST + 11
    assert sum(told) + len(told) <= 10_000 and sum(told) > 8000, "those that were left out are counted"


def test_memory_is_bounded() -> None:
    lines = Seldom()
    for k in range(3 * seldom.REMEMBERED):
        assert lines.due(str(k), 100.0 * k) is not None
    assert len(lines._said) <= seldom.REMEMBERED
