"""A reel: a clip, encoded and cut into RTP payloads, in native memory that the packet engine reads by address.

The engine plays a reel in turns. What is written in a payload and has to go on from turn to turn (picture id and
TL0PICIDX of VP8 and VP9) is told in the rows, so that the engine can write it anew; these numbers begin at 0 in each
reel. Many publishers share one reel, so it is encoded once a process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from loadtest.clips import pcap
from loadtest.clips.encode import (
    AUDIO_FRAME,
    AUDIO_RATE,
    CODECS,
    AudioProfile,
    EncodedFrame,
    VideoProfile,
    encode_audio,
    encode_video,
)
from loadtest.engine.layout import AUDIO, VIDEO
from loadtest.engine.synthetic import BODY, OPUS_HEADER, VP8_HEADER
from mediacodecs.frame import AV1, FRAME, H264, OK, OPUS, VP8, VP9
from mediacodecs.packetize import (
    packetize_av1,
    packetize_h264,
    packetize_opus,
    packetize_vp8,
    packetize_vp9,
)
from mediacodecs.payload import parse_payload
from packetio.memory import Table

VIDEO_RATE = 90000  # clock units a second of all video (RFC 7741, 9628, 6184)
NONE = -1
LAYERS = ((4, 8), (2, 3), (1, 1))  # of simulcast, the smallest first: what sides and bit rate are divided by
LEAST_BITRATE = 40  # kbit/s of a layer
SYNTHETIC_SIZE = (1280, 720)  # pixels that a synthetic keyframe tells
VP8_START = 4 + VP8_HEADER  # bytes before a synthetic body: descriptor and frame header
OPUS_TOC = 0xF8  # CELT, full band, 20 ms, mono, one frame (RFC 6716 section 3.1)

# What kernels read: the rows of a reel.
REEL = np.dtype(
    [
        ("frames", "i8"),
        ("packets", "i8"),
        ("codec", "i8"),  # of mediacodecs.frame
        ("kind", "i8"),  # AUDIO or VIDEO
        ("clock_rate", "i8"),  # Hz
        ("frame_rows", "i8"),  # address of the FRAME_ROWs
        ("packet_rows", "i8"),  # address of the PACKET_ROWs
        ("bytes", "i8"),  # address of the payload bytes
        ("width", "i8"),  # pixels; 0: unknown
        ("height", "i8"),
        ("synthetic", "i8"),  # 1: bodies are stamped when they are sent
        ("picture_ids", "i8"),  # how many picture ids a turn uses; 0: none
    ],
    align=True,
)

FRAME_ROW = np.dtype(
    [
        ("first", "i4"),  # index of its first packet
        ("count", "i4"),  # packets
        ("keyframe", "i4"),
        ("ticks", "i4"),  # clock units until the next frame
        ("number", "i8"),  # frame number, as it stands in the test picture
    ],
    align=True,
)

PACKET_ROW = np.dtype(
    [
        ("at", "i8"),  # offset in the bytes
        ("size", "i4"),  # bytes of payload
        ("picture_id_at", "i4"),  # offset in the payload; -1: none
        ("picture_id", "i4"),  # counted from 0 in this reel
        ("picture_id_bits", "i4"),  # 7 or 15
        ("tl0_at", "i4"),  # offset of TL0PICIDX in the payload; -1: none
        ("tl0", "i4"),  # counted from 0 in this reel
    ],
    align=True,
)


@dataclass(frozen=True)
class Cut:
    """One frame as payloads."""

    payloads: Sequence[bytes]
    keyframe: bool
    ticks: int  # clock units until the next frame
    number: int


class Reel:
    """A clip in native memory; the memory lives as long as this object, which whoever passes `address` on keeps.

    `row` is its REEL record, `frame_rows` and `packet_rows` are the tables, `bytes` the payloads.
    """

    def __init__(self, codec: int, cuts: Sequence[Cut], width: int = 0, height: int = 0, synthetic: bool = False):
        if not cuts:
            raise ValueError("a reel has at least one frame")
        payloads = [payload for cut in cuts for payload in cut.payloads]
        self.table = Table(REEL, 1)
        self._frames, self._packets = Table(FRAME_ROW, len(cuts)), Table(PACKET_ROW, len(payloads))
        self.bytes = np.frombuffer(b"".join(payloads), np.uint8).copy()
        row = self.table.rows[0]
        row.frames, row.packets, row.codec = len(cuts), len(payloads), codec
        row.kind = AUDIO if codec == OPUS else VIDEO
        row.clock_rate = AUDIO_RATE if codec == OPUS else VIDEO_RATE
        row.frame_rows, row.packet_rows = self._frames.address, self._packets.address
        row.bytes = int(self.bytes.ctypes.data)
        row.width, row.height, row.synthetic = width, height, int(synthetic)
        self._fill_frames(cuts)
        self._fill_packets(payloads)

    @property
    def row(self) -> Any:
        """The REEL record."""
        return self.table.rows[0]

    @property
    def address(self) -> int:
        """Where the REEL record lies."""
        return self.table.address

    @property
    def frame_rows(self) -> Any:
        """The FRAME_ROW records."""
        return self._frames.rows

    @property
    def packet_rows(self) -> Any:
        """The PACKET_ROW records."""
        return self._packets.rows

    @property
    def seconds(self) -> float:
        """How long one turn takes."""
        return float(self.frame_rows.ticks.sum() / self.row.clock_rate)

    def payloads(self, frame: int) -> list[bytes]:
        """The payloads of a frame, as they stand in the reel."""
        first = int(self.frame_rows[frame].first)
        rows = self.packet_rows[first : first + int(self.frame_rows[frame].count)]
        return [self.bytes[int(row.at) : int(row.at) + int(row["size"])].tobytes() for row in rows]

    def _fill_frames(self, cuts: Sequence[Cut]) -> None:
        first = 0
        for row, cut in zip(self.frame_rows, cuts, strict=True):
            row.first, row.count, row.keyframe = first, len(cut.payloads), int(cut.keyframe)
            row.ticks, row.number = cut.ticks, cut.number
            first += len(cut.payloads)

    def _fill_packets(self, payloads: Sequence[bytes]) -> None:
        at = 0
        for row, payload in zip(self.packet_rows, payloads, strict=True):
            row.at, row["size"] = at, len(payload)
            row.picture_id_at = row.tl0_at = NONE
            if self.row.codec in (VP8, VP9):
                note_numbers(row, int(self.row.codec), payload)
            at += len(payload)
        rows = self.packet_rows
        with_id, with_tl0 = rows.picture_id_at >= 0, rows.tl0_at >= 0
        if with_id.any():
            ids = unwrapped(rows.picture_id[with_id], int(rows.picture_id_bits[with_id].min()))
            rows.picture_id[with_id] = ids
            self.row.picture_ids = int(ids.max()) + 1
        if with_tl0.any():
            rows.tl0[with_tl0] = unwrapped(rows.tl0[with_tl0], 8)

    @classmethod
    def from_video(cls, profile: VideoProfile) -> Reel:
        """The test picture as the profile says, encoded once a process. ValueError: it can't be encoded."""
        return CACHE.get(profile, lambda: cls.from_frames(profile, encode_video(profile)))

    @classmethod
    def from_frames(cls, profile: VideoProfile, encoded: Sequence[EncodedFrame]) -> Reel:
        """Encoded frames, packetised."""
        ends = [round((k + 1) * VIDEO_RATE / profile.framerate) for k in range(len(encoded))]
        cuts = [
            Cut(packetize(profile, frame), frame.keyframe, end - begin, frame.number)
            for frame, begin, end in zip(encoded, [0, *ends], ends, strict=False)
        ]
        return cls(CODECS[profile.codec], cuts, profile.width, profile.height)

    @classmethod
    def from_audio(cls, profile: AudioProfile) -> Reel:
        """The test tone, encoded once a process. ValueError: it can't be encoded."""

        def encode() -> Reel:
            frames = encode_audio(profile)
            return cls(OPUS, [Cut(packetize_opus(one.data), True, AUDIO_FRAME, one.number) for one in frames])

        return CACHE.get(profile, encode)

    @classmethod
    def synthetic(cls, framerate: float, packets_per_frame: int, packet_size: int, codec: int = VP8) -> Reel:
        """No picture: VP8 frames (one keyframe, one that isn't) or Opus frames whose bodies the sender stamps.

        Payloads have packet_size bytes, those of the second half of a VP8 frame one more; an Opus frame is one
        payload. ValueError: a number is out of range.
        """
        if codec not in (VP8, OPUS):
            raise ValueError("synthetic reels are VP8 or Opus")
        least = BODY + (VP8_START if codec == VP8 else OPUS_HEADER)
        if not least <= packet_size <= 1400 or not 1 <= packets_per_frame <= 1000 or not 1 <= framerate <= 1000:
            raise ValueError(
                f"a synthetic reel has 1 to 1000 packets of {least} to 1400 bytes a frame and 1 to 1000 frames a "
                f"second, not {packets_per_frame} of {packet_size} bytes and {framerate} frames"
            )
        if codec == OPUS:
            body = bytes([OPUS_TOC]) + bytes(packet_size - 1)
            return cls(OPUS, [Cut([body], True, round(AUDIO_RATE / framerate), 0)], synthetic=True)
        sizes = [packet_size + (2 * k >= packets_per_frame) for k in range(packets_per_frame)]
        frames = [[synthetic_vp8(k, number, size) for k, size in enumerate(sizes)] for number in (0, 1)]
        ticks = round(VIDEO_RATE / framerate)
        cuts = [Cut(payloads, number == 0, ticks, number) for number, payloads in enumerate(frames)]
        return cls(VP8, cuts, *SYNTHETIC_SIZE, synthetic=True)

    @classmethod
    def from_pcap(
        cls, path: str | Path, codec: str = "vp8", payload_type: int | None = None, ssrc: int | None = None
    ) -> Reel:
        """The RTP of a capture, from its first keyframe on; frames with lost packets are left out.

        `codec` is one of encode.CODECS. ValueError: the file is no capture or truncated, has no such stream, or no
        keyframe of this codec can be read.
        """
        if codec not in CODECS:
            raise ValueError(f"unknown codec {codec!r}: one of {', '.join(CODECS)}")
        frames = pcap.frames(pcap.read_rtp(Path(path), payload_type, ssrc))
        return captured_reel(Path(path), codec, frames)


