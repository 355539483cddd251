"""Encoders and decoders: keyframes where they are wanted, and numbers that come back through payloads."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest

from loadtest.clips import encode
from loadtest.clips.decode import Decoder
from loadtest.clips.encode import AudioProfile, VideoProfile, encode_audio, encode_video
from loadtest.clips.reel import packetize
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9

VIDEO = {"vp8": VP8, "vp9": VP9, "h264": H264, "av1": AV1}


def profile(codec: str, **fields: Any) -> VideoProfile:
    return VideoProfile(codec, **({"width": 320, "height": 180, "bitrate": 200, "duration": 0.6} | fields))


@pytest.mark.parametrize("codec", VIDEO)
@pytest.mark.parametrize("content", ["camera", "screen"])
def test_every_picture_comes_back_with_its_number(codec: str, content: str) -> None:
    wanted = profile(codec, content=content, keyframe_interval=7, bitrate=300)
    frames = encode_video(wanted)
    assert [frame.number for frame in frames if frame.keyframe] == [0, 7, 14]
    decoder = Decoder(VIDEO[codec])
    pictures = [picture for frame in frames for picture in decoder.feed(packetize(wanted, frame), frame.keyframe)]
    assert [picture.number for picture in pictures] == list(range(15))
    assert {picture.luma.shape for picture in pictures} == {(180, 320)}
    assert (decoder.fed, decoder.frames, decoder.errors, decoder.unread) == (15, 15, 0, 0)


@pytest.mark.parametrize("codec", VIDEO)
def test_only_the_first_is_a_keyframe_without_an_interval(codec: str) -> None:
    assert [frame.number for frame in encode_video(profile(codec)) if frame.keyframe] == [0]


@pytest.mark.parametrize("codec", VIDEO)
def test_the_bit_rate_is_about_the_wanted_one(codec: str) -> None:
    frames = encode_video(profile(codec, duration=2))
    assert 120_000 < sum(len(frame.data) for frame in frames) * 8 / 2 < 320_000


@pytest.mark.parametrize("codec", VIDEO)
def test_an_encoder_leaves_the_thread_s_priority_alone(codec: str) -> None:
    before = os.sched_getscheduler(0)
    encode_video(profile(codec))
    assert os.sched_getscheduler(0) == before


def test_a_page_of_a_screen_needs_many_packets() -> None:
    frames = encode_video(profile("vp8", width=1280, height=720, content="screen", framerate=5, bitrate=1500))
    assert len(frames[0].data) > 30_000 > 4000 > len(frames[1].data)


def test_sound_is_twenty_milliseconds_a_frame() -> None:
    frames = encode_audio(AudioProfile(duration=0.4))
    decoder = Decoder(OPUS)
    for frame in frames:
        decoder.feed([frame.data], True)
    assert len(frames) == 20 and all(frame.keyframe for frame in frames)
    assert (decoder.frames, decoder.errors) == (20, 0)
    assert np.mean([len(frame.data) for frame in frames]) < 120


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codec": "h266"}, "unknown video codec 'h266': one of vp8, vp9, h264, av1"),
        ({"codec": "vp8", "width": 33}, "not 33x180"),
        ({"codec": "vp8", "framerate": 0}, "frame rate is from 1 to 240, not 0"),
        ({"codec": "vp8", "bitrate": 0}, "at least 1 kbit/s, not 0"),
        ({"codec": "vp8", "duration": 0}, "not 0 s"),
        ({"codec": "vp8", "content": "film"}, "unknown content 'film'"),
        ({"codec": "vp8", "keyframe_interval": 0}, "at least 1 frame, not 0"),
    ],
)
def test_a_wrong_profile_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode_video(profile(**fields))


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encode.ENCODERS, "av1", "libnothing")
    with pytest.raises(ValueError, match="built without the encoder libnothing"):
        encode_video(profile("av1"))
    with pytest.raises(ValueError, match="unknown audio codec 'mp3'"):
        encode_audio(AudioProfile("mp3"))
    with pytest.raises(ValueError, match="can't be decoded"):
        Decoder(99)


@pytest.mark.parametrize("codec", VIDEO.values())
def test_garbage_is_an_error_and_raises_nothing(codec: int) -> None:
    chosen = random.Random(codec)
    decoder = Decoder(codec)
    for _ in range(200):
        payloads = [chosen.randbytes(chosen.randrange(1, 60)) for _ in range(chosen.randrange(1, 4))]
        assert all(picture.number is None for picture in decoder.feed(payloads, True))
    assert decoder.errors > 100


@pytest.mark.parametrize("codec", VIDEO)
def test_damaged_frames_raise_nothing_and_the_next_keyframe_heals(codec: str) -> None:
    wanted = profile(codec, keyframe_interval=5)
    chosen = random.Random(3)
    decoder = Decoder(VIDEO[codec])
    healed: list[int | None] = []
    for frame in encode_video(wanted):
        payloads = packetize(wanted, frame)
        if 2 <= frame.number < 10:
            payloads = [bytes(b ^ (chosen.random() < 0.02) * 85 for b in payload) for payload in payloads]
        numbers = [picture.number for picture in decoder.feed(payloads, frame.keyframe)]
        healed += numbers if frame.number >= 10 else []
    assert healed == [10, 11, 12, 13, 14]


def test_frames_before_the_first_keyframe_are_skipped() -> None:
    wanted = profile("vp8")
    frames = encode_video(wanted)
    decoder = Decoder(VP8)
    assert decoder.feed(packetize(wanted, frames[3]), False) == []
    assert (decoder.skipped, decoder.errors) == (1, 0)
    assert [picture.number for picture in decoder.feed(packetize(wanted, frames[0]), True)] == [0]
