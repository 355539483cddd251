"""The VP9 payload descriptor (RFC 9628): layers, picture id and the scalability structure.

All packets of a picture say whether it is predicted from other pictures (P), so each packet of a keyframe is known as
one. In a key superframe the upper spatial layers have P = 0 too and are predicted from the layer below (D).

    |I|P|L|F|B|E|V|Z|   I: picture id   L: |TID|U|SID|D|, TL0PICIDX unless F   F and P: |P_DIFF|N| …   V: structure
"""

from __future__ import annotations

from typing import Any

from mediacodecs.bits import read_bits
from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.vp8 import read_picture_id

MAX_REFERENCES = 3  # P_DIFF fields of a picture in flexible mode


@kernel
def parse_vp9(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the VP9 payload b[at:end]. Returns OK, TRUNCATED or MALFORMED."""
    if at >= end:
        return TRUNCATED
    flags = int64(b[at])
    frame.start = flags >> 3 & 1
    frame.end = flags >> 2 & 1
    frame.keyframe = flags >> 6 & 1 ^ 1
    next_at = at + 1
    if flags & 0x80:
        next_at = read_picture_id(b, next_at, at, end, frame)
    if flags & 0x20 and next_at > 0:
        next_at = read_layers(b, next_at, at, end, frame)
    if flags & 0x50 == 0x50 and next_at > 0:
        next_at = skip_references(b, next_at, end)
        if next_at == -2:
            return MALFORMED
    more = flags & 0x20  # spatial layers than one
    if flags & 0x02 and next_at > 0:
        more = int64(b[next_at]) >> 5 if next_at < end else int64(0)
        next_at = read_structure(b, next_at, end, frame)
    if next_at < 0 or next_at >= end:
        return TRUNCATED
    if flags & 0xE0 == 0:
        frame.keyframe = frame.start != 0 and read_header(b, next_at, end, frame)
    elif frame.keyframe and frame.start and not more:
        read_header(b, next_at, end, frame)
    return OK


@kernel
def read_layers(b: Bytes, at: int, payload: int, end: int, frame: Any) -> int:
    """Read the layer indices and, out of flexible mode, TL0PICIDX. Returns where they end, -1: truncated."""
    flexible = int64(b[payload]) >> 4 & 1
    if at + 2 - flexible > end:
        return -1
    layers = int64(b[at])
    frame.temporal = layers >> 5
    frame.switch_up = layers >> 4 & 1
    frame.spatial = layers >> 1 & 7
    frame.inter_layer = layers & 1
    if not flexible:
        frame.tl0 = b[at + 1]
        frame.tl0_at = at + 1 - payload
    return int64(at + 2 - flexible)


@kernel
def skip_references(b: Bytes, at: int, end: int) -> int:
    """Step over the reference indices of flexible mode. Returns where they end, -1: truncated, -2: more than three."""
    for i in range(at, at + MAX_REFERENCES):
        if i >= end:
            return -1
        if b[i] & 1 == 0:
            return int64(i + 1)
    return -2


@kernel
def read_structure(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Read the highest layer's size from the scalability structure. Returns where that ends, -1: truncated."""
    if at >= end:
        return -1
    head = int64(b[at])
    layers = (head >> 5) + 1
    at += 1
    if head & 0x10:
        at += 4 * layers
        if at > end:
            return -1
        frame.width = int64(b[at - 4]) << 8 | int64(b[at - 3])
        frame.height = int64(b[at - 2]) << 8 | int64(b[at - 1])
    if head & 0x08 == 0:
        return int64(at)
    if at >= end:
        return -1
    pictures = int64(b[at])
    at += 1
    for _ in range(pictures):
        if at >= end:
            return -1
        at += 1 + (int64(b[at]) >> 2 & 3)
    return int64(at) if at <= end else int64(-1)


@kernel
def read_header(b: Bytes, at: int, end: int, frame: Any) -> bool:
    """Whether a keyframe begins here by its own word, and its size: bare descriptors never set P (FFmpeg), and the
    size in a structure is what the encoder was asked for, not what it makes (Firefox: 720p for 320x180).

    VP9 bitstream section 6.2: frame_marker 2 (= 2), profile 2, reserved 1 in profile 3, show_existing_frame,
    frame_type, show_frame, error_resilient_mode, sync code 24; in profile 0 color_space 3, color_range 1, sizes.
    """
    bit, limit = at * 8, end * 8
    head = read_bits(b, bit, limit, 4)
    bit += 5 if head & 3 == 3 else 4
    if head >> 2 != 2 or read_bits(b, bit, limit, 2) != 0 or read_bits(b, bit + 4, limit, 24) != 0x498342:
        return False
    if head & 3 == 0 and read_bits(b, bit + 28, limit, 3) != 7 and bit + 64 <= limit:
        frame.width = min(read_bits(b, bit + 32, limit, 16) + 1, 0xFFFF)
        frame.height = min(read_bits(b, bit + 48, limit, 16) + 1, 0xFFFF)
    return True
