"""Jitter and report blocks against RFC 3550's words in plain Python, over wraps, losses and jumps."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mediacodecs.reception import RECEPTION, count_reception, fill_block
from mediacodecs.rtcp import REPORT_BLOCK
from tests.unit.mediacodecs.records import fields, noisy, zeroed

STATE = np.dtype([("ssrc", "i8"), *RECEPTION])
RATE = 90_000
SECOND = 1_000_000_000  # ns
SANE = 5  # s
START = 1_000_000 * SECOND


class Jitter:
    """RFC 3550 6.4.1 in real numbers."""

    def __init__(self) -> None:
        self.jitter = 0.0
        self.before: tuple[int, int] | None = None

    def take(self, timestamp: int, arrival: int, rate: int) -> None:
        if self.before:
            sent = (timestamp - self.before[0] + (1 << 31)) % (1 << 32) - (1 << 31)
            step = abs((arrival - self.before[1]) / SECOND * rate - sent)
            self.jitter += (step - self.jitter) / 16
        self.before = timestamp, arrival


@pytest.mark.parametrize("rate", [8_000, 48_000, 90_000])
@pytest.mark.parametrize("first", [0, (1 << 32) - 9_000])
def test_jitter_is_that_of_the_rfc(rate: int, first: int) -> None:
    dice, state, twin = random.Random(rate + first), zeroed(STATE), Jitter()
    for k in range(400):
        timestamp = (first + k * rate // 25) % (1 << 32)
        arrival = START + k * SECOND // 25 + dice.randrange(30_000_000)
        count_reception(state, timestamp, arrival, rate)
        twin.take(timestamp, arrival, rate)
        assert abs(state.jitter / 16 - twin.jitter) < 2
    assert twin.jitter > rate / 1000


def rounded(jitter: int, step: int) -> int:
    """The estimate after one more step, in the whole numbers of RFC 3550 A.8: J += d - ((J + 8) >> 4)."""
    return jitter + step - (jitter + 8) // 16


@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 15, 16, 17, 100])
def test_jitter_is_rounded_as_the_rfc_does(step: int) -> None:
    state, expected = zeroed(STATE), 0
    count_reception(state, 0, START, RATE)
    for k in range(1, 120):
        if k < 60:
            expected = rounded(expected, step)
        else:
            expected = rounded(expected, 0)
        count_reception(state, 3600 * k - step * min(k, 59), START + 40_000_000 * k, RATE)
        assert state.jitter == expected


@pytest.mark.parametrize("offset", [0, 1, 1000, (1 << 32) - 1])
def test_first_packet_says_nothing_about_jitter(offset: int) -> None:
    state = zeroed(STATE)
    count_reception(state, START // SECOND * RATE - offset & 0xFFFFFFFF, START, RATE)
    assert state.jitter == 0
    count_reception(state, START // SECOND * RATE - offset + 3600 & 0xFFFFFFFF, START + 40_000_000, RATE)
    assert state.jitter == 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("step", "counts"), [(SANE * RATE - 1, True), (SANE * RATE, False), (SANE * RATE + 1, False)])
def test_step_counts_up_to_five_seconds(step: int, counts: bool, sign: int) -> None:
    state = zeroed(STATE)
    count_reception(state, SANE * RATE, START, RATE)
    count_reception(state, SANE * RATE + sign * step, START, RATE)
    assert state.jitter == (step if counts else 0)


def test_an_even_stream_has_no_jitter() -> None:
    state = zeroed(STATE)
    for k in range(100):
        count_reception(state, 3600 * k, START + 40_000_000 * k, RATE)
    assert state.jitter == 0


def test_a_jump_of_the_time_stamp_says_nothing_about_jitter() -> None:
    state = zeroed(STATE)
    for k in range(100):
        count_reception(state, 3600 * k + (k >= 50) * (SANE + 1) * RATE, START + 40_000_000 * k, RATE)
    assert state.jitter == 0


def report(state: Any, now: int = START) -> dict[str, Any]:
    block = noisy(REPORT_BLOCK)
    fill_block(state, now, block)
    return fields(block)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_tell_what_was_expected_and_came(seed: int) -> None:
    dice = random.Random(seed)
    first = (1 << 16) + dice.choice([0, 100, 65_500])
    state, came, before = zeroed(STATE), set[int](), (0, 0)
    state.ssrc, state.first_position, position = 77, first, first - 1
    for _ in range(30):
        for _ in range(dice.randrange(200)):
            position += 1
            if position == first or dice.random() < 0.8:
                came.add(position)
        if not came:
            continue
        state.highest, state.received = max(came), len(came)
        expected = max(came) - first + 1
        interval, lost = expected - before[0], expected - before[0] - (len(came) - before[1])
        before = expected, len(came)
        block = report(state)
        assert block["ssrc"] == 77 and block["lost"] == expected - len(came)
        assert block["fraction"] == (min(256 * lost // interval, 255) if interval and lost > 0 else 0)
        assert block["highest"] == ((max(came) >> 16) - (first >> 16) << 16 | max(came) & 0xFFFF)


@pytest.mark.parametrize(
    ("jitter", "told"), [(0, 0), (15, 0), (16, 1), (0x12345, 0x1234), ((1 << 36) - 1, (1 << 32) - 1), (1 << 36, 0)]
)
def test_jitter_is_told_in_whole_units(jitter: int, told: int) -> None:
    state = zeroed(STATE)
    state.jitter = jitter
    assert report(state)["jitter"] == told


@pytest.mark.parametrize(
    ("came", "fraction"), [(0, 255), (1, 192), (3, 64), (4, 0), (5, 0), (7, 0)]
)  # of an interval of four
def test_fraction_is_that_of_the_interval_and_never_below_nothing(came: int, fraction: int) -> None:
    state = zeroed(STATE)
    state.first_position = 1 << 16
    state.highest, state.received = (1 << 16) + 99, 100
    assert report(state)["fraction"] == 0
    assert report(state)["fraction"] == 0  # an interval of nothing
    state.highest, state.received = (1 << 16) + 103, 100 + came
    assert report(state)["fraction"] == fraction
    state.received += 5
    assert report(state)["fraction"] == 0
    state.highest += 1
    assert report(state)["fraction"] == 255


def test_repetitions_and_all_lost_stay_within_their_bits() -> None:
    state = zeroed(STATE)
    state.first_position = state.highest = 1 << 16
    state.received = 1 << 24
    assert (report(state)["lost"], report(state)["fraction"]) == (-0x800000, 0)
    state.highest += 1 << 25
    block = report(state)
    assert (block["lost"], block["fraction"]) == (0x7FFFFF, 255)


def test_the_newest_sender_report_is_named_with_the_time_since() -> None:
    state = zeroed(STATE)
    assert (report(state)["lsr"], report(state)["dlsr"]) == (0, 0)
    state.sr_middle, state.sr_arrival = 0x12345678, START
    block = report(state, START + 1_500_000_000)
    assert (block["lsr"], block["dlsr"]) == (0x12345678, 3 << 15)
    assert report(state, START + (1 << 17) * SECOND)["dlsr"] == 0xFFFFFFFF


@pytest.mark.parametrize(("since", "told"), [(0, 0), (1, 0), (15_259, 1), (SECOND // 2, 1 << 15), (SECOND - 1, 65_535)])
@pytest.mark.parametrize("seconds", [0, 1, 65_535])
def test_time_since_the_sender_report_is_told_in_whole_units(seconds: int, since: int, told: int) -> None:
    state = zeroed(STATE)
    state.sr_arrival = START
    assert report(state, START + seconds * SECOND + since)["dlsr"] == seconds * 65_536 + told
