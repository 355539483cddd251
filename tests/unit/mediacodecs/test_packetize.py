"""Encoded frames to payloads and back: sizes, round trips, and what the payload parsers see of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mediacodecs import depacketize, packetize
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.h264 import HAS_IDR, HAS_PPS, HAS_SPS
from mediacodecs.packetize import packetize_av1, packetize_h264, packetize_opus, packetize_vp8, packetize_vp9
from tests.unit.mediacodecs.payloads import parse

SPS = bytes.fromhex("6742c01fda0280bfe5c044000003000400000300ca3c60ca80")
PPS = bytes.fromhex("68ce0f2c80")
LENGTHS = (11, 1100, 1176, 1177, 1180, 1181, 5000, 60001)
VP8_KEY = bytes.fromhex("1002009d012a80026801")  # 640 x 360
VP9_KEY, VP9_OTHER = b"\x82\x49\x83\x42", b"\x86\x00"
SEQUENCE = bytes.fromhex("0a0b00000004479e6ff6afcf01")  # an OBU with its size


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes without zeros, so that no start code is among them."""
    return bytes(random.Random(seed).choices(range(1, 256), k=size))


def annexb(*units: bytes) -> bytes:
    return b"".join((b"\0\0\0\1" if k % 2 == 0 else b"\0\0\1") + unit for k, unit in enumerate(units))


