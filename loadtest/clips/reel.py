"""The reel: an encoded, packetised clip in native memory, played over and over by the client engine's sources."""

from __future__ import annotations

import numpy as np

AUDIO, VIDEO = 0, 1

REEL = np.dtype(
    [
        ("frames", "i8"),
        ("packets", "i8"),
        ("codec", "i8"),  # mediacodecs.frame
        ("kind", "i8"),
        ("clock_rate", "i8"),
        ("frame_rows", "i8"),  # address of FRAME_ROW
        ("packet_rows", "i8"),  # address of PACKET_ROW
        ("bytes", "i8"),  # address of the payloads
        ("width", "i8"),
        ("height", "i8"),
        ("synthetic", "i8"),  # 1: bodies are stamped when they leave
        ("picture_ids", "i8"),  # picture ids that a turn uses up
    ],
    align=True,
)
FRAME_ROW = np.dtype(
    [
        ("first", "i4"),  # row of its first packet
        ("count", "i4"),
        ("keyframe", "i4"),
        ("ticks", "i4"),  # until the next frame
        ("number", "i8"),
    ],
    align=True,
)
PACKET_ROW = np.dtype(
    [
        ("at", "i8"),  # offset of its payload
        ("size", "i4"),
        ("picture_id_at", "i4"),  # offset in the payload; -1: none
        ("picture_id", "i4"),
        ("picture_id_bits", "i4"),
        ("tl0_at", "i4"),  # -1: none
        ("tl0", "i4"),
    ],
    align=True,
)
