"""RTCP that leaves by itself, read back by aiortc: reports, transport-wide feedback, NACKs and PLIs on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket, RtcpSdesPacket

from loadtest.engine.frames import GIVE_UP
from loadtest.engine.layout import MS, SECOND
from loadtest.engine.post import flush
from loadtest.engine.repair import PATIENCE
from loadtest.engine.reports import timers
from mediacodecs.rtcp import RTCP, next_rtcp
from mediacodecs.twcc import NEVER, twcc_read
from packetio.memory import Table
from tests.unit.loadtest.engine.watching import AUDIO_SSRC, START, TWCC_ID, VIDEO_SSRC, Watch, frame, opus


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


def play(watch: Watch, seconds: float, *, video: bool = True) -> list[tuple[int, object]]:
    """Media, and what leaves meanwhile: (time, packet)."""
    found: list[tuple[int, object]] = []
    begin = watch.now
    for k in range(int(seconds * 50)):
        watch.send(opus(k), at=begin + k * 20 * MS)
        if video and k % 2 == 0:
            watch.send(*frame(3 * k // 2, k // 2, key=k == 0))
        found += watch.tick(begin + (k + 1) * 20 * MS)
    return found


def test_reports_name_all_streams_and_come_every_second_without_a_pattern(watch: Watch) -> None:
    found = play(watch, 20)
    reports = [(at, p) for at, p in found if isinstance(p, RtcpRrPacket) and p.reports]
    assert {frozenset(r.ssrc for r in p.reports) for _, p in reports} == {frozenset({VIDEO_SSRC, AUDIO_SSRC})}
    pauses = [(b[0] - a[0]) / SECOND for a, b in pairwise(reports)]
    assert all(0.49 <= pause <= 1.52 for pause in pauses) and 15 <= len(reports) <= 26
    assert len({round(pause, 1) for pause in pauses}) > 4
    assert all(p.ssrc == 77 and p.reports[0].packets_lost == 0 for _, p in reports)
    names = [p for _, p in found if isinstance(p, RtcpSdesPacket)]
    assert len(names) == len(reports) and names[0].chunks[0].items == [(1, b"alice")]
    assert not [p for _, p in found if isinstance(p, RtcpPsfbPacket | RtcpRtpfbPacket)]


def test_audio_alone_is_reported_on_less_often(watch: Watch) -> None:
    found = play(watch, 30, video=False)
    reports = [p for _, p in found if isinstance(p, RtcpRrPacket)]
    assert 4 <= len(reports) <= 12 and all(len(p.reports) == 1 for p in reports)


def test_a_stream_that_has_fallen_silent_is_not_reported_on(watch: Watch) -> None:
    play(watch, 2)
    found = watch.tick(watch.now + 30 * SECOND, step=50 * MS)
    last = max(at for at, p in found if isinstance(p, RtcpRrPacket) and p.reports)
    assert last < START + 2 * SECOND + 9 * SECOND


def test_loss_jitter_and_the_sender_report_are_in_the_block(watch: Watch) -> None:
    for k in range(100):
        if k % 10 != 5:
            watch.send(opus(k), at=START + k * 20 * MS)
    watch.send(opus(100))
    audio = watch.stream(AUDIO_SSRC)
    audio.sr_middle, audio.sr_arrival = 0x12345678, watch.now
    found = watch.tick(watch.now + 8 * SECOND)
    at, report = next((at, p) for at, p in found if isinstance(p, RtcpRrPacket) and p.reports)
    block = report.reports[0]
    assert (block.packets_lost, block.highest_sequence, block.lsr) == (10, 100, 0x12345678)
    assert block.fraction_lost == 10 * 256 // 101
    assert block.dlsr == pytest.approx((at - audio.sr_arrival) * 65536 / SECOND, abs=2)


def test_a_lost_packet_is_asked_for_and_given_up_in_favour_of_a_keyframe(watch: Watch) -> None:
    packets = frame(1, 0, key=True) + frame(4, 1)
    watch.send(*packets[:4], packets[5])
    found = watch.tick(START + GIVE_UP + 100 * MS)
    nacks = [(at, p) for at, p in found if isinstance(p, RtcpRtpfbPacket)]
    assert [p.lost for _, p in nacks] == [[5]] * len(nacks)
    assert [(at - START) // MS for at, _ in nacks[:3]] == [5, 105, 205]
    plis = [(at, p) for at, p in found if isinstance(p, RtcpPsfbPacket)]
    assert len(plis) == 1 and plis[0][1].media_ssrc == VIDEO_SSRC and plis[0][1].fmt == 1
    assert GIVE_UP <= plis[0][0] - START <= GIVE_UP + 15 * MS
    s = watch.stream()
    assert (s.nacks, s.plis, s.given_up, s.missing_count) == (len(nacks), 1, 1, 0)


def test_a_stream_that_begins_without_a_keyframe_asks_for_one(watch: Watch) -> None:
    found: list[tuple[int, object]] = []
    for k in range(40):
        watch.send(*frame(3 * k, k), at=START + 40 * MS * k)
        found += watch.tick(START + 40 * MS * (k + 1))
    times = [(at - START) // MS for at, p in found if isinstance(p, RtcpPsfbPacket)]
    assert PATIENCE // MS <= times[0] <= PATIENCE // MS + 15
    assert all(300 <= b - a <= 320 for a, b in pairwise(times)) and len(times) == 4
    watch.send(*frame(120, 40, key=True))
    assert watch.stream().frames == 1
    assert not [p for _, p in watch.tick(watch.now + SECOND) if isinstance(p, RtcpPsfbPacket)]


def feedback(compounds: list[bytes]) -> dict[int, int]:
    """The arrivals that transport-wide feedback tells, in ms: by number."""
    item, numbers, arrivals = Table(RTCP, 1).rows[0], np.zeros(2048, np.int64), np.zeros(2048, np.int64)
    found = {}
    for data in compounds:
        b, at = np.frombuffer(data, np.uint8), 0
        while at < len(data):
            at = next_rtcp(b, at, len(data), item)
            assert at > 0
            for k in range(max(twcc_read(b, item, numbers, arrivals), 0)):
                if arrivals[k] != NEVER:
                    found[int(numbers[k])] = int(arrivals[k]) // MS
    return found


def test_transport_wide_feedback_tells_every_arrival_within_a_tenth_of_a_second(watch: Watch) -> None:
    sent: dict[int, int] = {}
    told: dict[int, int] = {}
    calls = 0
    number = 65000
    watch.c.next_report = 1 << 62
    for k in range(100):
        for packet in frame(3 * k, k, key=k == 0):
            number += 1
            if number % 17:
                packet.extensions = ((TWCC_ID, (number & 0xFFFF).to_bytes(2)),)
                watch.send(packet, at=watch.now + 3 * MS)
                sent[number & 0xFFFF] = watch.now // MS
        for _ in range(4):
            watch.at(watch.now + 10 * MS)
            timers(watch.e, 1, watch.c)
        compounds = opened(watch)
        calls += sum(bool(feedback([compound])) for compound in compounds)
        told |= feedback(compounds)
        missing = [n for n in sent if n not in told]
        assert all(watch.now // MS - sent[n] <= 100 for n in missing)
    offset = {round(told[n] - sent[n]) for n in told}
    assert len(told) >= len(sent) - 10 and max(offset) - min(offset) <= 1
    assert 50 <= calls <= 110  # 4.9 s


def opened(watch: Watch) -> list[bytes]:
    """The compounds that have come to the server, in the clear."""
    flush(watch.e, watch.c)
    found = []
    while True:
        try:
            data = watch.server.recv(2048)
        except BlockingIOError:
            return found
        found.append(watch.opener.unprotect_rtcp(data))


def test_nothing_leaves_before_anything_came(watch: Watch) -> None:
    assert watch.tick(START + 5 * SECOND) == []


def test_a_client_without_keys_sends_nothing(watch: Watch) -> None:
    play(watch, 0.2)
    watch.c.outbound = 0
    assert watch.tick(watch.now + 3 * SECOND) == []
