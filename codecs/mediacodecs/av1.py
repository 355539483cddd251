"""The AV1 payload (RTP Payload Format For AV1, v1.0, section 4): the aggregation header and the OBUs that begin here.

    |Z|Y| W |N|-|-|-|   Z: the first OBU goes on from the packet before   W: number of OBUs, 0: all have a length
                        N: first packet of a coded video sequence, that is a keyframe

The dependency descriptor, where it is negotiated, tells more and wins; without it only what stands here is known.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.bits import read_bits, read_leb128
from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP, METADATA, FRAME_OBU = range(1, 7)  # OBU types


@kernel
def parse_av1(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the AV1 payload b[at:end]. Returns OK, TRUNCATED or MALFORMED.

    The end of a frame isn't told: that is the RTP marker's task.
    """
    if at + 2 > end:
        return TRUNCATED
    head = int64(b[at])
    count = head >> 4 & 3
    if head & 0x08:
        frame.keyframe = 1
        frame.start = 1
    at += 1
    index = 0
    while at < end:
        size = int64(end - at)
        if count == 0 or index < count - 1:
            size, at = read_leb128(b, at, end)
            if at < 0 or size > end - at:
                return MALFORMED
        if size > 0 and (index > 0 or head < 0x80):
            read_obu(b, at, at + size, index, frame)
        at += size
        index += 1
    return MALFORMED if index < count else OK


@kernel
def read_obu(b: Bytes, at: int, end: int, index: int, frame: Any) -> None:
    """Note one OBU that begins in this packet as its number `index` (AV1 section 5.3)."""
    head = int64(b[at])
    kind = head >> 3 & 15
    if index == 0 and SEQUENCE_HEADER <= kind <= FRAME_OBU and kind != TILE_GROUP:
        frame.start = 1
    at += 1
    if head & 4 and at < end:
        frame.temporal = b[at] >> 5
        frame.spatial = b[at] >> 3 & 3
        at += 1
    if kind == SEQUENCE_HEADER and frame.start:
        frame.keyframe = 1
        if head & 2:
            _, at = read_leb128(b, at, end)
        if at >= 0:
            read_sequence(b, at * 8, end * 8, frame)


@kernel
def read_sequence(b: Bytes, bit: int, limit: int, frame: Any) -> None:
    """Read the largest frame size from a sequence header (AV1 section 5.5.1); a truncated one tells none."""
    if read_bits(b, bit + 4, limit, 1):  # reduced_still_picture_header
        bit += 10
    else:
        bit = skip_operating_points(b, bit + 5, limit)
    width_bits = read_bits(b, bit, limit, 4) + 1
    height_bits = read_bits(b, bit + 4, limit, 4) + 1
    bit += 8
    if bit + width_bits + height_bits > limit:
        return
    frame.width = min(read_bits(b, bit, limit, width_bits) + 1, 0xFFFF)
    frame.height = min(read_bits(b, bit + width_bits, limit, height_bits) + 1, 0xFFFF)


@kernel
def skip_operating_points(b: Bytes, bit: int, limit: int) -> int:
    """Step over timing, decoder model and operating points; returns the bit position of the frame size."""
    model = int64(0)
    delay = int64(0)  # bits of a buffer delay
    timing = read_bits(b, bit, limit, 1)
    bit += 1
    if timing:
        bit += 64
        equal = read_bits(b, bit, limit, 1)
        bit += 1
        if equal:
            bit = skip_uvlc(b, bit, limit)
        model = read_bits(b, bit, limit, 1)
        delay = read_bits(b, bit + 1, limit, 5) + 1
        bit += 1 + 47 * model
    display = read_bits(b, bit, limit, 1)
    points = read_bits(b, bit + 1, limit, 5) + 1
    bit += 6
    for _ in range(points):
        level = read_bits(b, bit + 12, limit, 5)
        bit += 17 + (level > 7)
        if model:
            bit += 1 + read_bits(b, bit, limit, 1) * (2 * delay + 1)
        if display:
            bit += 1 + read_bits(b, bit, limit, 1) * 4
    return bit


@kernel
def skip_uvlc(b: Bytes, bit: int, limit: int) -> int:
    """Step over a variable length number (AV1 section 4.10.3)."""
    zeros = 0
    while bit + zeros < limit and read_bits(b, bit + zeros, limit, 1) == 0:
        zeros += 1
    return bit + zeros + 1 + (zeros if zeros < 32 else 0)
