"""Reads RTP in the clear from captures: classic pcap and pcapng, for publishers that replay them.

Link types Ethernet (with VLAN tags), Linux cooked (SLL, SLL2), loopback and raw IP; UDP over IPv4 and IPv6, no IP
fragments. Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, RFC 3550 section 5.1.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGICS = {0xA1B2C3D4: 1_000_000, 0xA1B23C4D: 1_000_000_000}  # classic pcap: parts of a second
SECTION, INTERFACE, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 3, 6  # pcapng block types
BYTE_ORDER = 0x1A2B3C4D
TIME_RESOLUTION = 9  # pcapng option if_tsresol
NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
LINK_HEADERS = {NULL: 4, RAW: 0, LOOP: 4, LINUX_SLL: 16, IPV4: 0, IPV6: 0, LINUX_SLL2: 20}
VLAN_TYPES = (0x8100, 0x88A8)
IP_TYPES = (0x0800, 0x86DD)
UDP, FRAGMENT = 17, 44  # IP protocols
SKIPPED = (0, 43, 60)  # IPv6 extension headers with a length: hop-by-hop, routing, destination options
RTCP_TYPES = range(64, 96)  # where RTCP's packet types lie as payload types (RFC 5761 section 4)
LARGEST = 1 << 18  # bytes of a captured packet; more is a damaged file


@dataclass(frozen=True)
class Captured:
    """One packet of a capture, from its link layer header on."""

    time: float  # seconds since the epoch; 0: not told
    link: int  # link type
    data: bytes
    length: int  # bytes on the wire; more than data has if the capture cut the packet


@dataclass(frozen=True)
class RtpPacket:
    """One RTP packet. `sequence` counts on beyond 16 bits."""

    sequence: int
    timestamp: int
    marker: bool
    payload_type: int
    ssrc: int
    payload: bytes


@dataclass(frozen=True)
class RtpFrame:
    """The packets of one timestamp, in order."""

    timestamp: int
    payloads: tuple[bytes, ...]
    whole: bool  # no packet is missing between them, and the last has the marker
    follows: bool  # the packet before the first was there


def captured_packets(path: Path) -> Iterator[Captured]:
    """All packets of a capture. ValueError: the file is no capture, or truncated. OSError: it can't be read."""
    data = path.read_bytes()
    if len(data) < 4:
        raise ValueError(f"{path} is no pcap or pcapng file: it has {len(data)} bytes")
    for order in "<>":
        (magic,) = struct.unpack_from(order + "I", data)
        if magic in MAGICS:
            return classic(path, data, order, MAGICS[magic])
    if magic == SECTION:
        return blocks(path, data)
    raise ValueError(f"{path} is no pcap or pcapng file: it begins with {data[:4].hex()}")


def truncated(path: Path, at: int) -> ValueError:
    """What to raise when a file ends within a record."""
    return ValueError(f"{path} is truncated: the record at byte {at} goes beyond the end of the file")


def classic(path: Path, data: bytes, order: str, parts: int) -> Iterator[Captured]:
    """The packets of a classic pcap file."""
    if len(data) < 24:
        raise truncated(path, 0)
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            raise truncated(path, at)
        seconds, fraction, size, length = struct.unpack_from(order + "4I", data, at)
        if size > LARGEST:
            raise ValueError(f"{path} is damaged: a packet of {size} bytes at byte {at}")
        if at + 16 + size > len(data):
            raise truncated(path, at)
        yield Captured(seconds + fraction / parts, link, data[at + 16 : at + 16 + size], length)
        at += 16 + size


def blocks(path: Path, data: bytes) -> Iterator[Captured]:
    """The packets of a pcapng file, which is a row of blocks: type, length, body, length."""
    order = "<"
    interfaces: list[tuple[int, float]] = []  # link type, parts of a second in a time stamp
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            raise truncated(path, at)
        if data[at : at + 4] == b"\n\r\r\n":  # the same in both byte orders
            order = "<" if struct.unpack_from("<I", data, at + 8)[0] == BYTE_ORDER else ">"
            interfaces = []
        kind, size = struct.unpack_from(order + "2I", data, at)
        if size < 12 or size % 4:
            raise ValueError(f"{path} is damaged: a block of {size} bytes at byte {at}")
        if at + size > len(data):
            raise truncated(path, at)
        body = data[at + 8 : at + size - 4]
        if kind == INTERFACE and len(body) >= 8:
            interfaces.append((struct.unpack_from(order + "H", body)[0], time_parts(body, order)))
        elif kind in (ENHANCED, SIMPLE):
            yield block_packet(path, at, kind, body, order, interfaces)
        at += size


