"""RTCP from peers: what is asked is done, what is false is dropped, and nobody speaks for another's streams."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPsfbPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpRtpfbPacket

from mediaserver.engine import layout as L
from mediaserver.engine.numbering import next_index, start_at
from packetio.srtp import CM80, GCM
from tests.unit.engine.desk import Desk, FarEnd, Outgoing, Track
from tests.unit.engine.peers import parse


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def connected(desk: Desk, profile: str = GCM) -> tuple[Track, FarEnd, Outgoing]:
    """A publisher's track and a viewer who is live on it."""
    publisher, viewer = desk.peer(), desk.peer(profile)
    publisher.record.next_report = 1 << 62
    track = Track(publisher)
    return track, viewer, Outgoing(viewer, track)


def sent(outgoing: Outgoing, track: Track, count: int) -> list[int]:
    """As if `count` packets of the track had been logged and forwarded; their outgoing sequence numbers."""
    sub = outgoing.record
    start_at(sub, track.first)
    numbers = []
    for k in range(count):
        track.logged(track.first + k, bytes([k]) * (50 + k))
        numbers.append(int(next_index(sub, track.first + k)) & 0xFFFF)
    return numbers


def pli(ssrc: int) -> RtcpPsfbPacket:
    return RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=ssrc)


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_nacked_packets_come_again_from_the_log(desk: Desk, profile: str) -> None:
    track, viewer, outgoing = connected(desk, profile)
    numbers = sent(outgoing, track, 40)
    wanted = [numbers[3], numbers[4], numbers[30]]
    viewer.rtcp(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(outgoing.record.ssrc), lost=wanted))
    packets = [parse(viewer.opener.unprotect(data)) for data in viewer.datagrams()]
    assert [(p.ssrc, p.payload_type) for p in packets] == [(outgoing.record.rtx_ssrc, 121)] * 3
    assert [int.from_bytes(p.payload[:2]) for p in packets] == wanted
    assert [p.payload[2:] for p in packets] == [bytes([k]) * (50 + k) for k in (3, 4, 30)]
    assert desk.w.nack_in == desk.w.rtx_out == outgoing.record.resent == 3


def test_nack_for_what_was_never_sent_is_counted_and_unanswered(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    (number,) = sent(outgoing, track, 1)
    lost = [number + 1, number + 400]
    viewer.rtcp(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(outgoing.record.ssrc), lost=lost))
    assert viewer.datagrams() == []
    assert outgoing.record.unanswered == 2


