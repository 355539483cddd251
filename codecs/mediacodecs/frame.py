"""What a forwarder must know of a packet's payload, the same for every codec.

A codec's `parse_*` kernel fills one FRAME record from the payload bytes. The packet log keeps them in its index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mediacodecs.kernel import kernel

Bytes = NDArray[np.uint8]
int64 = cast(Callable[[Any], int], np.int64)  # widens a byte or field before arithmetic

NONE, OPUS, VP8, VP9, H264, AV1, H265, RED, OTHER = range(9)

# What a parser returns: the first is success; with the next two FRAME says nothing.
OK, TRUNCATED, MALFORMED, NO_STRUCTURE = range(
    4
)  # NO_STRUCTURE: a dependency descriptor whose templates aren't known yet

FRAME = np.dtype(
    [
        ("keyframe", "u1"),  # 1: the packet belongs to a picture (or superframe) from which decoding can start
        ("start", "u1"),  # 1: first packet of a frame (of its spatial layer)
        ("end", "u1"),  # 1: last packet of a frame (of its spatial layer), as far as the payload tells
        ("spatial", "u1"),  # spatial layer of this packet
        ("temporal", "u1"),  # temporal layer of this packet
        (
            "switch_up",
            "u1",
        ),  # 1: a receiver may begin to take this temporal layer here (VP8 Y, VP9 U, DD switch indication)
        ("discardable", "u1"),  # 1: nothing refers to this frame (VP8 N, H.264 nal_ref_idc 0 …)
        ("inter_layer", "u1"),  # 1: depends on the lower spatial layer of the same picture (VP9 D)
        ("picture_id_bits", "u1"),  # 0 (none), 7 or 15
        ("param_sets", "u1"),  # H.264: bit 0 SPS, 1 PPS, 2 IDR slice, 3 recovery point SEI in it
        ("picture_id_at", "u2"),  # offset of the picture id within the payload; meaningless if picture_id_bits is 0
        ("tl0_at", "u2"),  # offset of TL0PICIDX within the payload; 0: none
        ("picture_id", "i4"),  # -1: none
        ("tl0", "i4"),  # TL0PICIDX; -1: none
        ("width", "u2"),  # of the highest spatial layer in this stream; 0: not told by this packet
        ("height", "u2"),
    ],
    align=True,
)


@kernel
def clear_frame(frame: Any) -> None:
    """Make a FRAME say nothing: all zero, picture id and TL0PICIDX absent."""
    frame.keyframe = 0
    frame.start = 0
    frame.end = 0
    frame.spatial = 0
    frame.temporal = 0
    frame.switch_up = 0
    frame.discardable = 0
    frame.inter_layer = 0
    frame.picture_id_bits = 0
    frame.param_sets = 0
    frame.picture_id_at = 0
    frame.tl0_at = 0
    frame.picture_id = -1
    frame.tl0 = -1
    frame.width = 0
    frame.height = 0