def time_parts(body: bytes, order: str) -> float:
    """Parts of a second that a time stamp counts, from the options of an interface block."""
    at = 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "2H", body, at)
        if code == TIME_RESOLUTION and size == 1 and at + 4 < len(body):
            value = body[at + 4]
            return 2.0 ** (value & 127) if value & 128 else 10.0**value
        at += 4 + -(-size // 4) * 4
    return 1e6


def block_packet(
    path: Path, at: int, kind: int, body: bytes, order: str, interfaces: list[tuple[int, float]]
) -> Captured:
    """The packet of an enhanced or simple packet block at byte `at`."""
    head = 20 if kind == ENHANCED else 4
    if len(body) < head:
        raise ValueError(f"{path} is damaged: a packet block without header at byte {at}")
    if kind == ENHANCED:
        interface, high, low, size, length = struct.unpack_from(order + "5I", body)
    else:
        interface, high, low = 0, 0, 0
        (length,) = struct.unpack_from(order + "I", body)
        size = min(length, len(body) - head)
    if interface >= len(interfaces) or size > len(body) - head:
        raise ValueError(f"{path} is damaged: a malformed packet block at byte {at}")
    link, parts = interfaces[interface]
    return Captured((high << 32 | low) / parts, link, body[head : head + size], length)


def udp_payload(packet: Captured) -> bytes | None:
    """What the UDP datagram in a packet carries; None: there is none, or it is cut or a fragment. ValueError: the
    link type isn't known."""
    data = ip_packet(packet)
    if len(data) < 20:
        return None
    if data[0] >> 4 == 4:
        at, protocol = (data[0] & 15) * 4, data[9]
        if int.from_bytes(data[6:8], "big") & 0x3FFF:
            return None
    elif data[0] >> 4 == 6:
        at, protocol = ipv6_body(data)
    else:
        return None
    if protocol != UDP or len(data) < at + 8:
        return None
    size = int.from_bytes(data[at + 4 : at + 6], "big")
    return data[at + 8 : at + size] if 8 <= size <= len(data) - at else None


def ip_packet(packet: Captured) -> bytes:
    """From the IP header on; empty: it is something else."""
    data = packet.data
    if packet.link == ETHERNET:
        at = 12
        while int.from_bytes(data[at : at + 2], "big") in VLAN_TYPES:
            at += 4
        return data[at + 2 :] if int.from_bytes(data[at : at + 2], "big") in IP_TYPES else b""
    if packet.link not in LINK_HEADERS:
        raise ValueError(f"captures of link type {packet.link} can't be read: Ethernet, Linux cooked or raw IP")
    return data[LINK_HEADERS[packet.link] :]


def ipv6_body(data: bytes) -> tuple[int, int]:
    """Where the body of an IPv6 packet begins, and its protocol."""
    at, protocol = 40, data[6]
    while protocol in SKIPPED and at + 2 <= len(data):
        protocol, at = data[at], at + 8 + 8 * data[at + 1]
    return at, protocol


def parse_rtp(data: bytes) -> RtpPacket | None:
    """An RTP packet in the clear; None: it is something else."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    kind = data[1] & 127
    at, end = 12 + 4 * (data[0] & 15), len(data)
    if data[0] & 0x10:
        if at + 4 > end:
            return None
        at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
    if data[0] & 0x20:
        end -= data[-1]
    if kind in RTCP_TYPES or at > end:
        return None
    sequence, timestamp, ssrc = struct.unpack_from("!2x H I I", data)
    return RtpPacket(sequence, timestamp, bool(data[1] & 128), kind, ssrc, data[at:end])


def read_rtp(path: Path, payload_type: int | None = None, ssrc: int | None = None) -> list[RtpPacket]:
    """The packets of one stream in the order of their sequence numbers, each once, those without payload left out.

    Where the arguments leave a choice, it is the stream with the most packets. ValueError: the file is no capture, is
    truncated, or has no such stream.
    """
    found = []
    for packet in captured_packets(path):
        data = udp_payload(packet)
        rtp = parse_rtp(data) if data else None
        if rtp and payload_type in (None, rtp.payload_type) and ssrc in (None, rtp.ssrc):
            found.append(rtp)
    streams = Counter((rtp.ssrc, rtp.payload_type) for rtp in found if rtp.payload)
    if not streams:
        wanted = [f"payload type {payload_type}"] if payload_type is not None else []
        wanted += [f"SSRC {ssrc:#010x}"] if ssrc is not None else []
        raise ValueError(f"{path} has no RTP packets" + (f" of {' and '.join(wanted)}" if wanted else ""))
    chosen = streams.most_common(1)[0][0]
    return in_order([rtp for rtp in found if (rtp.ssrc, rtp.payload_type) == chosen])


def in_order(packets: list[RtpPacket]) -> list[RtpPacket]:
    """Sequence numbers widened beyond 16 bits, duplicates gone, sorted."""
    widened: dict[int, RtpPacket] = {}
    last = packets[0].sequence + 0x10000
    for one in packets:
        sequence = last + ((one.sequence - last + 0x8000) & 0xFFFF) - 0x8000
        last = max(last, sequence)
        fields = (one.timestamp, one.marker, one.payload_type, one.ssrc, one.payload)
        widened.setdefault(sequence, RtpPacket(sequence, *fields))
    return [widened[sequence] for sequence in sorted(widened)]


def frames(packets: list[RtpPacket]) -> list[RtpFrame]:
    """Neighbours with the same timestamp as frames; packets without payload (probing) only count as there."""
    groups: list[list[RtpPacket]] = []
    for packet in packets:
        if not groups or groups[-1][-1].timestamp != packet.timestamp:
            groups.append([])
        groups[-1].append(packet)
    known = {packet.sequence for packet in packets}
    result = []
    for group in groups:
        told = [packet for packet in group if packet.payload]
        if told:
            unbroken = told[-1].sequence - told[0].sequence < len(group)
            payloads = tuple(packet.payload for packet in told)
            whole = unbroken and told[-1].marker
            result.append(RtpFrame(told[0].timestamp, payloads, whole, told[0].sequence - 1 in known))
    return result
