"""Outgoing numbers against a plain model: every sent packet one number, none twice, no gap for what was left out."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mediaserver.engine.layout import MAP_SIZE, PARAMETER_PACKET, SENT, SUBSCRIPTION
from mediaserver.engine.numbering import insert, late_index, leave_out, next_index, position_of, start_at, word_of
from packetio.memory import Table

FIRST_POSITION, FIRST_INDEX = 5 << 16, 9000


class Numbered:
    """A subscription that is about to send its first packet."""

    def __init__(self) -> None:
        self.table, self.map = Table(SUBSCRIPTION, 1), Table(np.dtype("i8"), MAP_SIZE)
        self.sub: Any = self.table.rows[0]
        self.sub.map = self.map.address
        self.sub.out_first = FIRST_INDEX
        self.sub.out_highest = FIRST_INDEX - 1
        self.sub.feed = 3
        start_at(self.sub, FIRST_POSITION)


@pytest.fixture
def numbered() -> Numbered:
    return Numbered()


def test_in_order_packets_get_consecutive_numbers(numbered: Numbered) -> None:
    got = [next_index(numbered.sub, FIRST_POSITION + k) for k in range(50)]
    assert got == list(range(FIRST_INDEX, FIRST_INDEX + 50))


def test_a_hole_keeps_its_numbers_and_late_packets_take_them_once(numbered: Numbered) -> None:
    sub = numbered.sub
    next_index(sub, FIRST_POSITION)
    assert next_index(sub, FIRST_POSITION + 4) == FIRST_INDEX + 4
    assert late_index(sub, FIRST_POSITION + 2) == FIRST_INDEX + 2
    assert late_index(sub, FIRST_POSITION + 2) == -1
    assert late_index(sub, FIRST_POSITION + 4) == -1
    assert late_index(sub, FIRST_POSITION - 1) == -1


def test_left_out_packets_close_the_numbering(numbered: Numbered) -> None:
    sub = numbered.sub
    next_index(sub, FIRST_POSITION)
    leave_out(sub, FIRST_POSITION + 1)
    leave_out(sub, FIRST_POSITION + 2)
    assert next_index(sub, FIRST_POSITION + 3) == FIRST_INDEX + 1
    assert position_of(word_of(sub, FIRST_INDEX + 1)) == FIRST_POSITION + 3
    assert late_index(sub, FIRST_POSITION + 1) == -1


def test_inserted_packet_shifts_what_follows(numbered: Numbered) -> None:
    sub = numbered.sub
    next_index(sub, FIRST_POSITION)
    assert insert(sub, FIRST_POSITION + 1) == FIRST_INDEX + 1
    assert next_index(sub, FIRST_POSITION + 1) == FIRST_INDEX + 2
    assert word_of(sub, FIRST_INDEX + 1) & (PARAMETER_PACKET | SENT) == PARAMETER_PACKET | SENT


def test_a_hole_larger_than_the_map_is_closed(numbered: Numbered) -> None:
    sub = numbered.sub
    next_index(sub, FIRST_POSITION)
    assert next_index(sub, FIRST_POSITION + 5000) == FIRST_INDEX + 1


def test_numbers_go_on_from_another_feed(numbered: Numbered) -> None:
    sub = numbered.sub
    last = [next_index(sub, FIRST_POSITION + k) for k in range(5)][-1]
    start_at(sub, 77 << 16)
    assert next_index(sub, 77 << 16) == last + 1
    assert late_index(sub, FIRST_POSITION + 2) == -1


def test_numbers_that_were_never_given_or_are_too_old_have_no_word(numbered: Numbered) -> None:
    sub = numbered.sub
    for k in range(MAP_SIZE + 10):
        next_index(sub, FIRST_POSITION + k)
    assert word_of(sub, FIRST_INDEX + 5) == 0
    assert word_of(sub, FIRST_INDEX + MAP_SIZE + 10) == 0
    assert word_of(sub, FIRST_INDEX - 1) == 0
    assert word_of(sub, FIRST_INDEX + 20) & SENT


@pytest.mark.parametrize("seed", range(5))
def test_numbering_agrees_with_a_plain_model(seed: int) -> None:
    rng = random.Random(seed)
    numbered = Numbered()
    sub = numbered.sub
    kept: dict[int, int] = {}  # position -> number kept for it
    sent: dict[int, int] = {}  # number -> position
    highest, number = FIRST_POSITION - 1, FIRST_INDEX - 1
    for _ in range(1500):
        if rng.random() < 0.25 and kept:
            position = rng.choice(list(kept))
            index = late_index(sub, position)
            expected = kept.pop(position)
            if expected > number - MAP_SIZE:
                assert index == expected
                assert sent.setdefault(index, position) == position
            else:
                assert index == -1
            continue
        position = highest + rng.choice([1, 1, 1, 2, 5])
        for missing in range(highest + 1, position):
            number += 1
            kept[missing] = number
        highest = position
        if rng.random() < 0.2:
            leave_out(sub, position)
            continue
        number += 1
        assert next_index(sub, position) == number
        assert sent.setdefault(number, position) == position
    assert len(set(sent.values())) == len(sent)
