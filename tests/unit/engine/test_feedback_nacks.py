"""Asking publishers for lost packets: every lost one, none that arrived, and never without bound."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpRtpfbPacket

from mediacodecs.missing import MAX_MISSING, MAX_TRIES
from mediaserver.engine import layout as L
from mediaserver.engine.nacks import AGAIN, GRACE, nack_tick, note_arrival
from tests.unit.engine.desk import FIRST_SEQUENCE, Desk, FarEnd, Track


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def publisher(desk: Desk, kind: int = L.VIDEO) -> tuple[FarEnd, Track]:
    """A publisher to whom no receiver reports are due."""
    end = desk.peer()
    end.record.next_report = 1 << 62
    return end, Track(end, kind)


def arrive(desk: Desk, track: Track, number: int) -> None:
    """Packet `number`, counted from 0, comes."""
    layer = track.record
    position = track.first + number
    note_arrival(desk.w, track.index, position, int(layer.highest))
    layer.highest = max(int(layer.highest), position)
    track.log.header.last_arrival = desk.w.now


def asked(end: FarEnd, track: Track) -> list[int]:
    """Numbers that were NACKed, in order."""
    found = []
    for packet in end.packets():
        if isinstance(packet, RtcpRtpfbPacket):
            assert packet.fmt == 1 and packet.media_ssrc == track.record.ssrc
            assert packet.ssrc == end.record.rtcp_ssrc
            found += [(sequence - track.first) & 0xFFFF for sequence in packet.lost]
    return found


@pytest.mark.parametrize("seed", range(8))
def test_every_lost_packet_is_asked_for_and_none_that_arrived(desk: Desk, seed: int) -> None:
    rng = random.Random(seed)
    end, track = publisher(desk)
    track.begin(5 << 16 | (65000 if seed % 2 else 1))  # half of the runs wrap
    lost: set[int] = set()
    late: dict[int, list[int]] = {}  # tick -> numbers that come then
    requests: list[int] = []
    number = 0
    for tick in range(150):
        for late_number in late.pop(tick, []):
            arrive(desk, track, late_number)
            lost.discard(late_number)
        for _ in range(8):
            burst = rng.random() < 0.02
            for _ in range(rng.randint(1, 12) if burst else 1):
                drop = burst or rng.random() < 0.03
                if drop:
                    lost.add(number)
                    if rng.random() < 0.5:
                        late.setdefault(tick + rng.randint(1, 12), []).append(number)
                else:
                    arrive(desk, track, number)
                number += 1
        arrive(desk, track, number)
        number += 1
        open_now = set(lost)
        desk.pass_time(10 * L.MS)
        new = asked(end, track)
        assert set(new) <= open_now, "asked for a packet that had come"
        requests += new
        assert track.record.missing_count <= MAX_MISSING
    for _ in range(4):
        desk.pass_time(10 * L.MS)
        requests += asked(end, track)
    assert lost <= set(requests)
    assert max(requests.count(n) for n in set(requests)) <= MAX_TRIES
    assert desk.w.nack_out == track.record.nacks_sent == len(requests)


def test_packet_that_is_only_reordered_is_not_asked_for(desk: Desk) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 2)
    desk.w.now += GRACE // 2
    arrive(desk, track, 1)
    desk.pass_time(200 * L.MS)
    assert asked(end, track) == []


def test_request_is_repeated_after_a_pause_and_at_least_a_round_trip(desk: Desk) -> None:
    end, track = publisher(desk)
    for rtt, pause in ((0, AGAIN), (120 * L.MS, 120 * L.MS)):
        end.record.rtt = rtt
        first = int(track.record.highest) - track.first + 1
        arrive(desk, track, first)
        arrive(desk, track, first + 2)
        times: list[int] = []
        start = desk.w.now
        while len(times) < 3:
            desk.pass_time(10 * L.MS)
            if asked(end, track):
                times.append((desk.w.now - start) // L.MS)
        assert times == [10, 10 + pause // L.MS, 10 + 2 * pause // L.MS]
        arrive(desk, track, first + 1)


def test_video_packet_asked_for_in_vain_ends_in_a_keyframe_request(desk: Desk) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 3)
    desk.pass_time(4 * L.SECOND)
    packets = end.packets()
    nacks = [p for p in packets if isinstance(p, RtcpRtpfbPacket)]
    assert [p.lost for p in nacks] == [[FIRST_SEQUENCE + 1, FIRST_SEQUENCE + 2]] * MAX_TRIES
    first_pli = next(k for k, p in enumerate(packets) if isinstance(p, RtcpPsfbPacket))
    assert first_pli == MAX_TRIES
    assert track.record.missing_count == 0


def test_gap_too_large_to_mend_asks_for_a_keyframe_instead(desk: Desk) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 2 + MAX_MISSING)
    (request,) = end.packets()
    assert isinstance(request, RtcpPsfbPacket) and request.fmt == 1
    assert track.record.missing_count == 0


def test_largest_gap_that_is_asked_for_fits_in_one_packet(desk: Desk) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 1 + MAX_MISSING)
    desk.pass_time(10 * L.MS)
    assert asked(end, track) == list(range(1, 1 + MAX_MISSING))


def test_oldest_of_too_many_missing_packets_are_given_up(desk: Desk) -> None:
    end, track = publisher(desk)
    for k in range(0, 2 * MAX_MISSING + 40, 2):
        arrive(desk, track, k)
    desk.pass_time(10 * L.MS)
    last = 2 * MAX_MISSING + 37
    assert asked(end, track) == list(range(last - 2 * (MAX_MISSING - 1), last + 1, 2))


def test_audio_is_asked_for_only_when_it_has_retransmission(desk: Desk) -> None:
    end, track = publisher(desk, L.AUDIO)
    arrive(desk, track, 0)
    arrive(desk, track, 2)
    desk.pass_time(100 * L.MS)
    assert asked(end, track) == []
    end.record.repairs[112] = track.record.payload_type
    arrive(desk, track, 4)
    desk.pass_time(20 * L.MS)
    assert asked(end, track) == [3]


def test_audio_asked_for_in_vain_is_let_go_without_a_keyframe_request(desk: Desk) -> None:
    end, track = publisher(desk, L.AUDIO)
    end.record.repairs[112] = track.record.payload_type
    arrive(desk, track, 0)
    arrive(desk, track, 2)
    desk.pass_time(4 * L.SECOND)
    packets = end.packets()
    assert len(packets) == MAX_TRIES and all(isinstance(p, RtcpRtpfbPacket) for p in packets)


def test_packet_may_be_ten_milliseconds_late_before_it_is_asked_for(desk: Desk) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 2)
    desk.w.now += 10 * L.MS - 1
    nack_tick(desk.w, track.index)
    assert asked(end, track) == []
    desk.w.now += 1
    nack_tick(desk.w, track.index)
    assert asked(end, track) == [1]


@pytest.mark.parametrize(("ssrc", "sent"), [(-1, 0), (0, 1), (1, 1)])
def test_nothing_is_asked_of_an_ssrc_that_is_not_known(desk: Desk, ssrc: int, sent: int) -> None:
    end, track = publisher(desk)
    arrive(desk, track, 0)
    arrive(desk, track, 2)
    track.record.ssrc = ssrc
    desk.w.now += GRACE
    nack_tick(desk.w, track.index)
    assert len(end.compounds()) == sent
