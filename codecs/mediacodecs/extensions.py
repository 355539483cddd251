"""RTP header extensions (RFC 8285): where the elements that we know lie in a packet.

Ids are negotiated per session, so a table of 256 maps an id to a kind, which is the same everywhere in Weir.

    one-byte form: | id 4 | size - 1, 4 | data |   id 0 is padding, id 15 ends the elements
    two-byte form: |    id 8    |    size 8    | data |   id 0 is padding
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

KINDS = 16
(
    MID,
    RID,
    REPAIRED_RID,
    AUDIO_LEVEL,
    TWCC,
    DEPENDENCY_DESCRIPTOR,
    ABS_SEND_TIME,
    ABS_CAPTURE_TIME,
    VIDEO_ORIENTATION,
    PLAYOUT_DELAY,
    VIDEO_CONTENT_TYPE,
    VIDEO_TIMING,
    VIDEO_LAYERS_ALLOCATION,
) = range(1, 14)

URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": MID,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": RID,
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": REPAIRED_RID,
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": AUDIO_LEVEL,
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": TWCC,
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension": DEPENDENCY_DESCRIPTOR,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": ABS_SEND_TIME,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time": ABS_CAPTURE_TIME,
    "urn:3gpp:video-orientation": VIDEO_ORIENTATION,
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay": PLAYOUT_DELAY,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type": VIDEO_CONTENT_TYPE,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-timing": VIDEO_TIMING,
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00": VIDEO_LAYERS_ALLOCATION,
}

EXTENSIONS = np.dtype(
    [
        ("at", "u4", (KINDS,)),  # by kind: where the data lies
        ("size", "u2", (KINDS,)),  # by kind: bytes of it; 0: absent
    ],
    align=True,
)


@kernel
def parse_extensions(b: Bytes, rtp: Any, kinds: Bytes, ext: Any) -> int:
    """Fill EXTENSIONS from the elements of a parsed packet; kinds: u1[256], extension id -> kind, 0: unknown.

    Returns OK, or TRUNCATED when an element runs over the end; those before stand. Of two of a kind the later counts.
    """
    for kind in range(KINDS):
        ext["at"][kind] = 0
        ext["size"][kind] = 0
    if rtp.two_byte:
        return read_two_byte(b, rtp, kinds, ext)
    return read_one_byte(b, rtp, kinds, ext)


@kernel
def read_one_byte(b: Bytes, rtp: Any, kinds: Bytes, ext: Any) -> int:
    """The elements of RFC 8285 section 4.2. Id 15, and id 0 with a size, end them."""
    at = int64(rtp.ext_at)
    end = int64(rtp.ext_end)
    while at < end:
        head = int64(b[at])
        at += 1
        if head == 0:
            continue
        if head < 16 or head >= 240:
            return OK
        size = (head & 15) + 1
        if at + size > end:
            return TRUNCATED
        note(kinds, ext, head >> 4, at, size)
        at += size
    return OK


@kernel
def read_two_byte(b: Bytes, rtp: Any, kinds: Bytes, ext: Any) -> int:
    """The elements of RFC 8285 section 4.3."""
    at = int64(rtp.ext_at)
    end = int64(rtp.ext_end)
    while at < end:
        name = int64(b[at])
        at += 1
        if name == 0:
            continue
        if at >= end:
            return TRUNCATED
        size = int64(b[at])
        at += 1
        if at + size > end:
            return TRUNCATED
        note(kinds, ext, name, at, size)
        at += size
    return OK


@kernel
def note(kinds: Bytes, ext: Any, name: int, at: int, size: int) -> None:
    """Keep an element whose id is known. (By key: to plain Python a record's `.size` is numpy's own.)"""
    kind = int64(kinds[name])
    if 0 < kind < KINDS:
        ext["at"][kind] = at
        ext["size"][kind] = size
