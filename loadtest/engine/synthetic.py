"""Synthetic media: payloads that are real to a parser and end in a body that tells when it was sent and can be checked.

A VP8 payload is a descriptor with a 15-bit picture id (RFC 7741 4.2), a frame header (a keyframe's is whole, RFC 6386
9.1), then the body; an Opus payload is a TOC byte (RFC 6716 3.1), then the body. The body is the send time (ns on
CLOCK_MONOTONIC), a counter, and bytes that follow from it: who opens a packet sees whether it arrived intact. It is
filled anew in every packet, from the time and the counter that the packet's history keeps, so an RTX is the same bytes.
"""

from __future__ import annotations

from mediacodecs.bits import be32, put32
from mediacodecs.frame import VP8, Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.vp8 import vp8_descriptor_size

VP8_HEADER, OPUS_HEADER = 10, 1  # bytes before the body; a VP8 descriptor comes before that
BODY = 16  # bytes of send time and counter
WRONG = -1
MASK31, MASK32 = 0x7FFFFFFF, 0xFFFFFFFF


@kernel
def write_body(b: Bytes, at: int, end: int, sent: int, counter: int) -> None:
    """Fill b[at:end], at least BODY bytes."""
    put32(b, at, sent >> 32)
    put32(b, at + 4, sent & MASK32)
    put32(b, at + 8, counter >> 32)
    put32(b, at + 12, counter & MASK32)
    for k in range(at + BODY, end):
        b[k] = (counter + (k - at)) & 255


@kernel
def check_body(b: Bytes, at: int, end: int) -> int:
    """The send time of an intact body b[at:end], else WRONG."""
    if end < at + BODY:
        return WRONG
    counter = be32(b, at + 12)
    wrong = int64(0)
    for k in range(at + BODY, end):
        wrong |= int64(b[k]) ^ ((counter + (k - at)) & 255)
    return WRONG if wrong else (be32(b, at) & MASK31) << 32 | be32(b, at + 4)


@kernel
def body_at(b: Bytes, at: int, end: int, codec: int) -> int:
    """Where the body of the payload b[at:end] begins; -1: there is no room for one."""
    begin = at + OPUS_HEADER
    if codec == VP8:
        size = vp8_descriptor_size(b, at, end)
        if size < 0:
            return -1
        begin = at + size + VP8_HEADER
    return int64(begin) if begin + BODY <= end else int64(-1)


@kernel
def stamp(b: Bytes, at: int, end: int, codec: int, sent: int, counter: int) -> None:
    """Fill the body of the payload b[at:end]; one that is too small for it is left as it is."""
    begin = body_at(b, at, end, codec)
    if begin >= 0:
        write_body(b, begin, end, sent, counter)
