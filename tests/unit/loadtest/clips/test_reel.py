"""Reels: rows that describe the payloads, numbers from 0, layers that are aligned, captures that play again."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import pytest

from loadtest.clips import reel as reels
from loadtest.clips.decode import Decoder
from loadtest.clips.encode import CODECS, AudioProfile, VideoProfile
from loadtest.clips.reel import FRAME_ROW, PACKET_ROW, REEL, Reel, make_layers
from mediacodecs.frame import H264, OPUS, VP8, VP9
from mediacodecs.packetize import packetize_vp8
from tests.unit.loadtest.clips.captures import ipv4, pcap, rtp, udp
from tests.unit.mediacodecs.payloads import parse

SMALL = VideoProfile(width=320, height=180, bitrate=300, duration=0.4)


def small(codec: str) -> VideoProfile:
    return VideoProfile(codec, width=320, height=180, bitrate=300, duration=0.4)


def saved(folder: Path, packets: list[bytes]) -> Path:
    path = folder / "capture.pcap"
    path.write_bytes(pcap([ipv4(udp(one)) for one in packets], 101))
    return path


def packets_of(reel: Reel, first_sequence: int = 65530, first_time: int = 2**32 - 9000) -> list[bytes]:
    """The reel's packets, as somebody would send them."""
    out = []
    for k in range(int(reel.row.frames)):
        payloads = reel.payloads(k)
        for j, payload in enumerate(payloads):
            sequence, last = first_sequence + len(out), j == len(payloads) - 1
            out.append(rtp(sequence, first_time + int(reel.frame_rows.ticks[:k].sum()), payload, marker=last))
    return out


def test_records_are_laid_out_as_the_engine_reads_them() -> None:
    assert (REEL.itemsize, FRAME_ROW.itemsize, PACKET_ROW.itemsize) == (96, 24, 32)
    assert REEL.isalignedstruct and FRAME_ROW.isalignedstruct and PACKET_ROW.isalignedstruct


@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
def test_a_video_reel_decodes_to_its_numbers(codec: str) -> None:
    reel = Reel.from_video(small(codec))
    row = reel.row
    assert (row.frames, row.codec, row.kind, row.clock_rate) == (10, CODECS[codec], reels.VIDEO, 90000)
    assert (row.width, row.height, row.synthetic) == (320, 180, 0)
    assert row.picture_ids == (10 if codec in ("vp8", "vp9") else 0)
    assert int(reel.frame_rows["count"].sum()) == row.packets == len(reel.packet_rows)
    decoder = Decoder(int(row.codec))
    for k, frame in enumerate(reel.frame_rows):
        numbers = [picture.number for picture in decoder.feed(reel.payloads(k), bool(frame.keyframe))]
        assert numbers == [k] == [frame.number]
        assert (bool(frame.keyframe), frame.ticks) == (k == 0, 3600)


@pytest.mark.parametrize("codec", ["vp8", "vp9"])
def test_rows_say_where_the_picture_id_stands(codec: str) -> None:
    reel = Reel.from_video(small(codec))
    for k, frame in enumerate(reel.frame_rows):
        for j, payload in enumerate(reel.payloads(k)):
            row = reel.packet_rows[int(frame.first) + j]
            assert (row.picture_id, row.picture_id_bits, row.tl0_at) == (k, 15, -1)
            at = int(row.picture_id_at)
            assert int.from_bytes(payload[at : at + 2], "big") == 0x8000 | k


def test_payloads_are_reached_by_address() -> None:
    reel = Reel.from_video(SMALL)
    row = reel.packet_rows[-1]
    seen = ctypes.string_at(int(reel.row.bytes) + int(row.at), int(row["size"]))
    assert seen == reel.payloads(9)[-1]
    assert reel.address == reel.table.address


def test_time_adds_up_when_the_rate_does_not_divide_the_clock() -> None:
    reel = Reel.from_frames(VideoProfile(framerate=70), [reels.EncodedFrame(b"\x11abc", False, k) for k in range(7)])
    assert set(reel.frame_rows.ticks.tolist()) == {1285, 1286} and reel.seconds == 0.1


def test_an_audio_reel_has_a_packet_each_twenty_milliseconds() -> None:
    reel = Reel.from_audio(AudioProfile(duration=0.2))
    assert (reel.row.frames, reel.row.packets, reel.row.codec, reel.row.kind) == (10, 10, OPUS, reels.AUDIO)
    assert reel.row.clock_rate == 48000 and set(reel.frame_rows.ticks.tolist()) == {960}
    assert reel.row.picture_ids == 0 and (reel.packet_rows.picture_id_at == -1).all()


def test_equal_profiles_share_a_reel() -> None:
    assert Reel.from_video(SMALL) is Reel.from_video(small("vp8"))
    assert Reel.from_audio(AudioProfile(duration=0.2)) is Reel.from_audio(AudioProfile(duration=0.2))


