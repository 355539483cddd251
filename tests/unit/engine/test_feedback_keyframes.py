"""Keyframe requests: joined, throttled, repeated until a keyframe comes, and taken over from other workers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpRrPacket, RtcpSdesPacket

from mediaserver.engine import layout as L
from mediaserver.engine.keyframes import PATIENCE, keyframe_came, keyframe_tick, request_keyframe, want_keyframe
from packetio.srtp import CM80, GCM
from tests.unit.engine.desk import Desk, FarEnd, Track


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def quiet(end: FarEnd) -> FarEnd:
    """A peer to which no receiver reports are due, so that only what is tested is sent."""
    end.record.next_report = 1 << 62
    return end


def plis(end: FarEnd) -> list[int]:
    """SSRCs that were asked for a keyframe."""
    found = []
    for packet in end.packets():
        assert isinstance(packet, RtcpPsfbPacket) and packet.fmt == 1
        assert packet.ssrc == end.record.rtcp_ssrc
        found.append(packet.media_ssrc)
    return found


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_request_is_sent_at_once_and_opens_at_the_peer(desk: Desk, profile: str) -> None:
    end = quiet(desk.peer(profile))
    track = Track(end, ssrc=0xFEDCBA98)
    request_keyframe(desk.w, track.index)
    assert plis(end) == [0xFEDCBA98]
    assert desk.w.pli_out == track.record.plis_sent == 1


def test_requests_of_many_readers_are_one(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    for _ in range(50):
        want_keyframe(desk.w, track.feed)
    assert len(plis(end)) == 1


def test_request_is_repeated_until_a_keyframe_comes(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    request_keyframe(desk.w, track.index)
    desk.pass_time(3 * desk.w.keyframe_interval)
    assert len(plis(end)) == 4
    keyframe_came(track.record)
    desk.pass_time(3 * desk.w.keyframe_interval)
    assert plis(end) == []


def test_request_soon_after_a_keyframe_waits_for_the_interval(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    request_keyframe(desk.w, track.index)
    keyframe_came(track.record)
    request_keyframe(desk.w, track.index)
    assert len(plis(end)) == 1
    desk.pass_time(desk.w.keyframe_interval)
    assert len(plis(end)) == 1


def test_request_is_not_repeated_to_a_silent_publisher_but_when_it_returns(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    request_keyframe(desk.w, track.index)
    desk.pass_time(PATIENCE)
    plis(end)
    desk.pass_time(2 * desk.w.keyframe_interval)
    assert plis(end) == []
    track.log.header.last_arrival = desk.w.now
    desk.pass_time(10 * L.MS)
    assert len(plis(end)) == 1


def test_request_before_the_ssrc_is_known_is_sent_as_soon_as_it_is(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end, ssrc=-1)
    request_keyframe(desk.w, track.index)
    desk.pass_time(50 * L.MS)
    assert plis(end) == []
    track.record.ssrc = 99
    desk.pass_time(10 * L.MS)
    assert plis(end) == [99]


def test_audio_is_never_asked_for_a_keyframe(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end, L.AUDIO)
    request_keyframe(desk.w, track.index)
    track.log.header.keyframe_wanted = 1
    desk.pass_time(desk.w.keyframe_interval)
    assert plis(end) == []


def test_reader_of_another_workers_log_leaves_word_and_wakes_it_once(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    foreign = desk.worker.feeds.clear(desk.worker.feed_slots.take())
    foreign.log, foreign.generation, foreign.owner_wake = track.log.base, track.log.generation, wake
    for _ in range(5):
        want_keyframe(desk.w, foreign)
    assert track.log.header.keyframe_wanted == 1
    assert os.eventfd_read(wake) == 1
    os.close(wake)
    assert plis(end) == []


def test_word_left_in_a_log_is_taken_and_cleared(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    track.log.header.keyframe_wanted = 1
    desk.pass_time(10 * L.MS)
    assert track.log.header.keyframe_wanted == 0
    assert plis(end) == [track.record.ssrc]


def test_peer_without_reduced_size_gets_a_whole_compound(desk: Desk) -> None:
    end = quiet(desk.peer())
    end.record.reduced_size = 0
    track = Track(end)
    request_keyframe(desk.w, track.index)
    report, names, request = end.packets()
    assert isinstance(report, RtcpRrPacket) and report.reports == []
    assert isinstance(names, RtcpSdesPacket)
    assert names.chunks[0].ssrc == report.ssrc == end.record.rtcp_ssrc
    assert names.chunks[0].items == [(1, f"weir-{end.record.rtcp_ssrc:08x}".encode())]
    assert isinstance(request, RtcpPsfbPacket) and request.media_ssrc == track.record.ssrc


def test_nothing_is_sent_before_the_peer_has_keys(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    end.record.secured = 0
    request_keyframe(desk.w, track.index)
    desk.pass_time(50 * L.MS)
    assert end.datagrams() == []
    end.record.secured = 1
    desk.pass_time(10 * L.MS)
    assert len(plis(end)) == 1


@pytest.mark.parametrize(("silent", "sent"), [(30 * L.SECOND - 1, 1), (30 * L.SECOND, 0)])
def test_request_is_repeated_within_half_a_minute_of_the_last_media(desk: Desk, silent: int, sent: int) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    request_keyframe(desk.w, track.index)
    assert len(plis(end)) == 1
    desk.w.now += 40 * L.SECOND
    track.log.header.last_arrival = desk.w.now - silent
    keyframe_tick(desk.w, track.index)
    assert len(plis(end)) == sent


def test_layer_that_is_being_removed_is_not_asked(desk: Desk) -> None:
    end = quiet(desk.peer())
    track = Track(end)
    track.record.state = L.CLOSING
    request_keyframe(desk.w, track.index)
    assert plis(end) == [] and track.record.keyframe_pending == 0


@pytest.mark.parametrize("ssrc", [0, 1, 0xFFFFFFFF])
def test_any_ssrc_can_be_asked(desk: Desk, ssrc: int) -> None:
    end = quiet(desk.peer())
    request_keyframe(desk.w, Track(end, ssrc=ssrc).index)
    assert plis(end) == [ssrc]
