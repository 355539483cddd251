"""Captures: every format and link layer gives the same RTP; damaged files are refused with a reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.clips.pcap import captured_packets, frames, read_rtp
from tests.unit.loadtest.clips.captures import ethernet, ipv4, ipv6, pcap, pcapng, rtp, udp

STREAM = [rtp(k, 3000 * (k // 2), bytes([k]) * 9, marker=k % 2 == 1) for k in range(6)]
WANTED = [bytes([k]) * 9 for k in range(6)]
LINKS: dict[str, Callable[[bytes], tuple[int, bytes]]] = {
    "Ethernet": lambda body: (1, ethernet(ipv4(body))),
    "Ethernet with trailer": lambda body: (1, ethernet(ipv4(body)) + bytes(6)),
    "VLAN": lambda body: (1, ethernet(ipv4(body), vlan=True)),
    "Ethernet IPv6": lambda body: (1, ethernet(ipv6(body))),
    "IPv6 options": lambda body: (101, ipv6(body, options=True)),
    "raw": lambda body: (101, ipv4(body)),
    "IPv4": lambda body: (228, ipv4(body)),
    "IPv6": lambda body: (229, ipv6(body)),
    "SLL": lambda body: (113, bytes(14) + b"\x08\x00" + ipv4(body)),
    "SLL2": lambda body: (276, b"\x08\x00" + bytes(18) + ipv4(body)),
    "loopback": lambda body: (0, b"\x02\0\0\0" + ipv4(body)),
}
FILES: dict[str, Callable[[list[bytes], int], bytes]] = {
    "pcap": lambda packets, link: pcap(packets, link),
    "pcap of the other byte order": lambda packets, link: pcap(packets, link, ">"),
    "pcap in nanoseconds": lambda packets, link: pcap(packets, link, nano=True),
    "pcapng": lambda packets, link: pcapng(packets, link),
    "pcapng of the other byte order": lambda packets, link: pcapng(packets, link, ">"),
    "pcapng of simple blocks": lambda packets, link: pcapng(packets, link, simple=True),
}


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("link", LINKS)
def test_every_link_layer_is_read(link: str, tmp_path: Path) -> None:
    packets = [LINKS[link](udp(one)) for one in STREAM]
    path = saved(tmp_path, pcap([packet for _, packet in packets], packets[0][0]))
    assert [one.payload for one in read_rtp(path)] == WANTED


@pytest.mark.parametrize("file", FILES)
def test_every_file_format_is_read(file: str, tmp_path: Path) -> None:
    path = saved(tmp_path, FILES[file]([ethernet(ipv4(udp(one))) for one in STREAM], 1))
    assert [one.payload for one in read_rtp(path)] == WANTED


def test_times_are_in_seconds(tmp_path: Path) -> None:
    packets = [b"a", b"b"]
    assert [one.time for one in captured_packets(saved(tmp_path, pcap(packets)))] == [10, 10.0005]
    assert [one.time for one in captured_packets(saved(tmp_path, pcap(packets, nano=True)))] == [10, 10.0000005]
    assert [one.time for one in captured_packets(saved(tmp_path, pcapng(packets)))] == [0, 1e-6]


def test_streams_are_told_apart_and_the_largest_is_the_default(tmp_path: Path) -> None:
    other = [rtp(k, 0, b"other", kind=111, ssrc=9) for k in range(3)]
    rtcp = bytes([0x80, 200]) + bytes(26)
    noise = [b"", b"\x80", rtcp, b"\x00\x01\x00\x00" + bytes(16)]
    path = saved(tmp_path, pcap([ipv4(udp(one)) for one in [*other, *noise, *STREAM]], 101))
    assert {one.ssrc for one in read_rtp(path)} == {7}
    assert {one.ssrc for one in read_rtp(path, payload_type=111)} == {9}
    assert {one.payload_type for one in read_rtp(path, ssrc=9)} == {111}
    with pytest.raises(ValueError, match="no RTP packets of payload type 96 and SSRC 0x00000009"):
        read_rtp(path, 96, 9)


def test_packets_are_put_in_order_once_across_the_wrap(tmp_path: Path) -> None:
    stream = [rtp(65533 + k, 0, bytes([k]) * 3) for k in range(6)]
    shuffled = [stream[k] for k in (1, 0, 2, 2, 4, 3, 5, 1)]
    path = saved(tmp_path, pcap([ipv4(udp(one)) for one in shuffled], 101))
    packets = read_rtp(path)
    assert [one.payload[0] for one in packets] == list(range(6))
    assert packets[-1].sequence - packets[0].sequence == 5


def test_frames_know_whether_they_are_whole(tmp_path: Path) -> None:
    stream = [rtp(k, 3000 * (k // 3), bytes([k]), marker=k % 3 == 2) for k in range(12)]
    probe = rtp(12, 9000, b"")
    missing = [one for k, one in enumerate(stream) if k not in (1, 6, 11)]
    got = frames(read_rtp(saved(tmp_path, pcap([ipv4(udp(one)) for one in [*missing, probe]], 101))))
    assert [(one.payloads, one.whole, one.follows) for one in got] == [
        ((b"\0", b"\2"), False, False),
        ((b"\3", b"\4", b"\5"), True, True),
        ((b"\7", b"\x08"), True, False),
        ((b"\x09", b"\x0a"), False, True),
    ]


def test_header_extensions_and_padding_are_no_payload(tmp_path: Path) -> None:
    plain = rtp(1, 0, b"payload")
    extended = bytes([0xB1]) + plain[1:12] + bytes(4) + b"\xbe\xde\x00\x01" + bytes(4) + b"payload" + b"\0\0\3"
    path = saved(tmp_path, pcap([ipv4(udp(extended))], 101))
    assert [one.payload for one in read_rtp(path)] == [b"payload"]


def test_what_is_no_udp_is_left_out(tmp_path: Path) -> None:
    body = udp(STREAM[0])
    others = [
        ipv4(body, protocol=6),
        ipv4(body, fragment=0x2000),
        ipv4(body, fragment=3),
        ipv4(body)[:-4],
        b"",
        b"\x99",
    ]
    path = saved(tmp_path, pcap([*others, ipv4(udp(STREAM[1]))], 101))
    assert [one.payload for one in read_rtp(path)] == WANTED[1:2]


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_truncated_file_is_refused(write: Callable[..., bytes], tmp_path: Path) -> None:
    data = write([ipv4(udp(one)) for one in STREAM], 101)
    for cut in (len(data) - 1, len(data) - 60, 30):
        with pytest.raises(ValueError, match="is truncated: the record at byte"):
            read_rtp(saved(tmp_path, data[:cut]))


@pytest.mark.parametrize("data", [b"", b"abc", b"RIFF" + bytes(100), b"\xd4\xc3\xb2"])
def test_what_is_no_capture_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no pcap or pcapng file"):
        read_rtp(saved(tmp_path, data))


def test_captures_without_rtp_or_of_unknown_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no RTP packets$"):
        read_rtp(saved(tmp_path, pcap([])))
    with pytest.raises(ValueError, match="link type 147"):
        read_rtp(saved(tmp_path, pcap([b"abc"], 147)))


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_damage_gives_packets_or_a_value_error(write: Callable[..., bytes], tmp_path: Path) -> None:
    data = write([ethernet(ipv4(udp(one))) for one in STREAM], 1)
    chosen = random.Random(5)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[chosen.randrange(len(data))] = chosen.randrange(256)
        try:
            assert frames(read_rtp(saved(tmp_path, bytes(damaged))))
        except ValueError as error:
            assert "capture" in str(error)
