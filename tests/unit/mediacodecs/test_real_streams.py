"""What encoders and packetisers really send: keyframes, first packets and sizes against what the encoder said."""

from __future__ import annotations

import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder, VpxPayloadDescriptor

from mediacodecs.frame import AV1, H264, H265, OPUS, VP8, VP9
from mediacodecs.h264 import HAS_IDR, HAS_SPS
from tests.unit.mediacodecs.payloads import parse
from tests.unit.mediacodecs.real_streams import encode, muxed

SIZE = (322, 182)  # not a multiple of 16: H.264 has to crop
X265 = "keyint=4:bframes=0:log-level=none"
STREAMS = {
    "VP8": (VP8, "libvpx", {"g": "4", "deadline": "realtime"}),
    "VP9": (VP9, "libvpx-vp9", {"g": "4", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "H264": (H264, "libx264", {"g": "4", "preset": "ultrafast", "tune": "zerolatency"}),
    "H264 high": (H264, "libx264", {"g": "4", "preset": "medium", "profile": "high", "bf": "0"}),
    "H265": (H265, "libx265", {"preset": "ultrafast", "x265-params": X265}),
    "AV1": (AV1, "libsvtav1", {"g": "4", "preset": "10", "svtav1-params": "pred-struct=1"}),
}
EVERY_PACKET_TELLS = (H264, H265)  # of a keyframe that it belongs to one


@pytest.mark.parametrize("name", STREAMS)
def test_frames_of_an_encoder_are_recognised(name: str) -> None:
    codec, encoder, options = STREAMS[name]
    sent = muxed(encoder, SIZE, 9, options)
    parsed = [(one, parse(codec, one.payload)) for one in sent]
    for number in range(sent[-1].frame + 1):
        frames = [frame for one, frame in parsed if one.frame == number]
        keyframe = next(one.keyframe for one in sent if one.frame == number)
        started = [frame for frame in frames if frame.start]
        assert len(started) == 1
        assert started[0].keyframe == keyframe
        sizes = {(int(f.width), int(f.height)) for f in frames if f.width}
        if codec != H265:
            assert sizes == ({SIZE} if keyframe else set())
        if codec in EVERY_PACKET_TELLS:
            assert {int(f.keyframe) for f in frames if not f.param_sets & HAS_SPS} <= {int(keyframe), 0}
        if not keyframe:
            assert not any(f.keyframe for f in frames)
    assert sum(one.keyframe and frame.start for one, frame in parsed) >= 2


def test_picture_ids_of_a_muxer_count_frames() -> None:
    codec, encoder, options = STREAMS["VP8"]
    ids = [parse(codec, one.payload).picture_id for one in muxed(encoder, SIZE, 4, options)]
    assert sorted(set(ids)) == [0, 1, 2, 3]


def test_opus_packets_stand_alone() -> None:
    sent = muxed("libopus", SIZE, 5, {})
    assert len(sent) >= 5
    assert all(parse(OPUS, one.payload).keyframe and parse(OPUS, one.payload).start for one in sent)


def test_vp8_packetised_by_aiortc() -> None:
    packetiser, codec = Vp8Encoder(), STREAMS["VP8"]
    for packet in encode(codec[1], SIZE, 6, codec[2]):
        payloads, _ = packetiser.pack(packet)
        frames = [parse(VP8, payload) for payload in payloads]
        expected = VpxPayloadDescriptor.parse(payloads[0])[0]
        assert {int(f.picture_id) for f in frames} == {expected.picture_id}
        assert [int(f.start) for f in frames] == [1] + [0] * (len(frames) - 1)
        assert (frames[0].keyframe, int(frames[0].width)) == ((1, SIZE[0]) if packet.is_keyframe else (0, 0))


def test_h264_packetised_by_aiortc() -> None:
    packetiser, codec = H264Encoder(), STREAMS["H264"]
    for packet in encode(codec[1], SIZE, 6, codec[2]):
        frames = [parse(H264, payload) for payload in packetiser.pack(packet)[0]]
        assert sum(int(f.start) for f in frames) == 1
        assert next(f.keyframe for f in frames if f.start) == packet.is_keyframe
        assert any(f.param_sets & HAS_IDR for f in frames) == packet.is_keyframe
        assert {(int(f.width), int(f.height)) for f in frames if f.width} == ({SIZE} if packet.is_keyframe else set())
