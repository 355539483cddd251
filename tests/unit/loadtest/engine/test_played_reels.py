"""Real encoded reels, played with a turn, a jump, a mute and a stall: every picture that leaves can be decoded."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from loadtest.clips.decode import Decoder
from loadtest.clips.encode import CODECS, VideoProfile
from loadtest.clips.reel import Reel
from loadtest.engine.synthetic import check_body
from mediacodecs.frame import OPUS
from tests.unit.loadtest.engine.bodies import check_vp8, new_frame
from tests.unit.loadtest.engine.sending import FRAME_NS, START, Stage

PROFILE = VideoProfile(width=320, height=180, bitrate=150, duration=0.4, keyframe_interval=6)


@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
def test_no_picture_is_missing_to_a_decoder(codec: str) -> None:
    stage = Stage()
    row = stage.video(Reel.from_video(VideoProfile(**vars(PROFILE) | {"codec": codec})))
    media, _ = stage.run(START + 13 * FRAME_NS)  # 0 … 9, 0 … 2
    row.want_key = 1
    media += stage.run(START + 15 * FRAME_NS)[0]  # 6, 7
    row.muted = 1
    stage.run(START + 20 * FRAME_NS)
    row.muted = 0
    media += stage.run(START + 21 * FRAME_NS)[0]  # 8
    stage.at(START + 60 * FRAME_NS)
    media += stage.run(START + 62 * FRAME_NS)[0]  # 9, and 0
    decoder, numbers = Decoder(CODECS[codec]), []
    for k, (_, frame) in enumerate(groupby(media, key=lambda p: p.timestamp)):
        packets = list(frame)
        assert [p.marker for p in packets] == [0] * (len(packets) - 1) + [1]
        numbers += [picture.number for picture in decoder.feed([p.payload for p in packets], k == 0)]
    assert numbers == [*range(10), 0, 1, 2, 6, 7, 8, 9, 0]
    assert (decoder.errors, decoder.unread, decoder.skipped) == (0, 0, 0)
    stage.close()


def test_a_synthetic_reel_has_keyframes_on_request_only() -> None:
    stage, table = Stage(), new_frame()
    row = stage.video(Reel.synthetic(25, 4, 300))
    media, _ = stage.run(START + 5 * FRAME_NS)
    row.want_key = 1
    media += stage.run(START + 8 * FRAME_NS)[0]
    keys, pictures = [], []
    for k, packet in enumerate(media):
        b = np.frombuffer(packet.payload, np.uint8)
        assert check_vp8(b, 0, len(b), table.rows[0]) == packet.at and len(b) == 300 + (k % 4 >= 2)
        keys.append(int(table.rows[0].keyframe))
        pictures.append(int(table.rows[0].picture_id))
    assert [k for k, key in enumerate(keys) if key] == [0, 20]
    assert pictures == [k // 4 for k in range(32)]
    assert (row.keyframes, row.frames) == (2, 8)
    stage.close()


def test_a_synthetic_audio_reel_is_stamped() -> None:
    stage = Stage()
    stage.audio(Reel.synthetic(50, 1, 80, OPUS))
    media, _ = stage.run(START + 5 * FRAME_NS)
    assert len(media) == 10
    for packet in media:
        assert check_body(np.frombuffer(packet.payload, np.uint8), 1, 80) == packet.at
    stage.close()
