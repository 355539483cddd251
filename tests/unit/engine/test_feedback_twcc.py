"""Transport-wide feedback: every number covered once, with the arrivals of the kernel's time stamps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mediacodecs.rtcp import RTCP, next_rtcp
from mediacodecs.twcc import NEVER, TICK, twcc_read, twcc_receive
from mediaserver.engine import layout as L
from mediaserver.engine.twcc_out import IDLE_INTERVAL, INTERVAL, LIMIT
from tests.unit.engine.desk import Desk, FarEnd, Track

FIRST_SSRC = 0xABCDEF01


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def publisher(desk: Desk) -> tuple[FarEnd, Any]:
    """A publisher that wants transport-wide feedback, and what the worker keeps for it."""
    end = desk.peer()
    end.record.next_report = 1 << 62
    Track(end)
    end.record.twcc = desk.worker.twcc_slots.take()
    end.record.ssrcs[0], end.record.ssrc_count = FIRST_SSRC, 1
    return end, desk.worker.twccs.clear(int(end.record.twcc))


def reports(end: FarEnd) -> list[dict[int, int]]:
    """The reports that were sent, as number -> arrival in ticks of 250 µs of 24 bits × 256, or NEVER."""
    found = []
    for compound in end.compounds():
        assert len(compound) <= LIMIT
        b = np.frombuffer(compound, np.uint8).copy()
        item = np.zeros(1, RTCP).view(np.recarray)[0]
        at = next_rtcp(b, 0, b.size, item)
        while at < b.size:
            at = next_rtcp(b, at, b.size, item)
        assert (item.packet_type, item.count, item.media_ssrc) == (205, 15, FIRST_SSRC)
        assert item.ssrc == end.record.rtcp_ssrc
        numbers, arrivals = np.zeros(1024, np.int64), np.zeros(1024, np.int64)
        n = twcc_read(b, item, numbers, arrivals)
        assert n > 0
        found.append(dict(zip(numbers[:n].tolist(), arrivals[:n].tolist(), strict=True)))
    return found


@pytest.mark.parametrize("reduced_size", [0, 1])
def test_every_number_is_covered_once_with_its_arrival(desk: Desk, reduced_size: int) -> None:
    rng = random.Random(reduced_size)
    end, state = publisher(desk)
    end.record.reduced_size = reduced_size
    truth: dict[int, int] = {}
    covered: dict[int, int] = {}
    number = 65000
    for _ in range(200):
        for _ in range(rng.randint(0, 9)):
            if rng.random() < 0.9:
                truth[number & 0xFFFF] = desk.w.now - rng.randrange(3 * L.MS)
                twcc_receive(state, number & 0xFFFF, truth[number & 0xFFFF])
            number += 1
        desk.pass_time(10 * L.MS)
        for report in reports(end):
            assert not covered.keys() & report.keys()
            covered |= report
    desk.pass_time(200 * L.MS)
    for report in reports(end):
        covered |= report
    assert {n for n, arrival in covered.items() if arrival != NEVER} == truth.keys()
    cycle = 256 * TICK << 24
    for n, arrival in truth.items():
        off = (covered[n] - arrival + cycle // 2) % cycle - cycle // 2
        assert abs(off) <= TICK


def test_reports_go_out_every_50_ms_while_packets_come_and_not_when_idle(desk: Desk) -> None:
    end, state = publisher(desk)
    for k in range(100):
        twcc_receive(state, k, desk.w.now)
        desk.pass_time(10 * L.MS)
    assert abs(len(reports(end)) - L.SECOND // INTERVAL) <= 1
    desk.pass_time(IDLE_INTERVAL)
    reports(end)
    desk.pass_time(5 * L.SECOND)
    assert reports(end) == []
    twcc_receive(state, 100, desk.w.now)
    desk.pass_time(IDLE_INTERVAL)
    assert len(reports(end)) == 1


def test_more_arrivals_than_one_report_holds_go_out_in_several(desk: Desk) -> None:
    end, state = publisher(desk)
    for k in range(1000):
        twcc_receive(state, k, desk.w.now + k * 70 * L.MS % (200 * L.MS))  # deltas of 16 bits
    desk.pass_time(10 * L.MS)
    found = reports(end)
    assert len(found) > 1
    assert sorted(n for report in found for n in report) == list(range(1000))
    assert desk.w.twcc_out == len(found)


def test_peer_that_did_not_agree_to_feedback_gets_none(desk: Desk) -> None:
    end, state = publisher(desk)
    twcc_receive(state, 1, desk.w.now)
    end.record.twcc = 0
    desk.pass_time(500 * L.MS)
    assert end.datagrams() == []
