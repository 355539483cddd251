"""Encodes the test picture and a test tone with PyAV, the way a browser's real-time encoder would.

No lookahead, no hidden frames, no B-frames: each picture gives one frame at once. Keyframes come at picture 0 and at
the wanted interval only, so that a clip can be started from a known place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from loadtest.clips.picture import KINDS, check_size, draw
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.packetize import PAYLOAD_SIZE

CODECS = {"vp8": VP8, "vp9": VP9, "h264": H264, "av1": AV1, "opus": OPUS}
ENCODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9", "h264": "libx264", "av1": "libsvtav1"}
SVT = "pred-struct=1:rc=2:lookahead=0:scd=0:lp=1:rtc=1:scm=0"  # low delay, constant bit rate, no scene cuts, one thread
NEVER = 9999  # keyframe interval in frames of a clip that has only the first
LEAST_INTRA, INTRA_PER_FRAMERATE = 300, 30  # % of a mean frame that a VP8 or VP9 keyframe may take, as in libwebrtc
LONGEST = 60.0  # seconds of a clip; it repeats, so that more would only cost memory
AUDIO_RATE, AUDIO_FRAME = 48000, 960  # samples a second, and of a frame of 20 ms


@dataclass(frozen=True)
class VideoProfile:
    """What to encode. Equal profiles give the same clip."""

    codec: str = "vp8"  # vp8, vp9, h264 or av1
    width: int = 640  # pixels
    height: int = 360
    framerate: float = 25  # frames a second
    bitrate: int = 800  # kbit/s
    keyframe_interval: int | None = None  # frames; None: only the clip's first is one
    content: str = "camera"  # or screen
    duration: float = 4.0  # seconds
    packet_size: int = PAYLOAD_SIZE  # bytes of an RTP payload at most

    def frames(self) -> int:
        """How many pictures the clip has."""
        return max(1, round(self.duration * self.framerate))


@dataclass(frozen=True)
class AudioProfile:
    """What to encode of sound: Opus frames of 20 ms."""

    codec: str = "opus"
    bitrate: int = 32  # kbit/s
    duration: float = 2.0  # seconds

    def frames(self) -> int:
        """How many frames the clip has."""
        return max(1, round(self.duration * AUDIO_RATE / AUDIO_FRAME))


@dataclass(frozen=True)
class EncodedFrame:
    """One frame of a clip."""

    data: bytes
    keyframe: bool
    number: int


def load_av() -> Any:
    """PyAV. ValueError: it isn't installed."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise
    try:
        import av
    except ImportError as error:
        raise ValueError("encoding and decoding need PyAV, which isn't installed (package av)") from error
    return av


def check_video(profile: VideoProfile) -> None:
    """ValueError with the wrong value: the profile can't be encoded."""
    if profile.codec not in ENCODERS:
        raise ValueError(f"unknown video codec {profile.codec!r}: one of {', '.join(ENCODERS)}")
    check_size(profile.width, profile.height)
    if not 1 <= profile.framerate <= 240:
        raise ValueError(f"the frame rate is from 1 to 240, not {profile.framerate}")
    if profile.content not in KINDS:
        raise ValueError(f"unknown content {profile.content!r}: {' or '.join(KINDS)}")
    if profile.keyframe_interval is not None and profile.keyframe_interval < 1:
        raise ValueError(f"the keyframe interval is at least 1 frame, not {profile.keyframe_interval}")
    check_clip(profile.bitrate, profile.duration)


def check_clip(bitrate: int, duration: float) -> None:
    """ValueError: a bit rate or duration that no clip has."""
    if bitrate < 1:
        raise ValueError(f"the bit rate is at least 1 kbit/s, not {bitrate}")
    if not 0 < duration <= LONGEST:
        raise ValueError(f"a clip lasts up to {LONGEST:.0f} s, not {duration} s")


def options(profile: VideoProfile) -> dict[str, str]:
    """The encoder's settings: real time, fixed keyframes, a constant bit rate."""
    interval = str(profile.keyframe_interval or NEVER)
    rate = f"{profile.bitrate}k"
    fixed = {"g": interval, "keyint_min": interval, "maxrate": rate, "bufsize": rate}
    if profile.codec == "h264":
        x264 = f"repeat-headers=1:annexb=1:scenecut=0:keyint={interval}:min-keyint={interval}:open-gop=0"
        speed = {"preset": "veryfast", "tune": "zerolatency", "profile": "baseline", "bf": "0", "x264-params": x264}
        return fixed | speed
    if profile.codec == "av1":
        return {"g": interval, "preset": "11", "svtav1-params": SVT}
    realtime = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}
    intra = str(max(LEAST_INTRA, round(INTRA_PER_FRAMERATE * profile.framerate)))
    return fixed | realtime | {"minrate": rate, "static-thresh": "0", "max-intra-rate": intra}


