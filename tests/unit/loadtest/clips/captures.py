"""Writes captures for the tests: RTP in UDP in IP, as classic pcap and as pcapng."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def rtp(sequence: int, timestamp: int, payload: bytes, marker: bool = False, kind: int = 96, ssrc: int = 7) -> bytes:
    head = struct.pack("!BBHII", 0x80, kind | marker << 7, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return head + payload


def udp(payload: bytes) -> bytes:
    return struct.pack("!4H", 5000, 6000, 8 + len(payload), 0) + payload


def ipv4(body: bytes, protocol: int = 17, fragment: int = 0) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, fragment, 64, protocol, 0, b"\x7f\0\0\1", b"\x7f\0\0\1"
    )
    return head + body


def ipv6(body: bytes, options: bool = False) -> bytes:
    if options:
        body = b"\x11\x00" + bytes(6) + body
    return struct.pack("!IHBB16s16s", 6 << 28, len(body), 60 if options else 17, 64, bytes(16), bytes(16)) + body


def ethernet(packet: bytes, vlan: bool = False) -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return bytes(12) + (b"\x81\x00\x00\x05" if vlan else b"") + kind + packet


def pcap(packets: Sequence[bytes], link: int = 1, order: str = "<", nano: bool = False) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for k, packet in enumerate(packets):
        out += struct.pack(order + "4I", 10, 500 * k, len(packet), len(packet)) + packet
    return out


def block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(order + "2I", kind, size) + body + struct.pack(order + "I", size)


def pcapng(packets: Sequence[bytes], link: int = 1, order: str = "<", simple: bool = False) -> bytes:
    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    out += block(1, struct.pack(order + "HHIHHB3xHH", link, 0, 0, 9, 1, 9, 0, 0), order)
    out += block(5, b"statistics!!", order)
    for k, packet in enumerate(packets):
        head = struct.pack(order + "5I", 0, 0, 1000 * k, len(packet), len(packet))
        out += block(3 if simple else 6, (head[-4:] if simple else head) + packet, order)
    return out
