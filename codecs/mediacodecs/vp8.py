"""The VP8 payload descriptor (RFC 7741): read it, and write other picture ids into a copy.

A forwarder that drops temporal layers or changes between simulcast layers has to renumber picture id and TL0PICIDX,
or the receiver's decoder would wait for frames that never come.

    |X|R|N|S|R| PID |   X: |I|L|T|K| RSV |   I: |M| picture id, 7 or 15 bits |   L: TL0PICIDX   T or K: |TID|Y| KEYIDX |
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

KEYFRAME_HEADER = 10  # bytes: frame tag 3, start code 3, width 2, height 2 (RFC 6386 section 9.1)


@kernel
def vp8_descriptor_size(b: Bytes, at: int, end: int) -> int:
    """Bytes of the descriptor that begins at b[at]; -1: it doesn't end before `end`."""
    size = int64(1)
    if at < end and b[at] & 0x80:
        size += 1
        if at + 1 < end:
            flags = int64(b[at + 1])
            size += (flags >> 7) + (flags >> 6 & 1) + (1 if flags & 0x30 else 0)
            if flags & 0x80 and at + 2 < end:
                size += int64(b[at + 2]) >> 7
    return size if at + size <= end else int64(-1)


@kernel
def read_picture_id(b: Bytes, at: int, payload: int, end: int, frame: Any) -> int:
    """Read the 7 or 15 bit picture id at b[at] of the payload that begins at b[payload].

    VP8 and VP9 share the form. Returns where the next field begins, -1 if the id is truncated.
    """
    if at >= end:
        return -1
    value = int64(b[at])
    size = 1 + (value >> 7)
    if at + size > end:
        return -1
    if size == 2:
        value = (value & 0x7F) << 8 | int64(b[at + 1])
    frame.picture_id = value
    frame.picture_id_bits = 8 * size - 1
    frame.picture_id_at = at - payload
    return int64(at + size)


@kernel
def parse_vp8(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the VP8 payload b[at:end]. Returns OK or TRUNCATED.

    Only the first packet of a frame tells whether it is a keyframe.
    """
    size = vp8_descriptor_size(b, at, end)
    if size < 0:
        return TRUNCATED
    first = int64(b[at])
    frame.discardable = first >> 5 & 1
    frame.start = 1 if first & 0x17 == 0x10 else 0  # S, and partition 0
    if first & 0x80:
        read_extension(b, at, end, frame)
    header = at + size
    if header >= end:
        return TRUNCATED
    if first & 0x17 == 0x10 and b[header] & 1 == 0:
        read_keyframe(b, header, end, frame)
    return OK


@kernel
def read_extension(b: Bytes, at: int, end: int, frame: Any) -> None:
    """Read what the X bit announces. The descriptor has been found whole."""
    flags = int64(b[at + 1])
    next_at = at + 2
    if flags & 0x80:
        next_at = read_picture_id(b, next_at, at, end, frame)
    if flags & 0x40:
        frame.tl0 = b[next_at]
        frame.tl0_at = next_at - at
        next_at += 1
    if flags & 0x20:
        frame.temporal = b[next_at] >> 6
        frame.switch_up = b[next_at] >> 5 & 1


@kernel
def read_keyframe(b: Bytes, at: int, end: int, frame: Any) -> None:
    """Note a keyframe, and its size when the frame header is whole (RFC 6386 section 9.1)."""
    frame.keyframe = 1
    if at + KEYFRAME_HEADER <= end and b[at + 3] == 0x9D and b[at + 4] == 0x01 and b[at + 5] == 0x2A:
        frame.width = int64(b[at + 6]) | (int64(b[at + 7]) & 0x3F) << 8
        frame.height = int64(b[at + 8]) | (int64(b[at + 9]) & 0x3F) << 8
