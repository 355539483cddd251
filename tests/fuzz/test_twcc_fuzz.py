"""Transport-wide feedback: reading against the twin on any bytes, writing against the twin for any arrivals."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mediacodecs.rtcp import RTCP, next_rtcp
from mediacodecs.twcc import TWCC_STATE, twcc_read, twcc_receive, twcc_write
from tests.unit.mediacodecs import twcc_twin
from tests.unit.mediacodecs.records import AROUND, BUDGET, array, cuts, mutated, noisy, saved, zeroed
from tests.unit.mediacodecs.rtcp_twin import compound

SEEDS = saved("twcc")
ROOM = 9000  # numbers that the reader has room for


def agree(data: bytes) -> None:
    """Kernel and twin read the same from the first packet of the bytes, whatever surrounds them."""
    for packet in compound(data)[:1]:
        expected = twcc_twin.read(packet.body) if (packet.packet_type, packet.count) == (205, 15) else None
        if expected is not None and len(expected) > ROOM:
            expected = None
        for around in AROUND:
            b, item = array(around + data + around), noisy(RTCP)
            assert next_rtcp(b, len(around), len(around) + len(data), item) > 0
            numbers, arrivals = np.zeros(ROOM, np.int64), np.zeros(ROOM, np.int64)
            n = twcc_read(b, item, numbers, arrivals)
            found = list(zip(numbers[:n].tolist(), arrivals[:n].tolist(), strict=True)) if n >= 0 else None
            assert found == expected, data.hex()


@BUDGET
@given(st.integers(0, 65535), st.integers(0, 40), st.binary(max_size=60))
def test_random_reports(base: int, count: int, rest: bytes) -> None:
    body = bytes(8) + base.to_bytes(2, "big") + count.to_bytes(2, "big") + rest
    agree(b"\x8f\xcd" + (len(body) // 4).to_bytes(2, "big") + body)


@BUDGET
@given(mutated(SEEDS))
def test_changed_and_truncated_reports(data: bytes) -> None:
    agree(data)


def test_saved_reports_at_every_length() -> None:
    for data in cuts(SEEDS):
        agree(data)
        body = data[4 : len(data) // 4 * 4]
        agree(data[:2] + (len(body) // 4).to_bytes(2, "big") + body)


STEPS = st.one_of(st.integers(0, 3), st.integers(-40, 40), st.integers(0, 65535))
DELAYS = st.one_of(st.integers(0, 80), st.integers(-9000, 9000))  # ms
ARRIVALS = st.lists(st.tuples(STEPS, DELAYS, st.integers(0, 999_999)), min_size=1, max_size=60)


@BUDGET
@given(ARRIVALS, st.lists(st.integers(-1, 200), max_size=4))
def test_any_arrivals_are_reported_as_the_twin_does(arrivals: list[tuple[int, int, int]], limits: list[int]) -> None:
    state, twin = zeroed(TWCC_STATE), twcc_twin.Reporter()
    sequence, now = 65530, 40_000_000_000
    for k, (step, delay, fraction) in enumerate(arrivals):
        sequence, now = (sequence + step) % 65536, max(now + delay * 1_000_000, 0)
        twcc_receive(state, sequence, now + fraction)
        twin.receive(sequence, now + fraction)
        for limit in limits if k % 20 == 19 else ():
            report_the_same(state, twin, limit)
    while report_the_same(state, twin, 1200):
        pass


def report_the_same(state: Any, twin: twcc_twin.Reporter, limit: int) -> bool:
    b = np.full(max(limit, 0) + 16, 0xEE, np.uint8)
    end = twcc_write(state, b, 5, 5 + limit, 1, 2)
    assert bytes(b[5:end]) == twin.report(limit, 1, 2)
    assert bytes(b[:5]) == b"\xee" * 5 and bytes(b[end:]) == b"\xee" * (b.size - end)
    return bool(end > 5)
