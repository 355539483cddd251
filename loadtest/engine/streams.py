"""A client's received streams: found by SSRC, made when a new one comes, given back when the client has left."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.layout import (
    AUDIO,
    FREE,
    LATENCY_BUCKETS,
    MAX_STREAMS,
    OPEN,
    STREAM_SIZE,
    VIDEO,
    stream_at,
)
from loadtest.engine.repair import PATIENCE
from mediacodecs.frame import AV1, H264, H265, VP8, VP9, int64
from mediacodecs.kernel import kernel
from packetio.memory import numbers_at

VIDEO_CLOCK, AUDIO_CLOCK = 90_000, 48_000  # Hz
BUCKETS_AN_OCTAVE, FIRST_BUCKET = 8, 1000  # of latency; ns


@kernel
def stream_of(e: Any, row: int) -> Any:
    """The STREAM record of a row."""
    return stream_at(e.streams + row * STREAM_SIZE)


@kernel
def find_stream(e: Any, c: Any, ssrc: int) -> int:
    """The row of the client's stream with this SSRC; 0: none."""
    for k in range(c.stream_count):
        if stream_of(e, c.streams[k]).ssrc == ssrc:
            return int64(c.streams[k])
    return int64(0)


@kernel
def find_primary(e: Any, c: Any, payload_type: int, rtx_ssrc: int) -> int:
    """The row of the stream that an RTX SSRC repairs: the one it was bound to, else one of this payload type; 0: none.

    A stream that has no RTX SSRC yet is bound to it.
    """
    found = int64(0)
    for k in range(c.stream_count):
        s = stream_of(e, c.streams[k])
        if s.rtx_ssrc == rtx_ssrc:
            return int64(c.streams[k])
        if s.payload_type == payload_type and s.rtx_ssrc < 0 and found == 0:
            found = int64(c.streams[k])
    if found:
        stream_of(e, found).rtx_ssrc = rtx_ssrc
    return found


@kernel
def kind_of(codec: int) -> int:
    """VIDEO or AUDIO."""
    if codec == VP8 or codec == VP9 or codec == H264 or codec == AV1 or codec == H265:
        return VIDEO
    return AUDIO


@kernel
def open_stream(e: Any, c: Any, ssrc: int, payload_type: int, now: int) -> int:
    """A free row for a new SSRC of client c; 0: an unknown payload type, or no room."""
    codec = int64(c.codecs[payload_type])
    if codec == 0 or c.stream_count >= MAX_STREAMS or e.stream_free_count == 0:
        return int64(0)
    e.stream_free_count -= 1
    row = int64(numbers_at(e.stream_free, e.stream_free_count + 1)[e.stream_free_count])
    words = numbers_at(e.streams + row * STREAM_SIZE, STREAM_SIZE // 8)
    for k in range(words.size):
        words[k] = 0
    s = stream_of(e, row)
    s.codec, s.kind, s.payload_type = codec, kind_of(codec), payload_type
    s.clock_rate = VIDEO_CLOCK if s.kind == VIDEO else AUDIO_CLOCK
    s.ssrc, s.rtx_ssrc = ssrc, -1
    s.next_pli = now + PATIENCE
    s.state = OPEN
    c.streams[c.stream_count] = row
    c.stream_count += 1
    return row


@kernel
def release_streams(e: Any, c: Any) -> None:
    """Give all rows of a client back; their counters are read no more."""
    for k in range(c.stream_count):
        row = int64(c.streams[k])
        stream_of(e, row).state = FREE
        numbers_at(e.stream_free, e.stream_free_count + 1)[e.stream_free_count] = row
        e.stream_free_count += 1
        c.streams[k] = 0
    c.stream_count = 0


@kernel
def bucket_of(ns: int) -> int:
    """The latency bucket of a duration: 8 an octave from 1 µs."""
    if ns < FIRST_BUCKET:
        return 0
    return min(int(np.log2(ns / FIRST_BUCKET) * BUCKETS_AN_OCTAVE) + 1, LATENCY_BUCKETS - 1)


@kernel
def note_latency(s: Any, latency: int) -> None:
    """Count how long one packet took, in ns."""
    s.latency[bucket_of(latency)] += 1
    s.latency_max = max(s.latency_max, latency)