def test_picture_loss_of_many_viewers_becomes_one_request(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    other = desk.peer()
    second = Outgoing(other, track)
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    other.rtcp(pli(int(second.record.ssrc)))
    request = RtcpPsfbPacket(fmt=4, ssrc=1, media_ssrc=0, fci=int(outgoing.record.ssrc).to_bytes(4) + b"\x01\0\0\0")
    viewer.rtcp(request)
    assert [p.media_ssrc for p in track.end.packets()] == [track.record.ssrc]
    assert desk.w.pli_in == 3 and outgoing.record.plis == 2


def test_picture_loss_while_switching_is_about_the_target(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    target = Track(track.end, ssrc=555)
    outgoing.record.target = target.feed_index
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    assert [p.media_ssrc for p in track.end.packets()] == [555]


def test_picture_loss_during_a_late_joiners_replay_does_not_disturb_the_publisher(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    outgoing.record.mode = L.PACED
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    assert track.end.packets() == [] and outgoing.record.plis == 1
    outgoing.record.lag = L.SECOND
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    assert len(track.end.packets()) == 1


def test_feedback_about_another_viewers_stream_is_ignored(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    stranger = desk.peer()
    numbers = sent(outgoing, track, 3)
    ssrc = int(outgoing.record.ssrc)
    block = RtcpReceiverInfo(ssrc=ssrc, fraction_lost=255, packets_lost=9, highest_sequence=1, jitter=1, lsr=0, dlsr=0)
    stranger.rtcp(RtcpRrPacket(ssrc=1, reports=[block]), pli(ssrc))
    stranger.rtcp(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=ssrc, lost=numbers))
    sub = outgoing.record
    assert sub.acknowledged == sub.lost_fraction == sub.plis == sub.nacks == desk.w.pli_in == 0
    assert viewer.datagrams() == stranger.datagrams() == track.end.datagrams() == []


@pytest.mark.parametrize("ssrc", [0, 1, 2, 77 << 17, 77 << 17 | 60 << 1, 0xFFFFFFFF, 78 << 17 | 2])
def test_feedback_about_unknown_streams_is_ignored(desk: Desk, ssrc: int) -> None:
    track, viewer, outgoing = connected(desk)
    assert ssrc != outgoing.record.ssrc
    viewer.rtcp(pli(ssrc), RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=ssrc, lost=[1, 2, 3]))
    assert desk.w.pli_in == desk.w.nack_in == 0 and desk.w.rtcp_in == 1


def test_replayed_and_forged_rtcp_is_dropped(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    data = viewer.rtcp(pli(int(outgoing.record.ssrc)))
    desk.deliver(viewer.index, data)
    viewer.rtcp(pli(int(outgoing.record.ssrc)), seal=False)
    desk.deliver(viewer.index, track.end.sealer.protect_rtcp(bytes(pli(int(outgoing.record.ssrc)))))
    assert desk.w.drop_srtp == viewer.record.bad_srtp == 3
    assert desk.w.rtcp_in == desk.w.pli_in == 1


def test_rtcp_before_the_peer_has_keys_is_dropped(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    viewer.record.secured = 0
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    assert desk.w.drop_srtp == 1 and desk.w.rtcp_in == 0


def test_end_of_one_stream_pauses_its_layer_and_the_last_one_is_the_publishers_goodbye(desk: Desk) -> None:
    publisher = desk.peer()
    tracks = [Track(publisher, ssrc=100), Track(publisher, L.AUDIO, ssrc=200)]
    publisher.rtcp(RtcpByePacket(sources=[100, 777]))
    assert desk.events() == [(L.LAYER_PAUSED, tracks[0].index)]
    assert publisher.record.last_goodbye == 0
    publisher.rtcp(RtcpByePacket(sources=[200]))
    assert desk.events() == [(L.LAYER_PAUSED, tracks[1].index), (L.GOODBYE, publisher.index)]
    assert publisher.record.last_goodbye == desk.w.now


def test_bye_that_names_all_streams_is_a_goodbye_at_once(desk: Desk) -> None:
    publisher = desk.peer()
    tracks = [Track(publisher, ssrc=100 + k) for k in range(3)]
    publisher.rtcp(RtcpByePacket(sources=[100, 101, 102]))
    paused = [(L.LAYER_PAUSED, track.index) for track in tracks]
    assert desk.events() == [*paused, (L.GOODBYE, publisher.index)]


def test_bye_of_a_viewer_is_no_publishers_goodbye(desk: Desk) -> None:
    _, viewer, _ = connected(desk)
    viewer.rtcp(RtcpRrPacket(ssrc=1, reports=[]), RtcpByePacket(sources=[1]))
    assert desk.events() == []
    assert viewer.record.last_goodbye == desk.w.now


def test_bye_about_streams_of_others_is_nobodys_goodbye(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    stranger = desk.peer()
    for ssrc in (int(track.record.ssrc), int(outgoing.record.ssrc), 12345):
        for member in (viewer, stranger):
            member.rtcp(RtcpRrPacket(ssrc=1, reports=[]), RtcpByePacket(sources=[ssrc]))
            assert member.record.last_goodbye == 0
    assert desk.events() == [] and track.record.active


def test_unknown_packets_of_a_compound_are_passed_over(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)

    def packet(form: int, kind: int, body: bytes) -> bytes:
        return bytes([0x80 | form, kind]) + (len(body) // 4).to_bytes(2) + body

    extended, application, remb = (
        packet(0, 207, bytes(4)),
        packet(5, 204, bytes(4) + b"name"),
        packet(15, 206, bytes(8) + b"REMB" + bytes(8)),
    )
    feedback = packet(15, 205, bytes(20))
    report = RtcpRrPacket(ssrc=1)
    viewer.rtcp(report, extended, application, remb, feedback, pli(int(outgoing.record.ssrc)))
    assert desk.w.pli_in == 1 and desk.w.drop_garbage == 0


def test_compound_with_a_broken_packet_is_used_up_to_there(desk: Desk) -> None:
    track, viewer, outgoing = connected(desk)
    ssrc = int(outgoing.record.ssrc)
    viewer.rtcp(pli(ssrc), bytes.fromhex("81ce0040") + bytes(8), pli(ssrc))
    assert desk.w.pli_in == 1 and desk.w.drop_garbage == 1


def test_authenticated_nonsense_does_no_harm(desk: Desk) -> None:
    rng = random.Random(11)
    track, viewer, outgoing = connected(desk)
    sent(outgoing, track, 20)
    ssrcs = [int(outgoing.record.ssrc), int(outgoing.record.rtx_ssrc), int(track.record.ssrc), 0]
    for _ in range(1500):
        data = bytearray()
        for _ in range(rng.randint(1, 5)):
            body = bytearray(rng.randbytes(4 * rng.randint(0, 40)))
            for at in range(0, len(body), 4):
                if rng.random() < 0.2:
                    body[at : at + 4] = rng.choice(ssrcs).to_bytes(4)
            words = len(body) // 4 + rng.choice([0, 0, 0, 0, 0, -1, 1, 900])
            data += bytes([0x80 | rng.choice([0, 0x20]) | rng.randrange(32), rng.randint(200, 207)])
            data += max(words, 0).to_bytes(2) + body
        data[4:8] = (1).to_bytes(4) if len(data) >= 8 else b""
        if len(data) >= 8:
            rng.choice([viewer, track.end]).rtcp(bytes(data))
            desk.w.now += L.MS
    assert desk.w.rtcp_in > 1400 and desk.w.drop_srtp == 0
    viewer.datagrams()
    before = int(desk.w.pli_in)
    viewer.rtcp(pli(int(outgoing.record.ssrc)))
    assert desk.w.pli_in == before + 1
