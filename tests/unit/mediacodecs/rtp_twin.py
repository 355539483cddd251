"""RTP headers and extensions in plain Python, from RFC 3550 and RFC 8285: the twins of the kernels."""

from __future__ import annotations

import struct
from typing import Any

OK, TRUNCATED, MALFORMED = range(3)


class Short(Exception):
    """The packet ends too early."""


class Bad(Exception):
    """The packet contradicts itself."""


def parse(data: bytes) -> tuple[int, dict[str, Any]]:
    """Error and the fields of RTP, offsets from the packet's first byte; no fields with an error."""
    try:
        return OK, read(data)
    except Short:
        return TRUNCATED, {}
    except Bad:
        return MALFORMED, {}


def read(data: bytes) -> dict[str, Any]:
    if len(data) < 12:
        raise Short
    bits = f"{data[0]:08b}"
    if bits[:2] != "10":
        raise Bad
    _, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", data[:12])
    at = ext_at = ext_end = 12 + int(bits[4:], 2) * 4
    two_byte = False
    if bits[3] == "1":
        if len(data) < at + 4:
            raise Short
        profile, words = struct.unpack("!HH", data[at : at + 4])
        at += 4 + 4 * words
        two_byte = 0x1000 <= profile <= 0x100F
        ext_at, ext_end = (at - 4 * words if two_byte or profile == 0xBEDE else at), at
    if len(data) < at:
        raise Short
    padding = 0
    if bits[2] == "1":
        if not data[at:] or not 1 <= data[-1] <= len(data[at:]):
            raise Bad
        padding = data[-1]
    return {
        "marker": second // 128,
        "payload_type": second % 128,
        "two_byte": int(two_byte),
        "padding": padding,
        "sequence": sequence,
        "timestamp": timestamp,
        "ssrc": ssrc,
        "ext_at": ext_at,
        "ext_end": ext_end,
        "payload_at": at,
        "payload_end": len(data) - padding,
    }


def elements(data: bytes, two_byte: bool) -> tuple[int, dict[int, bytes]]:
    """Error and extension id -> data."""
    found: dict[int, bytes] = {}
    rest = data
    while rest:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        if two_byte:
            if len(rest) < 2:
                return TRUNCATED, found
            name, size, rest = rest[0], rest[1], rest[2:]
        else:
            name, size, rest = rest[0] // 16, rest[0] % 16 + 1, rest[1:]
            if name in (0, 15):
                break
        if len(rest) < size:
            return TRUNCATED, found
        found.pop(name, None)  # the newest comes last
        found[name], rest = rest[:size], rest[size:]
    return OK, found


def unwrap(reference: int, value: int, bits: int) -> int:
    """The number that ends in `value` and is nearest to the reference, the lower of two."""
    around = reference >> bits
    return min(((around + k << bits) + value for k in (-1, 0, 1)), key=lambda number: (abs(number - reference), number))
