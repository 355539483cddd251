"""Reports in both directions: loss and jitter to publishers, the publisher's clock to subscribers, and round trips."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from aiortc.rtp import RtcpByePacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSdesPacket, RtcpSenderInfo, RtcpSrPacket

from mediacodecs.reception import count_reception
from mediaserver.engine import layout as L
from mediaserver.engine.rtcp_out import goodbye
from mediaserver.engine.sender_reports import extrapolate, ntp_fixed, sender_report
from tests.unit.engine.desk import FIRST_SEQUENCE, Desk, FarEnd, Outgoing, Track

NTP_2026 = 3_976_000_000 * L.SECOND + 987_654_321  # ns since 1900


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def fixed(ns: int) -> int:
    """ns as 32.32 fixed point seconds, rounded down."""
    return int(Fraction(ns, L.SECOND) * (1 << 32))


def publish_report(track: Track, ntp: int, timestamp: int) -> None:
    """The publisher sends a sender report, ntp in ns."""
    info = RtcpSenderInfo(ntp_timestamp=fixed(ntp), rtp_timestamp=timestamp, packet_count=9, octet_count=900)
    track.end.rtcp(RtcpSrPacket(ssrc=int(track.record.ssrc), sender_info=info))


def sender_reports(end: FarEnd) -> list[RtcpSrPacket]:
    return [p for p in end.packets() if isinstance(p, RtcpSrPacket)]


def receiver_blocks(end: FarEnd) -> list[RtcpReceiverInfo]:
    return [block for p in end.packets() if isinstance(p, RtcpRrPacket) for block in p.reports]


@pytest.mark.parametrize("rate", [8000, 48000, 90000])
def test_jitter_follows_the_standard_even_after_weeks_of_uptime(desk: Desk, rate: int) -> None:
    rng = random.Random(rate)
    layer = Track(desk.peer()).record
    arrival, timestamp = 90 * 24 * 3600 * L.SECOND, 0xFFFFFF00  # the time stamps wrap
    previous: int | None = None
    expected = 0
    for _ in range(400):
        step = rng.randint(5, 40) * L.MS
        arrival += step + rng.randint(-4 * L.MS, 4 * L.MS)
        timestamp += step * rate // L.SECOND
        transit = arrival * rate // L.SECOND - timestamp
        if previous is not None:
            expected += abs(transit - previous) - ((expected + 8) >> 4)  # RFC 3550 A.8, in 16ths
        previous = transit
        count_reception(layer, timestamp & 0xFFFFFFFF, arrival, rate)
    assert abs(int(layer.jitter) - expected) <= 32


def test_jump_of_the_time_stamps_is_no_jitter(desk: Desk) -> None:
    layer = Track(desk.peer()).record
    for k in range(10):
        count_reception(layer, k * 3000 + (k > 5) * 90000 * 3600, 10**12 + k * L.SECOND // 30, 90000)
    assert layer.jitter < 16


def test_receiver_report_tells_loss_of_the_interval_and_in_all(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end, ssrc=0xCAFE0001)
    layer = track.record
    layer.highest, layer.received = track.first + 99, 90
    desk.pass_time(10 * L.MS)
    (block,) = receiver_blocks(end)
    assert (block.ssrc, block.fraction_lost, block.packets_lost) == (0xCAFE0001, 10 * 256 // 100, 10)
    assert block.highest_sequence == FIRST_SEQUENCE + 99
    layer.highest += 100
    layer.received += 100
    track.log.header.last_arrival = desk.w.now
    desk.pass_time(990 * L.MS)
    assert receiver_blocks(end) == []
    desk.pass_time(20 * L.MS)
    (block,) = receiver_blocks(end)
    assert (block.fraction_lost, block.packets_lost) == (0, 10)
    layer.highest += 100
    layer.received += 75
    desk.pass_time(L.SECOND)
    (block,) = receiver_blocks(end)
    assert (block.fraction_lost, block.packets_lost) == (64, 35)


def test_highest_sequence_counts_cycles_from_the_first_packet(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end)
    track.record.highest, track.record.received = track.first + 3 * 65536 + 5, 3 * 65536 + 6
    desk.pass_time(10 * L.MS)
    (block,) = receiver_blocks(end)
    assert block.highest_sequence == 3 << 16 | FIRST_SEQUENCE + 5
    assert block.packets_lost == 0


def test_more_packets_than_expected_are_a_negative_loss(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end)
    track.record.highest, track.record.received = track.first + 9, 13
    desk.pass_time(10 * L.MS)
    (block,) = receiver_blocks(end)
    assert (block.fraction_lost, block.packets_lost) == (0, -3)


def test_all_layers_of_a_publisher_are_in_one_report(desk: Desk) -> None:
    end = desk.peer()
    end.record.reduced_size = 0
    tracks = [Track(end, ssrc=100), Track(end, L.AUDIO, ssrc=200), Track(end, ssrc=300)]
    tracks[2].record.started = 0  # nothing came of it yet
    desk.pass_time(10 * L.MS)
    report, names = end.packets()
    assert isinstance(report, RtcpRrPacket) and {block.ssrc for block in report.reports} == {100, 200}
    assert isinstance(names, RtcpSdesPacket) and names.chunks[0].ssrc == report.ssrc == end.record.rtcp_ssrc


def test_silent_layers_are_not_reported_on(desk: Desk) -> None:
    end = desk.peer()
    Track(end)
    desk.pass_time(12 * L.SECOND)
    assert len(receiver_blocks(end)) == 8


def test_receiver_report_gives_the_publisher_its_round_trip(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end)
    end.record.next_report = desk.w.now + 2300 * L.MS
    publish_report(track, NTP_2026, 1)
    desk.pass_time(2300 * L.MS)
    (block,) = receiver_blocks(end)
    assert block.lsr == fixed(NTP_2026) >> 16 & 0xFFFFFFFF
    assert block.dlsr == 65536 * 23 // 10


@pytest.mark.parametrize("seed", range(5))
def test_sender_report_lies_on_the_publishers_own_line(desk: Desk, seed: int) -> None:
    rng = random.Random(seed)
    kind = rng.choice([L.AUDIO, L.VIDEO])
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher, kind)
    sub = Outgoing(viewer, track).record
    rate = int(sub.clock_rate)
    sub.timestamp_offset, sub.packets, sub.octets = rng.randrange(1 << 32), (1 << 32) + 7, 12345
    ntp, timestamp = NTP_2026 + rng.randrange(10**12), rng.randrange(1 << 32)
    publish_report(track, ntp, timestamp)
    for _ in range(3):
        desk.pass_time(rng.randint(100, 200) * 10 * L.MS)
        report = sender_reports(viewer)[-1]
        info = report.sender_info
        assert (report.ssrc, info.packet_count, info.octet_count) == (sub.ssrc, 7, 12345)
        units = info.rtp_timestamp - timestamp - int(sub.timestamp_offset) & 0xFFFFFFFF
        later = Fraction(info.ntp_timestamp - fixed(ntp), 1 << 32)  # s
        assert abs(later - Fraction(units, rate)) < Fraction(3, 10**9)
        assert 0 <= Fraction(int(sub.sr_sent) - int(track.log.header.sr_arrival), L.SECOND) - later < Fraction(2, rate)


@pytest.mark.parametrize("rate", [8000, 48000, 90000])
def test_extrapolated_pairs_match_exact_fractions(rate: int) -> None:
    rng = random.Random(rate)
    for _ in range(300):
        ntp, timestamp, elapsed = NTP_2026 + rng.randrange(10**15), rng.randrange(1 << 32), rng.randrange(10**13)
        new_ntp, new_timestamp = extrapolate(ntp, timestamp, elapsed, rate)
        units = int(Fraction(elapsed, L.SECOND) * rate)
        assert new_timestamp == timestamp + units
        assert new_ntp == ntp + units * L.SECOND // rate
        assert ntp_fixed(new_ntp) & (1 << 64) - 1 == fixed(new_ntp)


def test_audio_and_video_stay_in_sync_however_their_reports_were_delayed(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    video, audio = Track(publisher, ssrc=1), Track(publisher, L.AUDIO, ssrc=2)
    picture, sound = Outgoing(viewer, video).record, Outgoing(viewer, audio).record
    picture.timestamp_offset, sound.timestamp_offset = 1000, 0xFFFFF000
    publish_report(video, NTP_2026, 90_000)
    desk.pass_time(170 * L.MS)
    publish_report(audio, NTP_2026 + 20 * L.MS, 48_000)  # written 20 ms later, arrived 170 ms later
    desk.pass_time(L.SECOND)
    captured = {}
    for report in sender_reports(viewer):
        sub, rate, origin = (picture, 90_000, 90_000) if report.ssrc == picture.ssrc else (sound, 48_000, 48_000)
        units = report.sender_info.rtp_timestamp - int(sub.timestamp_offset) - origin & 0xFFFFFFFF
        captured[report.ssrc] = Fraction(report.sender_info.ntp_timestamp, 1 << 32) - Fraction(units, rate)
    assert abs(captured[int(sound.ssrc)] - captured[int(picture.ssrc)] - Fraction(20, 1000)) < Fraction(1, 10**8)


def test_first_sender_report_comes_within_100_ms_then_one_a_second(desk: Desk) -> None:
    publisher = desk.peer()
    track = Track(publisher)
    viewers = [desk.peer() for _ in range(10)]
    for viewer in viewers:
        Outgoing(viewer, track)
    publish_report(track, NTP_2026, 5)
    desk.pass_time(90 * L.MS)
    assert [len(sender_reports(viewer)) for viewer in viewers] == [1] * 10
    desk.pass_time(5 * L.SECOND)
    assert all(4 <= len(sender_reports(viewer)) <= 5 for viewer in viewers)


def test_sender_report_names_the_participant(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    sub = Outgoing(viewer, track, b"room/alice").record
    publish_report(track, NTP_2026, 5)
    desk.pass_time(100 * L.MS)
    names = next(p for p in viewer.packets() if isinstance(p, RtcpSdesPacket))
    assert [(chunk.ssrc, chunk.items) for chunk in names.chunks] == [(sub.ssrc, [(1, b"room/alice")])]


@pytest.mark.parametrize(
    "change",
    [{"mode": L.PARKED}, {"mode": L.WAITING}, {"packets": 0}, {"state": L.FREE}],
    ids=["parked", "waiting", "nothing sent", "free"],
)
def test_subscription_that_sends_nothing_reports_nothing(desk: Desk, change: dict[str, Any]) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    sub = Outgoing(viewer, track).record
    for name, value in change.items():
        sub[name] = value
    publish_report(track, NTP_2026, 5)
    desk.pass_time(500 * L.MS)
    assert viewer.datagrams() == []


def test_no_sender_report_before_the_publishers_first(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    Outgoing(viewer, track)
    desk.pass_time(2 * L.SECOND)
    assert sender_reports(viewer) == []
    publish_report(track, NTP_2026, 5)
    desk.pass_time(90 * L.MS)
    assert len(sender_reports(viewer)) == 1


def test_report_being_changed_by_its_writer_is_not_used(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    Outgoing(viewer, track)
    publish_report(track, NTP_2026, 5)
    track.log.header.sr_version += 1
    desk.pass_time(500 * L.MS)
    assert sender_reports(viewer) == []
    track.log.header.sr_version += 1
    desk.pass_time(90 * L.MS)
    assert len(sender_reports(viewer)) == 1


def test_round_trip_comes_from_the_subscribers_report_block(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    sub = Outgoing(viewer, track).record
    publish_report(track, NTP_2026, 5)
    desk.pass_time(80 * L.MS)
    (report,) = sender_reports(viewer)
    middle = report.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
    desk.w.now = sub.sr_sent + 750 * L.MS
    block = RtcpReceiverInfo(
        ssrc=report.ssrc, fraction_lost=64, packets_lost=-2, highest_sequence=1, jitter=33, lsr=middle, dlsr=65536 // 2
    )
    viewer.rtcp(RtcpRrPacket(ssrc=1, reports=[block]))
    assert viewer.record.rtt == 250 * L.MS
    assert (sub.acknowledged, sub.lost_fraction, sub.lost, sub.jitter) == (1, 64, -2, 33)
    block.lsr -= 1
    desk.w.now += L.SECOND
    viewer.rtcp(RtcpRrPacket(ssrc=1, reports=[block]))
    assert viewer.record.rtt == 250 * L.MS, "a report about an older one of ours tells nothing"


def test_goodbye_names_every_stream_that_was_sent(desk: Desk) -> None:
    publisher, viewer = desk.peer(), desk.peer()
    track = Track(publisher)
    subs = [Outgoing(viewer, track).record for _ in range(45)]
    subs[7].packets = 0
    subs[8].rtx_type = L.NO_TYPE
    goodbye(desk.w, viewer.index)
    sources: list[int] = []
    for compound in viewer.packets():
        if isinstance(compound, RtcpByePacket):
            sources += compound.sources
    expected = {int(viewer.record.rtcp_ssrc)}
    for k, sub in enumerate(subs):
        if k != 7:
            expected |= {int(sub.ssrc)} if k == 8 else {int(sub.ssrc), int(sub.rtx_ssrc)}
    assert len(sources) == len(set(sources)) and set(sources) == expected


@pytest.mark.parametrize(("mode", "sent"), [(L.LIVE, 1), (L.PACED, 1), (L.WAITING, 0), (L.PARKED, 0)])
def test_only_a_subscription_that_sends_reports(desk: Desk, mode: int, sent: int) -> None:
    track = Track(desk.peer())
    end = desk.peer()
    out = Outgoing(end, track)
    publish_report(track, NTP_2026, 90_000)
    out.record.mode = mode
    sender_report(desk.w, out.index)
    assert len(sender_reports(end)) == sent


def test_report_that_another_worker_stamped_later_than_now_is_passed_on_as_it_is(desk: Desk) -> None:
    track = Track(desk.peer())
    end = desk.peer()
    out = Outgoing(end, track)
    publish_report(track, NTP_2026, 90_000)
    desk.w.now -= 3 * L.MS
    sender_report(desk.w, out.index)
    (report,) = sender_reports(end)
    assert report.sender_info.rtp_timestamp == 90_000