def four(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def obu(kind: int, body: bytes) -> bytes:
    return bytes([kind << 3 | 2]) + packetize.leb128(len(body)) + body


def temporal_unit(*obus: bytes) -> bytes:
    return b"\x12\x00" + b"".join(obus)


def assert_even(payloads: list[bytes], size: int = packetize.PAYLOAD_SIZE) -> None:
    lengths = [len(payload) for payload in payloads]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("length", LENGTHS)
def test_vp8_frames_come_back_and_only_the_first_packet_starts(length: int) -> None:
    frame = (VP8_KEY + noise(length))[:length]
    payloads = packetize_vp8(frame, 0x7FFF + 5)
    assert_even(payloads)
    seen = [parse(VP8, payload) for payload in payloads]
    assert [bool(one.start) for one in seen] == [k == 0 for k in range(len(seen))]
    assert seen[0].keyframe and (seen[0].width, seen[0].height) == (640, 360)
    assert {(int(one.picture_id), int(one.picture_id_bits), int(one.picture_id_at)) for one in seen} == {(4, 15, 2)}
    assert depacketize.join_frame(VP8, payloads) == frame


def test_vp8_temporal_layer_and_tl0_are_told() -> None:
    seen = parse(VP8, packetize_vp8(b"\x11" + noise(20), 9, tl0=258, temporal=2)[0])
    assert (seen.tl0, seen.temporal, seen.picture_id, seen.keyframe) == (2, 2, 9, 0)
    assert parse(VP8, packetize_vp8(b"\x11" + noise(20), 9, tl0=7)[0]).tl0 == 7


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("begin", [VP9_KEY, VP9_OTHER])
def test_vp9_pictures_come_back_and_each_packet_knows_its_keyframe(begin: bytes, length: int) -> None:
    frame = (begin + b"\x00\x27\xf0\x16\x70" * (begin == VP9_KEY) + noise(length))[:length]  # of 640x360
    payloads = packetize_vp9(frame, 77, width=640, height=360)
    assert_even(payloads)
    seen = [parse(VP9, payload) for payload in payloads]
    last = len(seen) - 1
    assert [(bool(one.start), bool(one.end)) for one in seen] == [(k == 0, k == last) for k in range(len(seen))]
    assert {bool(one.keyframe) for one in seen} == {begin == VP9_KEY}
    assert {(int(one.picture_id), int(one.picture_id_bits), int(one.picture_id_at)) for one in seen} == {(77, 15, 1)}
    assert (seen[0].width, seen[0].height) == ((640, 360) if begin == VP9_KEY else (0, 0))
    assert depacketize.join_frame(VP9, payloads) == frame


def test_vp9_layers_are_told_and_a_size_is_optional() -> None:
    payloads = packetize_vp9(VP9_KEY + noise(3000), 1, tl0=9, temporal=1)
    seen = [parse(VP9, payload) for payload in payloads]
    assert {(int(one.tl0), int(one.temporal), int(one.width)) for one in seen} == {(9, 1, 0)}
    assert depacketize.join_vp9(payloads) == VP9_KEY + noise(3000)


def test_vp9_keyframes_are_known_in_every_profile() -> None:
    assert [packetize.vp9_keyframe(bytes([head])) for head in (0x80, 0x84, 0x88, 0xA0, 0xB0, 0xB2, 0xB4)] == [
        True, False, False, True, True, False, False,
    ]  # fmt: skip


def test_vp9_spatial_layers_become_a_superframe() -> None:
    lower, upper = packetize_vp9(VP9_KEY + b"low", 1), packetize_vp9(VP9_OTHER + b"up", 1)
    unit = depacketize.join_vp9(lower + upper)
    assert unit.startswith(VP9_KEY + b"low" + VP9_OTHER + b"up") and unit[-1] == 0xC0 | 3 << 3 | 1


@pytest.mark.parametrize("length", LENGTHS)
def test_h264_access_units_come_back_and_parameter_sets_share_a_packet(length: int) -> None:
    slice_ = b"\x65\x88" + noise(length)
    payloads = packetize_h264(annexb(SPS, PPS, slice_))
    assert_even(payloads[1:])
    seen = [parse(H264, payload) for payload in payloads]
    assert seen[0].param_sets == HAS_SPS | HAS_PPS and not seen[0].start
    assert [bool(one.start) for one in seen[1:]] == [k == 0 for k in range(len(seen) - 1)]
    assert all(one.keyframe and one.param_sets == HAS_IDR for one in seen[1:])
    assert depacketize.join_frame(H264, payloads) == four(SPS, PPS, slice_)


def test_h264_slices_of_a_picture_are_their_own_packets() -> None:
    first, second = b"\x41\x9a" + noise(500), b"\x41\x1a" + noise(2000)
    payloads = packetize_h264(annexb(first, second))
    assert [bool(parse(H264, payload).start) for payload in payloads] == [True, False, False]
    assert not any(parse(H264, payload).keyframe for payload in payloads)
    assert depacketize.join_h264(payloads) == four(first, second)


def test_h264_parameter_sets_that_do_not_fit_together_are_sent_alone() -> None:
    big = b"\x68" + noise(60)
    payloads = packetize_h264(annexb(SPS, big, b"\x65\x88"), 64)
    assert depacketize.join_h264(payloads) == four(SPS, big, b"\x65\x88")
    assert max(map(len, payloads)) <= 64


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("keyframe", [True, False])
def test_av1_temporal_units_come_back_and_the_first_packet_starts(length: int, keyframe: bool) -> None:
    obus = [SEQUENCE, obu(6, noise(length))] if keyframe else [obu(6, noise(length))]
    payloads = packetize_av1(temporal_unit(*obus), keyframe=keyframe)
    assert max(map(len, payloads)) <= packetize.PAYLOAD_SIZE
    assert max(map(len, payloads)) - min(map(len, payloads)) <= 1
    seen = [parse(AV1, payload) for payload in payloads]
    assert [bool(one.start) for one in seen] == [k == 0 for k in range(len(seen))]
    assert bool(seen[0].keyframe) == keyframe and not any(one.keyframe for one in seen[1:])
    assert depacketize.join_frame(AV1, payloads) == temporal_unit(*obus)


@pytest.mark.parametrize("seed", range(30))
def test_any_obus_come_back(seed: int) -> None:
    chosen = random.Random(seed)
    size = chosen.choice([64, 100, 1180])
    obus = [
        obu(chosen.choice([1, 3, 4, 5, 6]), noise(chosen.choice([0, 1, 5, 126, 900, 4000]), seed)) for _ in range(6)
    ]
    payloads = packetize_av1(temporal_unit(*obus), size)
    assert max(map(len, payloads)) <= size
    assert depacketize.join_av1(payloads) == temporal_unit(*obus)
    for payload in payloads:
        parse(AV1, payload)


def test_av1_padding_is_left_out_and_extensions_stay() -> None:
    layered = bytes([6 << 3 | 4 | 2, 0x28, 3]) + b"abc"
    payloads = packetize_av1(temporal_unit(layered, obu(15, b"padding"), bytes([4 << 3]) + b"tail"))
    seen = parse(AV1, payloads[0])
    assert (seen.temporal, seen.spatial) == (1, 1)
    assert depacketize.join_av1(payloads) == temporal_unit(layered, obu(4, b"tail"))


def test_opus_is_one_payload() -> None:
    assert packetize_opus(b"\xf8abc") == [b"\xf8abc"]
    assert depacketize.join_frame(OPUS, [b"\xf8abc"]) == b"\xf8abc"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: packetize_vp8(b"", 0), "can't be empty"),
        (lambda: packetize_vp8(b"\x10", 0, 20), "20 bytes are too small"),
        (lambda: packetize_h264(b"\x65\x88"), "start code"),
        (lambda: packetize_av1(b"\x12\x00"), "nothing to send"),
        (lambda: packetize_av1(b"\x32\x7fshort"), "malformed at byte 0"),
        (lambda: packetize_av1(b"\x32" + b"\xff" * 9), "longer than 8 bytes"),
        (lambda: packetize_av1(b"\x32\xff"), "ends before"),
        (lambda: packetize_opus(b""), "can't be empty"),
    ],
)
def test_what_is_no_frame_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("codec", "payloads"),
    [
        (VP8, [b"\x90"]),
        (VP9, [b"\xa0\x80"]),
        (H264, [b""]),
        (H264, [b"\x7c\x05ab"]),
        (H264, [b"\x7c\x85ab"]),
        (H264, [b"\x7c\x85ab", b"\x41a"]),
        (H264, [b"\x18\x00\x09a"]),
        (H264, [b"\x1fabc"]),
        (AV1, [b"\x10"]),
        (AV1, [b"\x90ab"]),
        (AV1, [b"\x50ab"]),
        (AV1, [b"\x20\x7fa"]),
        (AV1, [b"\x30\x01a"]),
        (OPUS, [b"a", b"b"]),
        (VP8, []),
        (99, [b"a"]),
    ],
)
def test_what_is_no_whole_frame_is_refused(codec: int, payloads: list[bytes]) -> None:
    with pytest.raises(ValueError):
        depacketize.join_frame(codec, payloads)


@pytest.mark.parametrize("codec", [VP8, VP9, H264, AV1, OPUS])
def test_noise_gives_a_frame_or_a_value_error(codec: int) -> None:
    chosen = random.Random(codec)
    for _ in range(1500):
        payloads = [chosen.randbytes(chosen.randrange(0, 20)) for _ in range(chosen.randrange(1, 4))]
        try:
            assert isinstance(depacketize.join_frame(codec, payloads), bytes)
        except ValueError as error:
            assert str(error)
