"""The H.265 payload (RFC 7798): only keyframe, start and temporal layer.

IRAP pictures (types 16 to 23) are those from which decoding can start. Streams with DON fields aren't negotiated.

    |F| type 6 | layer 6 | TID + 1 3 |   48: aggregation packet   49: |S|E| type 6 | fragment
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

IRAP_FIRST, IRAP_LAST, AGGREGATION, FRAGMENT = 16, 23, 48, 49


@kernel
def parse_h265(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the H.265 payload b[at:end]. Returns OK, TRUNCATED or MALFORMED."""
    if at + 3 > end:
        return TRUNCATED
    kind = int64(b[at]) >> 1 & 63
    frame.temporal = max((int64(b[at + 1]) & 7) - 1, 0)
    if kind < AGGREGATION:
        read_slice(b, at + 2, end, kind, frame)
    elif kind == FRAGMENT:
        fragment = int64(b[at + 2])
        read_slice(b, at + 3, end if fragment & 0x80 else at, fragment & 63, frame)
    elif kind == AGGREGATION:
        return parse_aggregation(b, at + 2, end, frame)
    else:
        return MALFORMED
    return OK


@kernel
def parse_aggregation(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Note each NAL unit of an aggregation packet, which begin at b[at] with their sizes."""
    while at < end:
        if at + 2 > end:
            return MALFORMED
        size = int64(b[at]) << 8 | int64(b[at + 1])
        at += 2
        if size < 2 or at + size > end:
            return MALFORMED
        read_slice(b, at + 2, at + size, int64(b[at]) >> 1 & 63, frame)
        at += size
    return OK


@kernel
def read_slice(b: Bytes, at: int, end: int, kind: int, frame: Any) -> None:
    """Note a NAL unit of a type; b[at:end] follows its header (empty: a later fragment)."""
    if kind >= 32:
        return
    if at < end and b[at] & 0x80:  # first_slice_segment_in_pic_flag
        frame.start = 1
    if IRAP_FIRST <= kind <= IRAP_LAST:
        frame.keyframe = 1
