"""STUN messages in plain Python, from RFC 8489 and RFC 8445: the twin of the parser."""

from __future__ import annotations

import struct
import zlib
from typing import Any

OK, TRUNCATED, MALFORMED = range(3)
COOKIE = bytes.fromhex("2112a442")
SIZES = {0x0008: 20, 0x8028: 4, 0x0024: 4, 0x0025: 0, 0x8029: 8, 0x802A: 8}  # attributes of one size only
KNOWN = {1, 6, 8, 9, 10, 0x14, 0x15, 0x1C, 0x1D, 0x1E, 0x20, 0x24, 0x25}  # those that must be understood, and are
BLANK = {
    "username_at": 0,
    "username_size": 0,
    "use_candidate": 0,
    "ice_controlling": 0,
    "priority": 0,
    "integrity_at": 0,
    "fingerprint_at": 0,
    "error": 0,
    "unknown": 0,
    "mapped_family": 0,
    "mapped_port": 0,
    "mapped": [0] * 16,
}


class Bad(Exception):
    """The message contradicts itself."""


def parse(data: bytes) -> tuple[int, dict[str, Any]]:
    """Error and the fields of STUN, offsets from the message's first byte; no fields with an error."""
    if len(data) < 20:
        return TRUNCATED, {}
    kind, size, cookie = struct.unpack("!HH4s", data[:8])
    if kind >= 0x4000 or size % 4 or cookie != COOKIE or len(data) != 20 + size:
        return MALFORMED, {}
    try:
        return OK, {"kind": kind, "transaction_at": 8} | meaning(data, attributes(data))
    except Bad:
        return MALFORMED, {}


def attributes(data: bytes) -> list[tuple[int, int, bytes]]:
    """Type, offset and value of those that count, in order."""
    found: list[tuple[int, int, bytes]] = []
    at = 20
    while at < len(data):
        kind, size = struct.unpack("!HH", data[at : at + 4])
        kinds = [one for one, _, _ in found]
        if len(data) < at + 4 + size or 0x8028 in kinds:
            raise Bad
        if 8 not in kinds or kind == 0x8028:
            found.append((kind, at, data[at + 4 : at + 4 + size]))
        at += 4 + (size + 3) // 4 * 4
    return found


def meaning(data: bytes, found: list[tuple[int, int, bytes]]) -> dict[str, Any]:
    out: dict[str, Any] = dict(BLANK)
    for kind, at, value in reversed(found):  # so that the first of a type is what stays
        if kind in SIZES and len(value) != SIZES[kind] or kind == 6 and len(value) > 513:
            raise Bad
        number = int.from_bytes(value[:8], "big")
        if kind == 0x0006:
            out |= {"username_at": at + 4, "username_size": len(value)}
        elif kind == 0x0008:
            out["integrity_at"] = at
        elif kind == 0x8028:
            out["fingerprint_at"] = at
        elif kind == 0x0024:
            out["priority"] = number or out["priority"]
        elif kind == 0x0025:
            out["use_candidate"] = 1
        elif kind == 0x802A:
            out["ice_controlling"] = 1
        elif kind == 0x0009:
            out["error"] = error(value)
        elif kind == 0x0020:
            out |= mapped(data, value)
        elif kind < 0x8000 and kind not in KNOWN:
            out["unknown"] = kind or out["unknown"]
    return out


def error(value: bytes) -> int:
    if len(value) < 4 or value[2] % 8 not in range(3, 7) or value[3] > 99:
        raise Bad
    return value[2] % 8 * 100 + value[3]


def mapped(data: bytes, value: bytes) -> dict[str, Any]:
    sizes = {1: 8, 2: 20}
    if len(value) < 4 or len(value) != sizes.get(value[1]):
        raise Bad
    plain = bytes(a ^ b for a, b in zip(value[4:], data[4:], strict=False))
    port = int.from_bytes(value[2:4], "big") ^ 0x2112
    return {"mapped_family": 2 + 2 * value[1], "mapped_port": port, "mapped": [*plain.ljust(16, b"\0")]}


def fingerprint_ok(data: bytes) -> bool:
    """Whether a well-formed message ends with the right FINGERPRINT."""
    return data[-8:-4] == bytes.fromhex("80280004") and zlib.crc32(data[:-8]) ^ 0x5354554E == int.from_bytes(
        data[-4:], "big"
    )
