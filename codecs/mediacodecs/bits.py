"""Numbers in bytes: the big endian fields of the RTP family of formats, and bit fields that aren't aligned to bytes.

A bit reader is a position that the caller moves. Bits past the limit read as 0, so that a parser can run to its end and
compare its position with the limit once, there. The big endian functions check nothing: the caller has.
"""

from __future__ import annotations

from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel


@kernel
def read_bits(b: Bytes, bit: int, limit: int, count: int) -> int:
    """The `count` (0 to 32) bits of b from bit position `bit`, highest first; those at or past `limit` are 0."""
    value = int64(0)
    for i in range(bit, bit + count):
        value <<= 1
        if i < limit:
            value |= int64(b[i >> 3]) >> (7 - (i & 7)) & 1
    return value


@kernel
def read_leb128(b: Bytes, at: int, end: int) -> tuple[int, int]:
    """The little endian base 128 number at b[at] (AV1 section 4.10.5) and where it ends, -1 if truncated."""
    value = int64(0)
    for i in range(8):
        if at + i >= end:
            break
        byte = int64(b[at + i])
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, int64(at + i + 1)
    return int64(0), int64(-1)


@kernel
def be16(b: Bytes, at: int) -> int:
    """The 16-bit big endian number at b[at]."""
    return int64(b[at]) << 8 | int64(b[at + 1])


@kernel
def be24(b: Bytes, at: int) -> int:
    """The 24-bit big endian number at b[at]."""
    return int64(b[at]) << 16 | int64(b[at + 1]) << 8 | int64(b[at + 2])


@kernel
def be32(b: Bytes, at: int) -> int:
    """The 32-bit big endian number at b[at]."""
    return int64(b[at]) << 24 | int64(b[at + 1]) << 16 | int64(b[at + 2]) << 8 | int64(b[at + 3])


@kernel
def put8(b: Bytes, at: int, value: int) -> None:
    """Write the low 8 bits of value to b[at]."""
    b[at] = value & 0xFF


@kernel
def put16(b: Bytes, at: int, value: int) -> None:
    """Write the low 16 bits of value to b[at:at+2], big endian."""
    b[at] = value >> 8 & 0xFF
    b[at + 1] = value & 0xFF


@kernel
def put24(b: Bytes, at: int, value: int) -> None:
    """Write the low 24 bits of value to b[at:at+3], big endian."""
    b[at] = value >> 16 & 0xFF
    b[at + 1] = value >> 8 & 0xFF
    b[at + 2] = value & 0xFF


@kernel
def put32(b: Bytes, at: int, value: int) -> None:
    """Write the low 32 bits of value to b[at:at+4], big endian."""
    b[at] = value >> 24 & 0xFF
    b[at + 1] = value >> 16 & 0xFF
    b[at + 2] = value >> 8 & 0xFF
    b[at + 3] = value & 0xFF
