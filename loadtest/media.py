"""The media that load clients send and check: VP8 and Opus payloads that carry the send time and a checkable body.

A VP8 payload is a descriptor with a 15-bit picture id (RFC 7741 4.2), a frame header (a keyframe's is whole,
RFC 6386 9.1), then the body; an Opus payload is a TOC byte (RFC 6716 3.1), then the body. The body is the send time
(ns on CLOCK_MONOTONIC), a counter, and bytes that follow from it: who opens a packet sees whether it arrived intact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import FRAME, Bytes, clear_frame, int64
from mediacodecs.kernel import kernel
from mediacodecs.vp8 import parse_vp8, vp8_descriptor_size
from packetio.memory import Table

VP8_DESCRIPTOR, VP8_HEADER, OPUS_HEADER = 4, 10, 1  # bytes
BODY = 16  # bytes of send time and counter
WIDTH, HEIGHT = 1280, 720
OPUS_TOC = 0xF8  # CELT, full band, 20 ms, mono, one frame
WRONG = -1


@kernel
def put_number(b: Bytes, at: int, value: int, size: int) -> None:
    """The low `size` bytes of value, big-endian."""
    for k in range(size):
        b[at + k] = (value >> (8 * (size - 1 - k))) & 255


@kernel
def get_number(b: Bytes, at: int, size: int) -> int:
    """A big-endian number of up to 7 bytes, or 8 if below 2^63."""
    value = int64(0)
    for k in range(size):
        value = value << 8 | int64(b[at + k])
    return value


@kernel
def write_body(b: Bytes, at: int, end: int, sent: int, counter: int) -> None:
    """Fill b[at:end], at least BODY bytes."""
    put_number(b, at, sent, 8)
    put_number(b, at + 8, counter, 8)
    for k in range(at + BODY, end):
        b[k] = (counter + (k - at)) & 255


@kernel
def check_body(b: Bytes, at: int, end: int) -> int:
    """The send time of an intact body b[at:end], else WRONG."""
    if end < at + BODY:
        return WRONG
    counter = get_number(b, at + 8, 8)
    wrong = int64(0)
    for k in range(at + BODY, end):
        wrong |= int64(b[k]) ^ ((counter + (k - at)) & 255)
    return WRONG if wrong else get_number(b, at, 8)


@kernel
def write_vp8(b: Bytes, at: int, first: bool, keyframe: bool, picture_id: int) -> int:
    """Descriptor and frame header at b[at]; returns where the body begins."""
    b[at] = 0x90 if first else 0x80
    b[at + 1] = 0x80
    put_number(b, at + 2, 0x8000 | picture_id & 0x7FFF, 2)
    header = at + VP8_DESCRIPTOR
    for k in range(VP8_HEADER):
        b[header + k] = 0xFF
    b[header] = 0x10 if keyframe and first else 0x11
    if keyframe and first:
        put_number(b, header + 3, 0x9D012A, 3)
        b[header + 6] = WIDTH & 255
        b[header + 7] = WIDTH >> 8
        b[header + 8] = HEIGHT & 255
        b[header + 9] = HEIGHT >> 8
    return header + VP8_HEADER


@kernel
def check_vp8(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Send time of an intact VP8 payload, else WRONG; fills the FRAME."""
    clear_frame(frame)
    size = vp8_descriptor_size(b, at, end)
    if size < 0 or parse_vp8(b, at, end, frame) != 0 or frame.picture_id_bits != 15:
        return WRONG
    return check_body(b, at + size + VP8_HEADER, end)


@kernel
def payload_bounds(b: Bytes, size: int, bounds: Any) -> bool:
    """bounds[0:2] = begin and end of the payload of the RTP packet b[:size] (RFC 3550 5.1); False: malformed."""
    at = 12 + 4 * (int64(b[0]) & 15)
    end = int64(size)
    if b[0] & 0x10 and at + 4 <= end:
        at += 4 + 4 * get_number(b, at + 2, 2)
    if b[0] & 0x20 and end > at:
        end -= int64(b[end - 1])
    bounds[0] = at
    bounds[1] = end
    return at <= end


def new_frame() -> Table:
    """One FRAME record for `check_vp8`."""
    return Table(np.dtype(FRAME), 1)
