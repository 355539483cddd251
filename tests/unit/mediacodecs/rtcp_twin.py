"""RTCP in plain Python, from RFC 3550, 4585 and 5104: the twins of the readers, and a NACK writer."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SR, RR, BYE, RTPFB, PSFB = 200, 201, 203, 205, 206


@dataclass(frozen=True)
class Packet:
    """One packet of a compound; body without header and padding."""

    packet_type: int
    count: int
    at: int
    body: bytes

    def word(self, at: int) -> int:
        return int.from_bytes(self.body[at : at + 4], "big") if at + 4 <= len(self.body) else 0

    def fields(self) -> dict[str, int]:
        """What an RTCP record should say."""
        return {
            "packet_type": self.packet_type,
            "count": self.count,
            "at": self.at,
            "end": self.at + 4 + len(self.body),
            "ssrc": self.word(0),
            "media_ssrc": self.word(4),
        }

    def sender_info(self) -> dict[str, int] | None:
        if self.packet_type != SR or len(self.body) < 24:
            return None
        return dict(zip(("ntp", "rtp", "packets", "octets"), struct.unpack("!QIII", self.body[4:24]), strict=True))

    def blocks(self) -> list[dict[str, int]]:
        if self.packet_type not in (SR, RR):
            return []
        rest = self.body[24 if self.packet_type == SR else 4 :]
        whole = min(self.count, len(rest) // 24)
        return [block(rest[24 * k : 24 * k + 24]) for k in range(whole)]

    def left(self) -> list[int]:
        """The sources of a BYE."""
        words = [self.word(4 * k) for k in range(len(self.body) // 4)]
        return words[: self.count] if self.packet_type == BYE else []

    def asked(self) -> list[int]:
        """The numbers of a NACK."""
        if (self.packet_type, self.count) != (RTPFB, 1):
            return []
        numbers = []
        for k in range(2, len(self.body) // 4):
            first, mask = struct.unpack("!HH", self.body[4 * k : 4 * k + 4])
            numbers += [first] + [(first + bit + 1) % 65536 for bit in range(16) if f"{mask:016b}"[::-1][bit] == "1"]
        return numbers

    def refreshed(self) -> list[int]:
        """The sources of a FIR."""
        if (self.packet_type, self.count) != (PSFB, 4):
            return []
        return [self.word(8 + 8 * k) for k in range(max(0, len(self.body) - 8) // 8)]


def block(data: bytes) -> dict[str, int]:
    ssrc, fraction, lost, highest, jitter, lsr, dlsr = struct.unpack("!IB3sIIII", data)
    return {
        "ssrc": ssrc,
        "fraction": fraction,
        "lost": int.from_bytes(lost, "big", signed=True),
        "highest": highest,
        "jitter": jitter,
        "lsr": lsr,
        "dlsr": dlsr,
    }


def compound(data: bytes) -> list[Packet]:
    """The packets before the end or the first malformed one."""
    packets: list[Packet] = []
    at = 0
    while len(data) - at >= 4:
        head, packet_type, words = struct.unpack("!BBH", data[at : at + 4])
        body = data[at + 4 : at + 4 + 4 * words]
        if head // 64 != 2 or len(body) < 4 * words:
            break
        if head & 0x20:
            padding = data[at + 3 + 4 * words]
            if not 1 <= padding <= len(body):
                break
            body = body[: len(body) - padding]
        packets.append(Packet(packet_type, head % 32, at, body))
        at += 4 + 4 * words
    return packets


def nack_entries(lost: list[int]) -> list[tuple[int, int]]:
    """Number and mask of each entry for ascending numbers."""
    entries: list[tuple[int, set[int]]] = []
    for number in lost:
        if entries and number - entries[-1][0] <= 16:
            entries[-1][1].add(number - entries[-1][0])
        else:
            entries.append((number, set()))
    return [(first % 65536, sum(1 << step - 1 for step in steps if step)) for first, steps in entries]
