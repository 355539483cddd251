"""Outgoing numbers against a plain model: every sent packet one number, none twice, no gap for what was left out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mediaserver.engine.layout import EMPTY, MAP_FEED, MAP_POSITION, MAP_SIZE, PARAMETER_PACKET, SENT, SUBSCRIPTION
from mediaserver.engine.numbering import (
    insert,
    late_index,
    leave_out,
    mark_empty,
    next_index,
    position_of,
    start_at,
    word_of,
)
from packetio.memory import Table

FIRST_POSITION, FIRST_INDEX = 5 << 16, 9000
AROUND_FIRST = range(FIRST_INDEX - 2, FIRST_INDEX + 2)


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


def test_number_of_a_late_packet_that_is_left_out_is_used_up_and_says_so(numbered: Numbered) -> None:
    sub = numbered.sub
    next_index(sub, FIRST_POSITION)
    next_index(sub, FIRST_POSITION + 3)
    index = late_index(sub, FIRST_POSITION + 1)
    mark_empty(sub, index)
    word = word_of(sub, FIRST_INDEX + 1)
    assert word & EMPTY and word & SENT and position_of(word) == FIRST_POSITION + 1
    assert not word_of(sub, FIRST_INDEX + 2) & EMPTY and not word_of(sub, FIRST_INDEX + 3) & EMPTY
    assert late_index(sub, FIRST_POSITION + 1) == -1
    assert late_index(sub, FIRST_POSITION + 2) == FIRST_INDEX + 2


def test_largest_feed_and_position_fit_a_word(numbered: Numbered) -> None:
    sub = numbered.sub
    sub.feed = 2 * 16384  # twice the most layers that can be configured
    far = (1 << 44) - 10
    start_at(sub, far)
    index = next_index(sub, far)
    word = word_of(sub, index)
    assert word > 0 and (word >> MAP_FEED, position_of(word)) == (2 * 16384, far)


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


@dataclass
class Model:
    """The numbering as its rules read, with a dictionary of all words that were ever given."""

    words: dict[int, list[int]] = field(default_factory=dict)  # number -> [feed, position, bits]
    feed: int = 3
    number: int = FIRST_INDEX - 1
    start: int = FIRST_INDEX
    highest: int = 0
    dropped: int = 0

    def give(self, position: int, bits: int) -> int:
        self.number += 1
        self.words[self.number] = [self.feed, position, bits]
        return self.number

    def keep_up_to(self, position: int) -> None:
        """Numbers for those that have not come yet, unless they are more than the map holds."""
        if position - self.highest - 1 < MAP_SIZE:
            for missing in range(self.highest + 1, position):
                self.give(missing, 0)
        self.highest = position

    def next_index(self, position: int) -> int:
        self.keep_up_to(position)
        return self.give(position, SENT)

    def leave_out(self, position: int) -> None:
        self.keep_up_to(position)
        self.dropped += 1

    def insert(self, position: int) -> int:
        self.keep_up_to(position)
        self.highest = position - 1
        return self.give(position, SENT | PARAMETER_PACKET)

    def late_index(self, position: int) -> int:
        for number in range(max(self.start, self.number - MAP_SIZE + 1), self.number + 1):
            if self.words[number][1:] == [position, 0]:
                self.words[number][2] = SENT
                return number
        return -1

    def start_at(self, position: int) -> None:
        self.highest, self.start = position - 1, self.number + 1

    def word(self, number: int) -> list[int]:
        held = self.number - MAP_SIZE < number <= self.number
        return self.words.get(number, [0, 0, 0]) if held else [0, 0, 0]


class Compared:
    """A record and its model, which must agree after every step.

    The map is that of a subscription before, which read the same feed: nothing in it may be taken for this one's.
    """

    def __init__(self) -> None:
        self.numbered, self.model = Numbered(), Model()
        self.sub = self.numbered.sub
        for index in range(MAP_SIZE):
            position = FIRST_POSITION - 20 + (index - FIRST_INDEX) % MAP_SIZE
            self.numbered.map.rows[index] = 3 << MAP_FEED | position << MAP_POSITION | index % 4
        self.model.start_at(FIRST_POSITION)
        self.check()

    def insert(self, position: int) -> None:
        assert insert(self.sub, position) == self.model.insert(position)
        self.check()

    def next_index(self, position: int) -> None:
        assert next_index(self.sub, position) == self.model.next_index(position)
        self.check()

    def leave_out(self, position: int) -> None:
        leave_out(self.sub, position)
        self.model.leave_out(position)
        self.check()

    def late_index(self, position: int) -> None:
        assert late_index(self.sub, position) == self.model.late_index(position)
        self.check()

    def start_at(self, feed: int, position: int) -> None:
        self.sub.feed = self.model.feed = feed
        start_at(self.sub, position)
        self.model.start_at(position)
        self.check()

    def check(self) -> None:
        sub, model = self.sub, self.model
        assert (sub.out_highest, sub.highest, sub.out_start) == (model.number, model.highest, model.start)
        assert sub.dropped == model.dropped
        oldest = model.number - MAP_SIZE + 1
        for number in (*range(model.number - 3, model.number + 3), oldest - 1, oldest, oldest + 1, *AROUND_FIRST):
            self.check_word(number)

    def check_word(self, number: int) -> None:
        word = int(word_of(self.sub, number))
        got = [word >> MAP_FEED, position_of(word), word & (SENT | PARAMETER_PACKET)]
        assert got == self.model.word(number), number


def test_map_that_another_subscription_has_used_says_nothing() -> None:
    compared = Compared()
    for position in range(FIRST_POSITION - 40, FIRST_POSITION + 40):
        compared.late_index(position)
    compared.leave_out(FIRST_POSITION)
    compared.late_index(FIRST_POSITION)
    compared.next_index(FIRST_POSITION + 1)
    for position in range(FIRST_POSITION - 40, FIRST_POSITION + 2):
        compared.late_index(position)


@pytest.mark.parametrize("hole", [MAP_SIZE - 2, MAP_SIZE - 1, MAP_SIZE, MAP_SIZE + 1, 40_000])
@pytest.mark.parametrize("step", ["next_index", "leave_out", "insert"])
def test_holes_near_the_size_of_the_map(step: str, hole: int) -> None:
    compared = Compared()
    compared.next_index(FIRST_POSITION)
    position = FIRST_POSITION + 1 + hole
    getattr(compared, step)(position)
    compared.late_index(FIRST_POSITION)
    for late in range(FIRST_POSITION + 1, position, 61):
        compared.late_index(late)
    compared.next_index(position + 1)
    compared.late_index(position - 1)


@pytest.mark.parametrize("last", ["next_index", "leave_out", "insert"])
def test_first_and_last_kept_numbers_are_found(last: str) -> None:
    compared = Compared()
    compared.next_index(FIRST_POSITION + 3)
    getattr(compared, last)(FIRST_POSITION + 7)
    for position in (FIRST_POSITION, FIRST_POSITION + 6, FIRST_POSITION + 7, FIRST_POSITION + 2, FIRST_POSITION - 1):
        compared.late_index(position)


def test_oldest_kept_number_is_given_and_the_one_before_it_is_not() -> None:
    compared = Compared()
    compared.next_index(FIRST_POSITION + 10)
    for position in range(FIRST_POSITION + 11, FIRST_POSITION + MAP_SIZE + 1):
        compared.next_index(position)
    assert late_index(compared.sub, FIRST_POSITION) == -1
    compared.late_index(FIRST_POSITION + 1)
    compared.late_index(FIRST_POSITION + 2)


@pytest.mark.parametrize("seed", range(8))
def test_any_history_is_that_of_the_model(seed: int) -> None:
    dice, compared = random.Random(seed), Compared()
    model, highest = compared.model, FIRST_POSITION - 1
    holes = [0, 0, 0, 0, 0, 1, 2, 7] + [MAP_SIZE // 3] * (seed % 3) + [MAP_SIZE - 1, MAP_SIZE, 3000] * (seed % 4 == 3)
    for _ in range(700):
        what = dice.random()
        if what < 0.3:
            near = [word[1] for word in list(model.words.values())[-dice.choice([20, 20, 2 * MAP_SIZE]) :]]
            compared.late_index(dice.choice([*near, highest, highest - 1]) + dice.choice([0, 0, 0, 1, -1]))
            continue
        if what < 0.31:
            # the new positions may lie above the old ones or below, also right beside them
            highest = dice.choice([highest + dice.randrange(1, 5), FIRST_POSITION + dice.randrange(999), 1 << 43])
            compared.start_at(dice.randrange(1, 9), highest + 1)
        position = highest + 1 + dice.choice(holes)
        highest = position
        if what < 0.45:
            compared.leave_out(position)
            continue
        if what < 0.6:
            compared.insert(position)
        compared.next_index(position)
        compared.check_word(model.number - dice.randrange(MAP_SIZE + 5))
