"""From the socket to the streams: real SRTP, RTX, extensions, latency, impairments; and what is none of it."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from aiortc.rtp import RtcpByePacket, RtcpSenderInfo, RtcpSrPacket
from pylibsrtp import Policy, Session

from loadtest.engine.layout import AUDIO, EVENT, MS, NO_TYPE, SECOND, STREAM, VIDEO
from loadtest.engine.links import fill_link
from loadtest.engine.receive import take
from loadtest.engine.streams import bucket_of, release_streams
from loadtest.results import distribution
from packetio.batch import SO_TIMESTAMPNS
from packetio.memory import Table
from packetio.srtp import CM80, GCM, KEY_BYTES, PROFILES
from tests.unit.loadtest.engine.watching import (
    AUDIO_SSRC,
    CAPTURE_ID,
    EVENTS,
    NTP_UNIX,
    REALTIME,
    RTX_SSRC,
    START,
    TWCC_ID,
    VIDEO_SSRC,
    Media,
    Watch,
    frame,
    ntp,
    opus,
    vp8,
)


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_frames_of_a_stream_are_counted_and_its_size_is_known(profile: str) -> None:
    watch = Watch(profile)
    for k in range(10):
        watch.send(*frame(65530 + 3 * k, k, key=k == 0), at=START + 40 * MS * k)
    s, c = watch.stream(), watch.c
    assert (c.packets, c.stream_count, c.refused, c.garbage, c.excess) == (30, 1, 0, 0, 0)
    assert (s.packets, s.received, s.frames, s.keyframes, s.missed) == (30, 30, 10, 1, 0)
    assert (s.kind, s.clock_rate, s.width, s.octets) == (VIDEO, 90000, 1280, 30 * 200)
    assert (c.first_packet, s.first_frame, s.last_packet) == (START, START, START + 360 * MS)
    assert watch.e.received == 30 and c.octets > 30 * 200
    watch.close()


def test_audio_and_video_are_streams_of_their_own(watch: Watch) -> None:
    watch.send(*frame(1, 0, key=True), opus(500), opus(501))
    assert watch.c.stream_count == 2
    audio = watch.stream(AUDIO_SSRC)
    assert (audio.kind, audio.clock_rate, audio.packets, audio.frames) == (AUDIO, 48000, 2, 0)
    assert watch.stream().frames == 1


def test_an_rtx_packet_repairs_the_stream_of_its_primary_payload_type(watch: Watch) -> None:
    packets = frame(10, 0, key=True) + frame(13, 1) + frame(16, 2)
    watch.send(*packets[:4], *packets[5:])
    assert watch.stream().frames == 1
    watch.send(packets[4].rtx(900))
    s = watch.stream()
    assert (s.frames, s.recovered, s.first_missing, s.packets, s.received) == (3, 1, 1, 9, 8)
    assert (s.rtx_ssrc, watch.c.rtx, watch.c.stream_count) == (RTX_SSRC, 1, 1)
    watch.send(packets[4].rtx(901))
    assert (s.duplicates, s.packets, watch.c.rtx) == (1, 9, 2)


def test_an_empty_rtx_packet_is_a_probe_and_one_without_a_stream_is_excess(watch: Watch) -> None:
    watch.send(vp8(3, first=True, key=True, last=True, picture=0).rtx(1))
    assert (watch.c.excess, watch.c.stream_count) == (1, 0)
    watch.send(*frame(1, 0, key=True))
    probe = Media(2, b"", 0, False, RTX_SSRC, 97)
    watch.send(probe)
    assert (watch.c.rtx, watch.stream().packets, watch.c.excess) == (2, 3, 1)


def test_packets_with_nothing_but_padding_take_their_numbers(watch: Watch) -> None:
    watch.send(*frame(1, 0, key=True), Media(4), *frame(5, 1))
    s = watch.stream()
    assert (s.packets, s.frames, s.first_missing) == (7, 2, 0)


def test_latency_is_taken_from_the_capture_time(watch: Watch) -> None:
    packets = frame(1, 0, key=True)
    packets[0].extensions = ((CAPTURE_ID, ntp(START - 25 * MS).to_bytes(8)),)
    watch.send(*packets)
    s = watch.stream()
    assert s.latency.sum() == 1 and abs(int(s.latency_max) - 25 * MS) < 2
    assert s.latency[bucket_of(25 * MS)] == 1


@pytest.mark.parametrize("age", [-6 * MS, 61 * SECOND, START + REALTIME])
def test_an_absurd_capture_time_is_ignored(watch: Watch, age: int) -> None:
    packet = vp8(1, first=True, key=True, last=True, picture=0)
    packet.extensions = ((CAPTURE_ID, max(ntp(START - age), 0).to_bytes(8)),)
    watch.send(packet)
    assert watch.stream().latency.sum() == 0 and watch.stream().frames == 1


def test_a_capture_time_a_little_ahead_is_no_latency(watch: Watch) -> None:
    packet = vp8(1, first=True, key=True, last=True, picture=0)
    packet.extensions = ((CAPTURE_ID, ntp(START + 1 * MS).to_bytes(8)),)
    watch.send(packet)
    assert watch.stream().latency[0] == 1 and watch.stream().latency_max == 0


def test_synthetic_bodies_are_checked_and_timed_repaired_ones_too(watch: Watch) -> None:
    watch.c.opened = 1
    packets = frame(1, 0, key=True, sent=START - 3 * MS) + frame(4, 1, sent=START - 3 * MS)
    watch.send(*packets[:4], packets[5], opus(1, START - 3 * MS))
    watch.send(packets[4].rtx(1), at=START + 100 * MS)
    s = watch.stream()
    assert (s.checked, s.wrong, s.latency.sum(), s.latency_max) == (6, 0, 6, 103 * MS)
    assert watch.stream(AUDIO_SSRC).checked == 0  # its sound is real
    watch.c.opened = 3
    watch.send(opus(2, START - 3 * MS))
    assert (watch.stream(AUDIO_SSRC).checked, watch.stream(AUDIO_SSRC).wrong) == (1, 0)
    bad = vp8(7, first=True, key=False, last=True, picture=2)
    bad.payload = bad.payload[:-1] + b"?"
    watch.send(bad)
    assert (s.checked, s.wrong, s.latency.sum()) == (6, 1, 6)


def test_a_client_that_only_counts_opens_nothing_and_asks_for_nothing(watch: Watch) -> None:
    watch.c.counted_only, watch.c.opened = 1, 3
    packets = [packet for k in range(4) for packet in frame(65530 + 3 * k, k, key=k == 0)]
    for k in (0, 1, 2, 4, 3, 5, 8, 9, 10, 11):  # two change places, 6 and 7 are lost
        watch.send(packets[k])
    watch.send(opus(500), opus(501), packets[6].rtx(1))
    watch.server.send(b"\x80\x60" + bytes(60))  # nobody's: its SSRC is counted as one more stream
    watch.drain()
    video, audio = watch.stream(), watch.stream(AUDIO_SSRC)
    assert (video.packets, video.received, video.highest - video.first_position + 1) == (10, 10, 12)
    assert (audio.packets, audio.frames, watch.c.rtx, watch.c.refused) == (2, 0, 1, 0)
    assert (video.checked, video.frames, video.missed, video.latency.sum()) == (0, 0, 0, 0)
    assert watch.c.packets == 14 and watch.c.first_packet == START
    sent = watch.tick(START + 3 * SECOND)
    assert {type(packet).__name__ for _, packet in sent} == {"RtcpRrPacket", "RtcpSdesPacket"}
    assert (video.first_missing, video.given_up, video.nacks, video.plis) == (2, 2, 0, 0)


def test_a_counted_packet_that_comes_twice_counts_once(watch: Watch) -> None:
    watch.c.counted_only = 1
    sealed = watch.sealer.protect(vp8(1, first=True, key=True, last=True, picture=0).data())
    watch.server.send(sealed)
    watch.server.send(sealed)
    watch.drain()
    assert (watch.stream().packets, watch.stream().received, watch.stream().duplicates) == (1, 1, 1)


def test_the_histogram_has_the_buckets_of_the_results() -> None:
    for ns in [0, 999, 1000, 1001, 5_000, 123_456, 40 * MS, 61 * SECOND, 10**14]:
        assert bucket_of(ns) == distribution.bucket_of(ns)


def test_transport_wide_numbers_are_noted_with_their_arrival(watch: Watch) -> None:
    for k, packet in enumerate(frame(1, 0, key=True)):
        packet.extensions = ((TWCC_ID, (65534 + k & 0xFFFF).to_bytes(2)),)
        watch.send(packet, at=START + k * MS)
    state = watch.c.twcc
    assert (state.highest - state.next_base + 1, watch.c.twcc_media) == (3, VIDEO_SSRC)
    assert state.arrival[int(state.highest) % 1024] == START + 2 * MS


def test_unknown_payload_types_and_too_many_ssrcs_are_excess(watch: Watch) -> None:
    watch.send(Media(1, b"x", payload_type=120))
    assert (watch.c.excess, watch.c.stream_count) == (1, 0)
    watch.send(*(Media(1, b"x", ssrc=100 + k) for k in range(6)))
    assert (watch.c.excess, watch.c.stream_count, watch.e.stream_free_count) == (3, 4, 2)


def test_released_streams_are_clean_when_they_are_used_again(watch: Watch) -> None:
    watch.send(*frame(1, 0, key=True), opus(1))
    release_streams(watch.e, watch.c)
    assert (watch.c.stream_count, watch.e.stream_free_count) == (0, 6)
    watch.send(*frame(4, 1, key=True))
    assert watch.stream().packets == 3 and watch.e.stream_free_count == 5
    assert (watch.tables[STREAM].rows.state == 1).sum() == 1


def test_a_packet_that_came_before_is_a_duplicate_and_a_forged_one_is_refused(watch: Watch) -> None:
    sealed = watch.sealer.protect(vp8(1, first=True, key=True, last=True, picture=0).data())
    for data in (sealed, sealed, sealed[:-1] + b"?"):
        watch.server.send(data)
    watch.drain()
    other = Session(Policy(b"x" * KEY_BYTES[GCM], Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[GCM]))
    watch.server.send(other.protect(Media(2, b"x").data()))
    watch.drain()
    assert watch.stream().duplicates + watch.c.refused == 3
    assert watch.stream().duplicates >= 1 and watch.stream().packets == 1


def test_stun_and_dtls_are_handed_up_with_the_clients_token(watch: Watch) -> None:
    for data in (b"\x00\x01" + bytes(18), b"\x16\xfe\xfd" + bytes(60)):
        watch.server.send(data)
    watch.drain()
    rows = watch.tables[EVENT].rows
    assert (watch.e.event_head, watch.e.events_lost) == (2, 0)
    assert [int(rows[k].length) for k in range(2)] == [20, 63] and rows[0].token == watch.c.token
    assert rows[1].payload[:63].tobytes() == b"\x16\xfe\xfd" + bytes(60)
    assert os.eventfd_read(watch.wake) == 2
    for _ in range(EVENTS):
        watch.server.send(b"\x00\x01" + bytes(18))
    watch.drain()
    assert (watch.e.event_head, watch.e.events_lost) == (EVENTS, 2)
    watch.e.event_tail = EVENTS
    watch.server.send(b"\x01\x01" + bytes(18))
    watch.drain()
    assert (watch.e.event_head, rows[0].payload[0]) == (EVENTS + 1, 1)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" + bytes(10), b"\x50" + bytes(40), b"\x80" * 2049])
def test_garbage_is_counted(watch: Watch, data: bytes) -> None:
    watch.server.send(data)
    assert watch.drain() == 1
    assert (watch.c.garbage, watch.c.refused, watch.c.packets) == (1, 0, 0)


def test_random_bytes_do_no_harm(watch: Watch) -> None:
    for _ in range(300):
        watch.server.send(os.urandom(60))
    assert watch.drain() == 300
    assert watch.c.packets == watch.c.rtcp == watch.c.stream_count == 0


def test_a_sender_report_is_kept_for_our_reports_and_a_bye_ends_nothing(watch: Watch) -> None:
    watch.send(*frame(1, 0, key=True))
    info = RtcpSenderInfo(ntp_timestamp=0xAABBCCDD11223344, rtp_timestamp=1, packet_count=3, octet_count=600)
    compound = bytes(RtcpSrPacket(ssrc=VIDEO_SSRC, sender_info=info)) + bytes(RtcpByePacket(sources=[VIDEO_SSRC]))
    watch.at(START + 7 * MS)
    watch.server.send(watch.sealer.protect_rtcp(compound))
    watch.drain()
    s = watch.stream()
    assert (s.sr_middle, s.sr_arrival, watch.c.rtcp) == (0xCCDD1122, START + 7 * MS, 1)
    watch.send(*frame(4, 1))
    assert s.frames == 2


def test_a_lossy_link_loses_its_share_before_anything_is_counted(watch: Watch) -> None:
    fill_link(watch.c.down, loss=(0.0, 1.0, 0.2, 1.0), seed=3)
    for k in range(500):
        watch.send(opus(k), at=START + 20 * MS * k)
    audio = watch.stream(AUDIO_SSRC)
    assert watch.c.packets == audio.packets == watch.c.down.passed == 500 - watch.c.down.lost
    assert 60 < watch.c.down.lost < 140


def test_a_delayed_packet_is_held_and_arrives_when_the_link_lets_it_go(watch: Watch) -> None:
    watch.c.opened = 1
    fill_link(watch.c.down, delay_ms=30, seed=1)
    watch.send(vp8(1, first=True, key=True, last=True, picture=0))
    assert (watch.c.packets, len(watch.held)) == (0, 1)
    detail = watch.held.details.rows[int(watch.held.heap.rows[2])]
    assert (detail.client, detail.stamp) == (watch.c.token, START + 30 * MS)
    copy = Table(watch.slots.dtype, 2048)
    payload = watch.held.payload(int(watch.held.heap.rows[2]))
    copy.rows[: len(payload)] = list(payload)
    watch.at(START + 30 * MS)
    take(watch.e, watch.c, copy.address, len(payload), START + 30 * MS)
    assert (watch.stream().frames, watch.stream().latency_max) == (1, 30 * MS)


def test_a_full_delay_queue_is_the_tools_own_fault(watch: Watch) -> None:
    fill_link(watch.c.down, delay_ms=30, seed=1)
    for k in range(260):
        watch.send(opus(k))
    assert watch.e.held_lost == 4


def test_captured_packets_can_be_decoded_elsewhere(watch: Watch) -> None:
    watch.c.capture = 1
    packets = frame(65535, 0, key=True)
    packets[0].extensions = ((CAPTURE_ID, ntp(START - 5 * MS).to_bytes(8)),)
    watch.send(packets[0], packets[2])
    watch.send(packets[1].rtx(5))
    found = []
    while packet := watch.captures.pop():
        found.append(packet)
    assert [p.sequence & 0xFFFF for p in found] == [65535, 1, 0]
    assert [p.payload for p in found] == [packets[0].payload, packets[2].payload, packets[1].payload]
    assert [(p.marker, p.keyframe, p.start) for p in found] == [
        (False, True, True),
        (True, False, False),
        (False, False, False),
    ]
    assert found[0].client == watch.c.token and abs(found[0].captured - (START - 5 * MS)) < 2 and found[1].captured == 0
    assert found[1].sequence - found[0].sequence == 2 and found[0].stamp == START


def clock_difference() -> int:
    """ns that CLOCK_REALTIME is ahead of CLOCK_MONOTONIC: of many looks the one with the least between them."""

    def look() -> tuple[int, int]:
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        return after - before, wall - before

    return min(look() for _ in range(50))[1]


@pytest.fixture
def stamped() -> Iterator[Watch]:
    made = Watch(stamps=True)
    made.e.fake_now, made.e.realtime, made.c.opened = 0, clock_difference(), 1
    yield made
    made.close()


def wait_for_stamps() -> None:
    """The kernel begins to stamp some time after the first socket asked for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        probe.bind(("127.0.0.1", 0))
        for _ in range(500):
            probe.sendto(b"?", probe.getsockname())
            sent = time.time_ns()
            while time.time_ns() < sent + 2 * MS:
                pass
            ((_, _, data),) = probe.recvmsg(1, 64)[1]
            seconds, ns = struct.unpack("qq", data[:16])
            if seconds * 1_000_000_000 + ns < sent + MS:
                return
    raise AssertionError("the kernel stamps nothing")


def test_arrivals_are_the_kernels_stamps(stamped: Watch) -> None:
    wait_for_stamps()
    before = time.monotonic_ns()
    packet = vp8(1, first=True, key=True, last=True, picture=0, sent=before)
    stamped.server.send(stamped.sealer.protect(packet.data()))
    after = time.monotonic_ns()
    while time.monotonic_ns() < after + 20 * MS:
        pass
    stamped.drain()
    s = stamped.stream()
    assert before - 1 * MS < s.last_packet < after + 1 * MS
    assert s.latency.sum() == 1 and s.latency_max < after - before + 1 * MS


def test_ntp_of_the_tests_is_that_of_the_standard() -> None:
    assert ntp(-REALTIME) == NTP_UNIX << 32 and NO_TYPE == 255
