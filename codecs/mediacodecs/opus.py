"""Opus (RFC 7587): every packet is a frame of its own, from which a decoder can start."""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import OK, TRUNCATED, Bytes
from mediacodecs.kernel import kernel


@kernel
def parse_opus(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the payload b[at:end] of a codec whose packets stand alone. Returns OK or TRUNCATED."""
    if at >= end:
        return TRUNCATED
    frame.keyframe = 1
    frame.start = 1
    frame.end = 1
    return OK
