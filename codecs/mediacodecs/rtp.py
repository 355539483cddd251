"""The RTP header (RFC 3550 section 5.1), and numbers that wrap, widened to 64 bits.

|V=2|P|X| CC  |M|   PT    |  sequence  |  time stamp  |  SSRC  |  CSRC × CC  |  profile, words, elements if X  |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import be16, be32
from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

RTP_HEADER = 12  # bytes before the CSRCs
ONE_BYTE, TWO_BYTE = 0xBEDE, 0x1000  # extension profiles (RFC 8285); the low 4 bits of the second are the application's

RTP = np.dtype(
    [
        ("marker", "u1"),
        ("payload_type", "u1"),
        ("two_byte", "u1"),  # 1: the extension elements have two-byte headers
        ("padding", "u1"),  # bytes of padding; 0: none
        ("sequence", "u2"),
        ("timestamp", "u4"),
        ("ssrc", "u4"),
        ("ext_at", "u4"),  # byte range of the extension elements; equal when there are none that we can read
        ("ext_end", "u4"),
        ("payload_at", "u4"),
        ("payload_end", "u4"),  # padding removed
    ],
    align=True,
)


@kernel
def parse_rtp(b: Bytes, at: int, end: int, rtp: Any) -> int:
    """Fill an RTP record from the packet b[at:end]. Returns OK, TRUNCATED or MALFORMED; then rtp says nothing.

    An extension of another profile than RFC 8285's is stepped over.
    """
    if end - at < RTP_HEADER:
        return TRUNCATED
    head = int64(b[at])
    if head >> 6 != 2:
        return MALFORMED
    rtp.marker = int64(b[at + 1]) >> 7
    rtp.payload_type = int64(b[at + 1]) & 0x7F
    rtp.sequence = be16(b, at + 2)
    rtp.timestamp = be32(b, at + 4)
    rtp.ssrc = be32(b, at + 8)
    payload_at = at + RTP_HEADER + 4 * (head & 15)
    rtp.two_byte = 0
    rtp.ext_at = rtp.ext_end = payload_at
    if head & 0x10:
        payload_at = read_profile(b, payload_at, end, rtp)
    if payload_at < 0 or payload_at > end:
        return TRUNCATED
    padding = int64(0)
    if head & 0x20:
        if payload_at == end:
            return MALFORMED
        padding = int64(b[end - 1])
        if padding == 0 or padding > end - payload_at:
            return MALFORMED
    rtp.padding = padding
    rtp.payload_at = payload_at
    rtp.payload_end = end - padding
    return OK


@kernel
def read_profile(b: Bytes, at: int, end: int, rtp: Any) -> int:
    """Note the extension elements after the profile word at b[at]. Returns where they end, -1: truncated."""
    if at + 4 > end:
        return -1
    profile = be16(b, at)
    after = at + 4 + 4 * be16(b, at + 2)
    if after > end:
        return -1
    two_byte = profile & 0xFFF0 == TWO_BYTE
    rtp.two_byte = 1 if two_byte else 0
    rtp.ext_end = after
    rtp.ext_at = at + 4 if two_byte or profile == ONE_BYTE else after
    return after


@kernel
def unwrap16(reference: int, value: int) -> int:
    """The number nearest to `reference` (64 bit) whose low 16 bits are `value`; may be below it. 32768 away: below."""
    near = int64(reference)
    return near + ((int64(value) - near & 0xFFFF ^ 0x8000) - 0x8000)
