"""Synthetic payloads written and checked by plain means, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.synthetic import WRONG, body_at, check_body
from mediacodecs.frame import FRAME, VP8, clear_frame
from mediacodecs.vp8 import parse_vp8
from packetio.memory import Table

OPUS_TOC = 0xF8
WIDTH, HEIGHT = 1280, 720


def write_vp8(b: Any, at: int, first: bool, keyframe: bool, picture_id: int) -> int:
    """Descriptor and frame header at b[at]; returns where the body begins."""
    head = bytes([0x90 if first else 0x80, 0x80]) + (0x8000 | picture_id & 0x7FFF).to_bytes(2)
    if keyframe and first:
        head += b"\x10\xff\xff\x9d\x01\x2a" + WIDTH.to_bytes(2, "little") + HEIGHT.to_bytes(2, "little")
    else:
        head += b"\x11" + b"\xff" * 9
    b[at : at + len(head)] = np.frombuffer(head, np.uint8)
    return at + len(head)


def new_frame() -> Table:
    """One FRAME record for `check_vp8`."""
    return Table(np.dtype(FRAME), 1)


def check_vp8(b: Any, at: int, end: int, frame: Any) -> int:
    """Send time of an intact VP8 payload, else WRONG; fills the FRAME."""
    clear_frame(frame)
    if parse_vp8(b, at, end, frame) != 0 or frame.picture_id_bits != 15:
        return WRONG
    begin = int(body_at(b, at, end, VP8))
    return int(check_body(b, begin, end)) if begin >= 0 else WRONG