def packetize(profile: VideoProfile, frame: EncodedFrame) -> list[bytes]:
    """The payloads of a frame of the test picture."""
    codec, size = CODECS[profile.codec], profile.packet_size
    if codec == VP8:
        return packetize_vp8(frame.data, frame.number, size)
    if codec == VP9:
        return packetize_vp9(frame.data, frame.number, size, width=profile.width, height=profile.height)
    if codec == H264:
        return packetize_h264(frame.data, size)
    assert codec == AV1
    return packetize_av1(frame.data, size, frame.keyframe)


def read_frame(codec: int, payload: bytes) -> Any:
    """The FRAME of a payload; None: it can't be parsed."""
    frame = np.recarray(1, FRAME)[0]
    return frame if parse_payload(codec, np.frombuffer(payload, np.uint8), 0, len(payload), frame) == OK else None


def note_numbers(row: Any, codec: int, payload: bytes) -> None:
    """Where picture id and TL0PICIDX stand in a payload and what they are."""
    frame = read_frame(codec, payload)
    if frame is None:
        return
    if frame.picture_id_bits:
        row.picture_id_at, row.picture_id_bits = int(frame.picture_id_at), int(frame.picture_id_bits)
        row.picture_id = int(frame.picture_id)
    if frame.tl0_at:
        row.tl0_at, row.tl0 = int(frame.tl0_at), int(frame.tl0)