def test_a_synthetic_reel_has_a_keyframe_and_another_frame() -> None:
    reel = Reel.synthetic(25, 5, 1100)
    assert (reel.row.frames, reel.row.packets, reel.row.synthetic, reel.row.picture_ids) == (2, 10, 1, 2)
    assert reel.frame_rows.keyframe.tolist() == [1, 0] and reel.frame_rows.ticks.tolist() == [3600, 3600]
    assert reel.packet_rows["size"].tolist() == [1100, 1100, 1100, 1101, 1101] * 2
    for k in (0, 1):
        seen = [parse(VP8, payload) for payload in reel.payloads(k)]
        assert [bool(one.start) for one in seen] == [True, False, False, False, False]
        assert {int(one.picture_id) for one in seen} == {k}
        assert bool(seen[0].keyframe) == (k == 0) and seen[0].width == (1280 if k == 0 else 0)


def test_a_synthetic_sound_is_one_payload() -> None:
    reel = Reel.synthetic(50, 1, 80, OPUS)
    assert (reel.row.frames, reel.row.kind, reel.row.synthetic) == (1, reels.AUDIO, 1)
    assert reel.frame_rows.ticks.tolist() == [960] and reel.packet_rows["size"].tolist() == [80]


def test_a_synthetic_reel_out_of_range_is_refused() -> None:
    for wrong in ((25, 5, 20), (25, 0, 1100), (0, 5, 1100), (25, 5, 1401)):
        with pytest.raises(ValueError, match="a synthetic reel has"):
            Reel.synthetic(*wrong)
    with pytest.raises(ValueError, match="VP8 or Opus"):
        Reel.synthetic(25, 5, 1100, H264)
    with pytest.raises(ValueError, match="at least one frame"):
        Reel(VP8, [])


def test_layers_show_the_same_pictures_at_their_sizes() -> None:
    layers = make_layers(SMALL)
    assert [(int(one.row.width), int(one.row.height)) for one in layers] == [(80, 44), (160, 90), (320, 180)]
    assert len(layers) == len(reels.LAYERS)
    for layer in layers:
        decoder = Decoder(VP8)
        for k, frame in enumerate(layer.frame_rows):
            assert [one.number for one in decoder.feed(layer.payloads(k), bool(frame.keyframe))] == [k]
        assert layer.frame_rows.ticks.tolist() == layers[0].frame_rows.ticks.tolist()
        assert layer.frame_rows.keyframe.tolist() == layers[0].frame_rows.keyframe.tolist()


@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
def test_a_capture_plays_again(codec: str, tmp_path: Path) -> None:
    reel = Reel.from_video(small(codec))
    packets = packets_of(reel)
    random.Random(1).shuffle(packets)
    again = Reel.from_pcap(saved(tmp_path, packets), codec)
    assert again.bytes.tobytes() == reel.bytes.tobytes()
    assert again.frame_rows.tolist() == reel.frame_rows.tolist()
    assert again.packet_rows.tolist() == reel.packet_rows.tolist()
    assert (again.row.width, again.row.height) == (320, 180)
    assert again.row.picture_ids == reel.row.picture_ids


def test_a_captured_sound_plays_again(tmp_path: Path) -> None:
    reel = Reel.from_audio(AudioProfile(duration=0.2))
    again = Reel.from_pcap(saved(tmp_path, packets_of(reel)), "opus")
    assert again.frame_rows.tolist() == reel.frame_rows.tolist() and again.row.clock_rate == 48000


def test_a_capture_is_cut_to_its_first_keyframe_and_whole_frames(tmp_path: Path) -> None:
    frames = [(b"\x11" if k != 2 else b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xb4\x00") + bytes(2000) for k in range(7)]
    packets = []
    for k, frame in enumerate(frames):
        for j, payload in enumerate(packetize_vp8(frame, 32766 + k, tl0=254 + k, temporal=0)):
            packets.append(rtp(2 * k + j, 3000 * k, payload, marker=j == 1))
    del packets[9]  # the second half of frame 4
    reel = Reel.from_pcap(saved(tmp_path, packets))
    assert reel.frame_rows.keyframe.tolist() == [1, 0, 0, 0]
    assert reel.frame_rows.ticks.tolist() == [3000, 6000, 3000, 3000]
    assert sorted(set(reel.packet_rows.picture_id.tolist())) == [0, 1, 3, 4] and reel.row.picture_ids == 5
    assert sorted(set(reel.packet_rows.tl0.tolist())) == [0, 1, 3, 4]
    assert set(reel.packet_rows.tl0_at.tolist()) == {4}
    assert (reel.row.width, reel.row.height) == (320, 180)


def test_a_capture_without_a_keyframe_is_refused(tmp_path: Path) -> None:
    chosen = random.Random(9)
    encrypted = [rtp(k, 3000 * k, b"\xff" + chosen.randbytes(3), marker=True) for k in range(20)]
    path = saved(tmp_path, encrypted)
    with pytest.raises(ValueError, match="20 RTP frames, but no whole h264 keyframe: it may be encrypted"):
        Reel.from_pcap(path, "h264")
    with pytest.raises(ValueError, match="unknown codec 'mpeg'"):
        Reel.from_pcap(path, "mpeg")


def test_vp9_keyframes_tell_their_size() -> None:
    assert parse(VP9, Reel.from_video(small("vp9")).payloads(0)[0]).width == 320
