"""The list of missing packets against a plain list: what is asked for, when again, and what is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from mediacodecs.missing import EVEN_TRIES, MAX_MISSING, MAX_TRIES, MISSING, forget, open_gap, remove, take_due
from tests.unit.mediacodecs.records import noisy

STATE = np.dtype(MISSING)
PAUSE = 100


@dataclass
class Twin:
    """The same with a list of [position, due, tries]."""

    waiting: list[list[int]] = field(default_factory=list)

    def open_gap(self, first: int, end: int, due: int) -> None:
        self.waiting = [*self.waiting, *([position, due, 0] for position in range(first, end))][-MAX_MISSING:]

    def forget(self, position: int) -> None:
        self.waiting = [entry for entry in self.waiting if entry[0] != position]

    def take_due(self, now: int) -> tuple[list[int], int]:
        vain = [entry for entry in self.waiting if entry[1] <= now and entry[2] >= MAX_TRIES]
        self.waiting = [entry for entry in self.waiting if entry not in vain]
        asked = [entry for entry in self.waiting if entry[1] <= now]
        for entry in asked:
            entry[2] += 1
            entry[1] = now + PAUSE * max(1, entry[2] - EVEN_TRIES + 1)
        return [entry[0] for entry in asked], len(vain)


class Missing:
    """A record and its twin, which must agree after every step."""

    def __init__(self) -> None:
        self.state, self.twin = noisy(STATE), Twin()
        self.state.missing_count = 0

    def open_gap(self, first: int, end: int, due: int) -> None:
        open_gap(self.state, first, end, due)
        self.twin.open_gap(first, end, due)
        self.check()

    def forget(self, position: int) -> None:
        forget(self.state, position)
        self.twin.forget(position)
        self.check()

    def take_due(self, now: int) -> list[int]:
        lost = np.full(MAX_MISSING, -7, np.int64)
        asked, vain = take_due(self.state, now, PAUSE, lost)
        found = lost[:asked].tolist()
        assert (found, vain) == self.twin.take_due(now)
        assert (lost[asked:] == -7).all()
        self.check()
        return found

    def check(self) -> None:
        count, s = int(self.state.missing_count), self.state
        rows = zip(s.missing[:count], s.missing_next[:count], s.missing_tries[:count], strict=True)
        assert [[int(value) for value in row] for row in rows] == self.twin.waiting


def test_packets_are_asked_for_after_the_grace_and_once_a_pause() -> None:
    missing = Missing()
    missing.open_gap(10, 13, due=5)
    assert missing.take_due(4) == [] and missing.take_due(5) == [10, 11, 12]
    missing.forget(11)
    missing.forget(99)
    assert missing.take_due(5 + PAUSE - 1) == [] and missing.take_due(5 + PAUSE) == [10, 12]


def test_pauses_grow_and_end() -> None:
    missing = Missing()
    missing.open_gap(10, 11, due=0)
    asked = [now for now in range(0, 100 * PAUSE, 10) if missing.take_due(now)]
    steps = [(after - before) // PAUSE for before, after in zip(asked, asked[1:], strict=False)]
    assert steps == [1, 1, 1, 2, 3, 4, 5, 6, 7] and len(asked) == MAX_TRIES
    assert missing.state.missing_count == 0


def test_the_oldest_make_room() -> None:
    missing = Missing()
    missing.open_gap(0, 100, due=0)
    missing.open_gap(200, 260, due=0)
    assert missing.take_due(0) == [*range(32, 100), *range(200, 260)]
    missing.open_gap(300, 300 + MAX_MISSING, due=0)
    assert missing.take_due(1) == [*range(300, 300 + MAX_MISSING)]


def test_positions_can_be_taken_out_of_the_middle() -> None:
    missing = Missing()
    missing.open_gap(0, 10, due=0)
    remove(missing.state, 3, 4)
    del missing.twin.waiting[3:7]
    missing.check()


@pytest.mark.parametrize("given_up", [1, 3, 40])
def test_those_behind_packets_that_are_given_up_stay_as_they_were(given_up: int) -> None:
    missing, now = Missing(), 0
    missing.open_gap(0, given_up, due=0)
    for _ in range(MAX_TRIES):
        now += 100 * PAUSE
        missing.take_due(now)
    missing.open_gap(500, 505, due=now + 100 * PAUSE)
    missing.open_gap(600, 602, due=now + 200 * PAUSE)
    assert missing.take_due(now + 100 * PAUSE) == [500, 501, 502, 503, 504]
    assert missing.take_due(now + 200 * PAUSE) == [500, 501, 502, 503, 504, 600, 601]


@pytest.mark.parametrize("size", [1, 2, MAX_MISSING - 1, MAX_MISSING])
def test_gap_that_just_fits_beside_the_others_drops_none(size: int) -> None:
    missing = Missing()
    missing.open_gap(0, MAX_MISSING - size, due=0)
    missing.open_gap(1000, 1000 + size, due=0)
    assert len(missing.take_due(0)) == MAX_MISSING


@pytest.mark.parametrize("seed", range(10))
def test_any_history_is_that_of_the_plain_list(seed: int) -> None:
    dice, missing, now, highest = random.Random(seed), Missing(), 0, 1000
    for _ in range(600):
        choice = dice.random()
        if choice < 0.2:
            first = highest + dice.randrange(1, 5)
            highest = first + dice.choice([1, 2, 5, MAX_MISSING])
            missing.open_gap(first, highest, now + dice.randrange(50))
        elif choice < 0.6 and missing.twin.waiting:
            missing.forget(dice.choice(missing.twin.waiting)[0])
        else:
            now += dice.choice([dice.randrange(150), 20 * PAUSE])
            missing.take_due(now)