def open_encoder(av: Any, name: str) -> Any:
    """A new encoder. ValueError: this PyAV was built without it."""
    try:
        return av.CodecContext.create(name, "w")
    except av.error.FFmpegError as error:
        raise ValueError(f"this PyAV can't encode with {name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"this PyAV was built without the encoder {name}") from error


def video_encoder(av: Any, profile: VideoProfile) -> Any:
    """An encoder with the profile's settings."""
    encoder = open_encoder(av, ENCODERS[profile.codec])
    encoder.width, encoder.height, encoder.pix_fmt = profile.width, profile.height, "yuv420p"
    rate = Fraction(profile.framerate).limit_denominator(1001)
    encoder.time_base, encoder.framerate = 1 / rate, rate
    encoder.bit_rate = profile.bitrate * 1000
    encoder.thread_count = 1
    encoder.options = options(profile)
    return encoder


def encode_video(profile: VideoProfile) -> list[EncodedFrame]:
    """A clip of the test picture. ValueError: the profile is wrong, or this PyAV can't encode it."""
    check_video(profile)
    av = load_av()
    encoder = video_encoder(av, profile)
    try:
        with same_priority():
            packets = [packet for frame in video_frames(av, profile) for packet in encoder.encode(frame)]
    except av.error.FFmpegError as error:
        raise ValueError(f"this PyAV can't encode {profile}: {error}") from error
    if len(packets) != profile.frames():
        raise ValueError(f"the {profile.codec} encoder gave {len(packets)} frames for {profile.frames()} pictures")
    return [EncodedFrame(bytes(packet), bool(packet.is_keyframe), k) for k, packet in enumerate(packets)]


@contextmanager
def same_priority() -> Iterator[None]:
    """Leave the thread as it was: SVT-AV1 makes whoever calls it a real-time thread, where that is allowed."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def video_frames(av: Any, profile: VideoProfile) -> Iterator[Any]:
    """The pictures, then None, which flushes an encoder."""
    for number in range(profile.frames()):
        picture = draw(profile.width, profile.height, number, profile.content, profile.framerate)
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        yield frame
    yield None


def tone(first: int, count: int) -> Any:
    """Samples (int16) of a tone that goes up and down between 300 and 500 Hz once a second."""
    t = np.arange(first, first + count) / AUDIO_RATE
    phase = 2 * np.pi * 400 * t - 100 * np.cos(2 * np.pi * t)
    return (8000 * np.sin(phase)).astype(np.int16)


def encode_audio(profile: AudioProfile) -> list[EncodedFrame]:
    """A clip of the test tone, one packet of 20 ms each. ValueError: the profile is wrong, or Opus isn't there."""
    if profile.codec != "opus":
        raise ValueError(f"unknown audio codec {profile.codec!r}: opus")
    check_clip(profile.bitrate, profile.duration)
    av = load_av()
    encoder = open_encoder(av, "libopus")
    encoder.sample_rate, encoder.layout, encoder.format = AUDIO_RATE, "mono", "s16"
    encoder.bit_rate = profile.bitrate * 1000
    encoder.time_base = Fraction(1, AUDIO_RATE)
    encoder.options = {"application": "voip", "frame_duration": "20"}
    try:
        packets = [packet for frame in audio_frames(av, profile) for packet in encoder.encode(frame)]
    except av.error.FFmpegError as error:
        raise ValueError(f"this PyAV can't encode {profile}: {error}") from error
    return [EncodedFrame(bytes(packet), True, k) for k, packet in enumerate(packets[: profile.frames()])]


def audio_frames(av: Any, profile: AudioProfile) -> Iterator[Any]:
    """20 ms pieces of the tone, then None."""
    for k in range(profile.frames()):
        frame = av.AudioFrame.from_ndarray(tone(k * AUDIO_FRAME, AUDIO_FRAME)[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, k * AUDIO_FRAME, Fraction(1, AUDIO_RATE)
        yield frame
    yield None
