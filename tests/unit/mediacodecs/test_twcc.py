"""Transport-wide feedback: what arrives is reported once, in parts where it must be, and read again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RtcpPacket, RtcpRtpfbPacket

from mediacodecs.rtcp import RTCP, next_rtcp
from mediacodecs.twcc import NEVER, RING, TICK, TWCC_STATE, twcc_read, twcc_receive, twcc_write
from tests.unit.mediacodecs import twcc_twin
from tests.unit.mediacodecs.records import array, noisy, zeroed

ME, YOU = 0xFFFFFFFE, 0x80000001
MS = 1_000_000
START = 50_000_000 * MS


class Pair:
    """The kernels and the twin, given the same packets; each report must be the same to the byte."""

    def __init__(self) -> None:
        self.state, self.twin = zeroed(TWCC_STATE), twcc_twin.Reporter()

    def receive(self, sequence: int, arrival: int) -> None:
        twcc_receive(self.state, sequence, arrival)
        self.twin.receive(sequence, arrival)

    def report(self, limit: int = 1200) -> bytes:
        b = np.full(3 + max(limit, 0) + 8, 0xEE, np.uint8)
        end = twcc_write(self.state, b, 3, 3 + limit, ME, YOU)
        assert end <= 3 + max(limit, 0)
        assert bytes(b[:3]) == b"\xee" * 3 and bytes(b[end:]) == b"\xee" * (b.size - end)
        data = bytes(b[3:end])
        assert data == self.twin.report(limit, ME, YOU)
        return data

    def drain(self, limit: int = 1200) -> list[list[tuple[int, int]]]:
        """What the reports say until there is nothing left."""
        found = []
        while data := self.report(limit):
            found.append(read(data))
        return found


def read(data: bytes) -> list[tuple[int, int]]:
    """Numbers and arrivals by the kernel; the twin and aiortc must take the packet too."""
    item, numbers, arrivals = noisy(RTCP), np.zeros(RING, np.int64), np.zeros(RING, np.int64)
    assert next_rtcp(array(data), 0, len(data), item) == len(data)
    n = twcc_read(array(data), item, numbers, arrivals)
    found = list(zip(numbers[:n].tolist(), arrivals[:n].tolist(), strict=True))
    assert n > 0 and found == twcc_twin.read(data[4:])
    (packet,) = RtcpPacket.parse(data)
    assert isinstance(packet, RtcpRtpfbPacket) and (packet.fmt, packet.ssrc, packet.media_ssrc) == (15, ME, YOU)
    return found


def close(found: int, arrival: int) -> bool:
    """The report's time is the arrival in whole units, modulo the 24 bits of the reference time."""
    wrap = 1 << 24 + 8
    return (found // TICK - (arrival + TICK // 2) // TICK) % wrap == 0


def test_nothing_is_reported_before_a_packet_and_twice() -> None:
    pair = Pair()
    assert pair.report() == b""
    pair.receive(65535, START)
    assert [number for number, _ in read(pair.report())] == [65535]
    assert pair.report() == b""


def test_numbers_continue_over_the_wrap_with_gaps() -> None:
    pair = Pair()
    arrivals = {number: START + k * 3 * MS for k, number in enumerate(range(65500, 65701)) if k % 7 != 3}
    for number, arrival in arrivals.items():
        pair.receive(number % 65536, arrival)
    ((*found,),) = pair.drain()
    assert [number for number, _ in found] == [number % 65536 for number in range(65500, 65701)]
    for number, (_, arrival) in zip(range(65500, 65701), found, strict=True):
        assert close(arrival, arrivals[number]) if number in arrivals else arrival == NEVER


def test_reports_are_counted_and_the_count_wraps() -> None:
    pair = Pair()
    for k in range(300):
        pair.receive(k, START + k * MS)
        assert pair.report()[19] == k % 256


def test_rounding_errors_do_not_add_up() -> None:
    pair = Pair()
    for k in range(1000):
        pair.receive(k, START + k * 333_333)
    found = [one for report in pair.drain() for one in report]
    assert all(close(arrival, START + number * 333_333) for number, arrival in found)


def test_a_late_packet_is_reported_with_all_that_followed() -> None:
    pair = Pair()
    for number in (10, 11, 13, 14):
        pair.receive(number, START + number * MS)
    assert len(read(pair.report())) == 5
    pair.receive(12, START + 20 * MS)
    ((*found,),) = pair.drain()
    assert [number for number, _ in found] == [12, 13, 14]
    assert found[1][1] - found[0][1] == -7 * MS


def test_a_duplicate_keeps_the_first_arrival_and_is_not_news() -> None:
    pair = Pair()
    pair.receive(5, START)
    pair.receive(5, START + 90 * MS)
    assert close(read(pair.report())[0][1], START)
    pair.receive(5, START + 90 * MS)
    assert pair.report() == b""


def test_a_packet_before_the_first_is_reported() -> None:
    pair = Pair()
    pair.receive(0, START)
    pair.receive(65535, START + MS)
    assert [number for number, _ in read(pair.report())] == [65535, 0]


def test_a_pause_that_no_delta_can_tell_begins_another_report() -> None:
    pair = Pair()
    for number, arrival in ((1, START), (2, START + MS), (4, START + 9000 * MS), (5, START + 17_191 * MS)):
        pair.receive(number, arrival)
    found = pair.drain()
    assert [[number for number, _ in report] for report in found] == [[1, 2, 3], [4, 5]]
    assert close(found[1][0][1], START + 9000 * MS)


@pytest.mark.parametrize("limit", [-5, 0, 19, 20, 23, 24, 25, 28, 31, 60, 100, 1200])
def test_limit_cuts_a_report_and_the_rest_follows(limit: int) -> None:
    rng = np.random.default_rng(limit + 9)
    pair = Pair()
    expected = [number for number in range(300) if number in (0, 299) or rng.random() < 0.7]
    for number in expected:
        pair.receive(number, START + number * 40 * MS + int(rng.integers(0, 100 * MS)))
    reports = pair.drain(limit)
    found = [one for report in reports for one in report]
    assert [number for number, arrival in found if arrival != NEVER] == (expected if limit >= 24 else [])
    assert [number for number, _ in found] == (list(range(300)) if limit >= 24 else [])


def test_numbers_older_than_the_window_are_forgotten() -> None:
    pair = Pair()
    pair.receive(0, START)
    pair.receive(RING + 5, START + MS)
    pair.receive(5, START + 2 * MS)
    pair.receive(6, START + 3 * MS)
    ((*found,),) = pair.drain()
    assert [number for number, _ in found] == list(range(6, RING + 6))
    assert [number for number, arrival in found if arrival != NEVER] == [6, RING + 5]
    pair.receive(30_000, START + 4 * MS)
    assert len(read(pair.report())) == RING


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network_is_reported_as_the_twin_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair, now, number = Pair(), START, int(rng.integers(0, 65536))
    late: list[int] = []
    for _ in range(3000):
        now += int(rng.exponential((1, 20, 90)[seed % 3] * MS))
        draw = rng.random()
        if draw < 0.1 and late:
            pair.receive(late.pop(int(rng.integers(len(late)))) % 65536, now)
        elif draw < 0.103:
            number += int(rng.integers(0, 3000))
        elif draw < 0.2:
            late = [*late[-20:], number]
        else:
            pair.receive(number % 65536, now)
        number += 1
        if rng.random() < 0.02:
            pair.drain(int(rng.integers(24, 300)))
    pair.drain()


def read_size(data: bytes, size: int) -> Any:
    item = noisy(RTCP)
    assert next_rtcp(array(data), 0, len(data), item) == len(data)
    return twcc_read(array(data), item, np.zeros(size, np.int64), np.zeros(size + 1, np.int64))


def test_a_report_of_more_than_fits_is_refused() -> None:
    pair = Pair()
    for number in range(10):
        pair.receive(number, START)
    data = pair.report()
    assert read_size(data, 10) == 10 and read_size(data, 9) == -1


def test_other_packets_are_refused() -> None:
    assert read_size(bytes.fromhex("81cd0005") + bytes(20), 10) == -1
    assert read_size(bytes.fromhex("8fce0005") + bytes(20), 10) == -1