def unwrapped(values: Any, bits: int) -> Any:
    """Numbers that wrap at `bits` bits, counted on and from 0."""
    half = 1 << bits - 1
    steps = (np.diff(values.astype(np.int64)) + half) % (2 * half) - half
    counted = np.concatenate(([0], np.cumsum(steps)))
    return counted - counted.min()


def synthetic_vp8(k: int, number: int, size: int) -> bytes:
    """Payload k of synthetic frame `number`: descriptor with 15-bit picture id, frame header, empty body.

    Descriptor as in RFC 7741 section 4.2; the keyframe's header is whole (RFC 6386 section 9.1).
    """
    head = bytes([0x90 if k == 0 else 0x80, 0x80]) + (0x8000 | number).to_bytes(2, "big")
    if k == 0 and number == 0:
        width, height = SYNTHETIC_SIZE
        frame = b"\x10\xff\xff\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")
    else:
        frame = b"\x11" + b"\xff" * 9
    return head + frame + bytes(size - VP8_START)


def captured_reel(path: Path, codec_name: str, frames: Sequence[pcap.RtpFrame]) -> Reel:
    """The reel of the frames of a capture."""
    codec = CODECS[codec_name]
    kept: list[tuple[pcap.RtpFrame, bool]] = []
    width = height = 0
    for frame in frames:
        parsed = [one for one in (read_frame(codec, payload) for payload in frame.payloads) if one is not None]
        if len(parsed) < len(frame.payloads) or not is_complete(codec, frame, parsed):
            continue
        keyframe = any(bool(one.keyframe) for one in parsed)
        if kept or keyframe:
            kept.append((frame, keyframe))
        if keyframe and not width:
            width, height = (max(int(one[side]) for one in parsed) for side in ("width", "height"))
    if not kept:
        raise ValueError(
            f"{path} has {len(frames)} RTP frames, but no whole {codec_name} keyframe: it may be encrypted (SRTP), of "
            "another codec, or start too late"
        )
    ticks = durations([frame.timestamp for frame, _ in kept], AUDIO_FRAME if codec == OPUS else VIDEO_RATE // 25)
    cuts = [Cut(frame.payloads, key, ticks[k], k) for k, (frame, key) in enumerate(kept)]
    return Reel(codec, cuts, width, height)


def is_complete(codec: int, frame: pcap.RtpFrame, parsed: Sequence[Any]) -> bool:
    """Whether no packet of a captured frame is missing."""
    if codec == OPUS:
        return len(frame.payloads) == 1
    return frame.whole and (frame.follows or any(bool(one.start) for one in parsed))


def durations(timestamps: Sequence[int], default: int) -> list[int]:
    """Clock units from each frame to the next (32-bit timestamps wrap); of the last, the median or `default`."""
    steps = [(after - before) & 0xFFFFFFFF for before, after in zip(timestamps, timestamps[1:], strict=False)]
    good = [step if step < VIDEO_RATE * 10 else default for step in steps]  # a jump is no duration
    return [*good, int(np.median(good)) if good else default]


def make_layers(profile: VideoProfile) -> list[Reel]:
    """Three encodings of the same pictures, from low to high: a quarter, half and the full size.

    `profile.bitrate` is the full layer's; half the size gets a third of it, a quarter an eighth.
    """
    return [Reel.from_video(layer_profile(profile, *divisors)) for divisors in LAYERS]


def layer_profile(profile: VideoProfile, sides: int, rate: int) -> VideoProfile:
    """The profile of a simulcast layer: sides divided and made even."""
    width, height = profile.width // sides & ~1, profile.height // sides & ~1
    bitrate = profile.bitrate if rate == 1 else max(LEAST_BITRATE, profile.bitrate // rate)
    return replace(profile, width=width, height=height, bitrate=bitrate)


Made = TypeVar("Made")


class Cache:
    """Reels by profile, each made once even if several threads ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reels: dict[VideoProfile | AudioProfile, Any] = {}

    def get(self, profile: VideoProfile | AudioProfile, make: Callable[[], Made]) -> Made:
        """The reel of a profile."""
        with self.lock:
            if profile not in self.reels:
                self.reels[profile] = make()
            reel: Made = self.reels[profile]
            return reel


CACHE = Cache()
