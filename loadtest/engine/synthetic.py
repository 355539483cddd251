"""Synthetic media on its way out: a body that carries its send time and can be checked byte by byte.

A reel's synthetic payload ends with room for the body of `loadtest.media`; what precedes it is real to a parser. It is
filled anew in every packet, from the time and the counter that the packet's history keeps, so an RTX is the same bytes.
"""

from __future__ import annotations

from loadtest.media import BODY, OPUS_HEADER, VP8_HEADER, write_body
from mediacodecs.frame import VP8, Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.vp8 import vp8_descriptor_size


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
