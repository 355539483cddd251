"""The load clients' RTCP against aiortc's."""

from __future__ import annotations

import random

from aiortc.rtp import (
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
)

from loadtest.feedback import Received, read_requests, receiver_report, sender_report


def test_a_sender_report_is_read_by_aiortc() -> None:
    report, names = RtcpPacket.parse(sender_report(0xCAFE, "a-name", 1_500_000_000, 2**32 + 9, 7, 8000))
    assert isinstance(report, RtcpSrPacket) and isinstance(names, RtcpSdesPacket)
    assert (report.ssrc, report.sender_info.rtp_timestamp, report.sender_info.packet_count) == (0xCAFE, 9, 7)
    assert report.sender_info.ntp_timestamp >> 32 == 1 + 2208988800
    assert names.chunks[0].items == [(1, b"a-name")]


def test_a_receiver_report_is_read_by_aiortc() -> None:
    report, _ = RtcpPacket.parse(receiver_report(5, "n", [Received(11, 70_000, 3), Received(12, 9, 0)]))
    assert isinstance(report, RtcpRrPacket)
    assert [(r.ssrc, r.highest_sequence, r.packets_lost) for r in report.reports] == [(11, 70_000, 3), (12, 9, 0)]


def test_pli_and_fir_are_keyframe_requests() -> None:
    pli = RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=77)
    fir = RtcpPsfbPacket(fmt=4, ssrc=1, media_ssrc=0, fci=(88).to_bytes(4) + b"\x01\0\0\0")
    assert read_requests(bytes(pli) + bytes(fir)).keyframes == {77, 88}


def test_nack_names_every_lost_packet() -> None:
    nack = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=77, lost=[12, 13, 28, 65535])
    assert read_requests(bytes(nack)).lost == [(77, 12), (77, 13), (77, 28), (77, 65535)]


def test_nack_bits_count_on_across_the_wrap() -> None:
    nack = bytes.fromhex("81cd0003 00000001 0000004d ffff 0001")
    assert read_requests(nack).lost == [(77, 65535), (77, 0)]


def test_noise_asks_for_nothing_and_raises_nothing() -> None:
    dice = random.Random(3)
    for _ in range(2000):
        read_requests(bytes([0x81, dice.choice((200, 205, 206))]) + dice.randbytes(dice.randrange(60)))
    assert read_requests(b"").lost == []
