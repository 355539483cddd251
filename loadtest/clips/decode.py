"""Decodes what a sampled client received, so that the picture is proven and not assumed.

A frame's payloads are put together and decoded with PyAV, and the frame number is read from the picture. Whatever
comes in, nothing is raised: what a server broke is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.clips.encode import load_av
from loadtest.clips.picture import read_number
from mediacodecs.depacketize import join_frame
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9

DECODERS = {VP8: "vp8", VP9: "vp9", H264: "h264", AV1: "libdav1d", OPUS: "libopus"}
OPTIONS = {"libdav1d": {"framedelay": "1", "tilethreads": "1"}}


@dataclass(frozen=True)
class Picture:
    """One decoded picture."""

    luma: NDArray[np.uint8]  # (height, width)
    number: int | None  # the frame number in it; None: unreadable


class Decoder:
    """Decodes one stream. `codec` is a mediacodecs.frame constant; ValueError: this PyAV can't decode it.

    Counts: `fed` frames, `frames` decoded (of sound: packets), `errors` (frames that couldn't be put together or
    decoded), `unread` pictures without a readable number, `skipped` frames before the first keyframe.
    """

    def __init__(self, codec: int) -> None:
        if codec not in DECODERS:
            raise ValueError(f"codec {codec} can't be decoded")
        self.codec = codec
        self.fed = self.frames = self.errors = self.unread = self.skipped = 0
        self.started = codec == OPUS
        self.av = load_av()
        self.context = self.open()

    def open(self) -> Any:
        """A new decoder that gives each picture at once."""
        name = DECODERS[self.codec]
        try:
            context = self.av.CodecContext.create(name, "r")
        except ValueError as error:
            raise ValueError(f"this PyAV was built without the decoder {name}") from error
        context.options = OPTIONS.get(name, {})
        if self.codec != OPUS:
            context.thread_count = 1
            context.flags |= self.av.codec.context.Flags.low_delay
        return context

    def feed(self, payloads: Sequence[bytes], keyframe: bool) -> list[Picture]:
        """Decode one whole frame, its payloads in order; the pictures that come out. Never raises."""
        self.fed += 1
        self.started |= keyframe
        if not self.started:
            self.skipped += 1
            return []
        try:
            decoded = self.context.decode(self.av.Packet(join_frame(self.codec, payloads)))
        except (ValueError, OSError, self.av.error.FFmpegError):
            self.errors += 1
            return []
        self.frames += len(decoded)
        if self.codec == OPUS:
            return []
        return [self.look(frame) for frame in decoded]

    def look(self, frame: Any) -> Picture:
        """The luma plane and the number in it."""
        plane = frame.planes[0]
        luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        number = read_number(luma)
        self.unread += number is None
        return Picture(luma, number)
