"""The one door to the codecs: fill a FRAME from an RTP payload, whatever its codec."""

from __future__ import annotations

from typing import Any

from mediacodecs.av1 import parse_av1
from mediacodecs.frame import AV1, H264, H265, NONE, OK, VP8, VP9, Bytes, clear_frame
from mediacodecs.h264 import parse_h264
from mediacodecs.h265 import parse_h265
from mediacodecs.kernel import kernel
from mediacodecs.opus import parse_opus
from mediacodecs.vp8 import parse_vp8
from mediacodecs.vp9 import parse_vp9


@kernel
def parse_payload(codec: int, b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill the FRAME of the RTP payload b[at:end], padding left out. Returns OK, TRUNCATED or MALFORMED.

    After an error the record says nothing. Opus, RED and unknown codecs can begin at any packet.
    """
    clear_frame(frame)
    if codec == VP8:
        error = parse_vp8(b, at, end, frame)
    elif codec == VP9:
        error = parse_vp9(b, at, end, frame)
    elif codec == H264:
        error = parse_h264(b, at, end, frame)
    elif codec == AV1:
        error = parse_av1(b, at, end, frame)
    elif codec == H265:
        error = parse_h265(b, at, end, frame)
    elif codec == NONE:
        return OK
    else:
        error = parse_opus(b, at, end, frame)
    if error:
        clear_frame(frame)
    return error
