"""RTCP as load clients speak it (RFC 3550 6, RFC 4585 6): sender and receiver reports out; PLI, FIR and NACK in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SR, RR, SDES, RTPFB, PSFB = 200, 201, 202, 205, 206
NACK, PLI, FIR = 1, 1, 4
NTP_EPOCH = 2208988800  # seconds from 1900 to 1970


@dataclass
class Requests:
    """What a compound packet asks of a publisher: keyframes by SSRC, and lost sequence numbers by SSRC."""

    keyframes: set[int] = field(default_factory=set)
    lost: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Received:
    """What a receiver report says of one stream; highest is the extended sequence number."""

    ssrc: int
    highest: int
    lost: int


def _packet(count: int, kind: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def _sdes(ssrc: int, cname: str) -> bytes:
    text = cname.encode()
    chunk = struct.pack("!IBB", ssrc, 1, len(text)) + text + b"\0"
    return _packet(1, SDES, chunk + bytes(-len(chunk) % 4))


def ntp_time(wall_ns: int) -> int:
    """The 64-bit NTP time stamp of a CLOCK_REALTIME time."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return (seconds + NTP_EPOCH) << 32 | (rest << 32) // 1_000_000_000


def sender_report(ssrc: int, cname: str, wall_ns: int, rtp_time: int, packets: int, octets: int) -> bytes:
    """A compound SR and SDES."""
    counts = (rtp_time & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    return _packet(0, SR, struct.pack("!IQIII", ssrc, ntp_time(wall_ns), *counts)) + _sdes(ssrc, cname)


def receiver_report(ssrc: int, cname: str, streams: list[Received]) -> bytes:
    """A compound RR and SDES; jitter and times of sender reports are left at zero."""
    blocks = b"".join(
        struct.pack("!IIIIII", s.ssrc, min(s.lost, 0x7FFFFF), s.highest & 0xFFFFFFFF, 0, 0, 0) for s in streams
    )
    return _packet(len(streams), RR, ssrc.to_bytes(4) + blocks) + _sdes(ssrc, cname)


def packets_of(compound: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(count or format, type, body) of each packet; ends at the first malformed one."""
    at = 0
    while at + 4 <= len(compound):
        first, kind, words = struct.unpack_from("!BBH", compound, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(compound):
            return
        yield first & 31, kind, compound[at + 4 : end]
        at = end


def read_requests(compound: bytes) -> Requests:
    """Keyframe requests and NACKs of a decrypted compound packet."""
    found = Requests()
    for shape, kind, body in packets_of(compound):
        if len(body) < 8:
            continue
        media = int.from_bytes(body[4:8])
        if kind == PSFB and shape == PLI:
            found.keyframes.add(media)
        elif kind == PSFB and shape == FIR:
            found.keyframes.update(int.from_bytes(body[at : at + 4]) for at in range(8, len(body) - 7, 8))
        elif kind == RTPFB and shape == NACK:
            found.lost += _lost(media, body[8:])
    return found


def _lost(media: int, entries: bytes) -> list[tuple[int, int]]:
    """The (SSRC, sequence) pairs of a NACK's PID and BLP fields (RFC 4585 6.2.1)."""
    lost = []
    for at in range(0, len(entries) - 3, 4):
        first, mask = struct.unpack_from("!HH", entries, at)
        lost.append((media, first))
        lost += [(media, (first + bit + 1) & 0xFFFF) for bit in range(16) if mask >> bit & 1]
    return lost
