"""Bit fields of headers that aren't aligned to bytes: the dependency descriptor and the codecs' own headers.

A reader is a bit position that the caller moves. Bits past the limit read as 0, so that a parser can run to its end and
compare its position with the limit once, there.
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
