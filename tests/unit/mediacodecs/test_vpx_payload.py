"""VP8 and VP9 payload descriptors."""

from __future__ import annotations

import pytest

from mediacodecs.frame import MALFORMED, TRUNCATED, VP8, VP9
from mediacodecs.vp8 import vp8_descriptor_size
from tests.unit.mediacodecs.payloads import BEFORE, array, parse, parse_any

KEY = "1002009d012a4001b400112233"  # a VP8 keyframe of 320x180
DELTA = "1102001122"


def test_vp8_descriptor_without_extension_tells_keyframe_and_size() -> None:
    frame = parse(VP8, "10" + KEY)
    assert (frame.keyframe, frame.start, frame.width, frame.height) == (1, 1, 320, 180)
    assert (frame.picture_id, frame.picture_id_bits, frame.tl0, frame.tl0_at) == (-1, 0, -1, 0)


def test_vp8_full_descriptor_tells_ids_and_layers() -> None:
    frame = parse(VP8, "90f0812345e7" + KEY)
    assert (frame.picture_id, frame.picture_id_bits, frame.picture_id_at) == (0x123, 15, 2)
    assert (frame.tl0, frame.tl0_at) == (0x45, 4)
    assert (frame.temporal, frame.switch_up, frame.keyframe) == (3, 1, 1)


def test_vp8_short_picture_id_and_non_reference_frame() -> None:
    frame = parse(VP8, "b0c02345" + DELTA)
    assert (frame.picture_id, frame.picture_id_bits, frame.picture_id_at) == (0x23, 7, 2)
    assert (frame.discardable, frame.start, frame.keyframe) == (1, 1, 0)


@pytest.mark.parametrize("descriptor", ["00", "11", "12", "8080812345"])
def test_vp8_later_packets_neither_start_nor_are_keyframes(descriptor: str) -> None:
    frame = parse(VP8, descriptor + KEY)
    assert (frame.start, frame.keyframe, frame.width) == (0, 0, 0)


def test_vp8_temporal_layer_needs_the_t_bit() -> None:
    frame = parse(VP8, "9010e1" + DELTA)
    assert (frame.temporal, frame.switch_up) == (0, 0)


@pytest.mark.parametrize("data", ["", "90", "9080", "908081", "90f0812345", "90f0812345e7", "10"])
def test_vp8_truncated_payload_says_nothing(data: str) -> None:
    frame, error = parse_any(VP8, bytes.fromhex(data))
    assert error == TRUNCATED
    assert (frame.start, frame.picture_id, frame.picture_id_bits, frame.tl0_at) == (0, -1, 0, 0)


@pytest.mark.parametrize(
    ("data", "size"), [("10", 1), ("90f0812345e7", 6), ("90f0234567", 5), ("901080", 3), ("9080", -1)]
)
def test_vp8_descriptor_size(data: str, size: int) -> None:
    assert vp8_descriptor_size(array(bytes.fromhex(data)), BEFORE, BEFORE + len(data) // 2) == size


def test_vp9_key_superframe_is_a_keyframe_in_every_layer() -> None:
    base = parse(VP9, "aa 8123 00 07 38 0140 00b4 0280 0168 02 00 34 01 55")
    upper = parse(VP9, "ac 8123 03 07 55")
    assert (base.keyframe, base.start, base.end, base.spatial, base.inter_layer) == (1, 1, 0, 0, 0)
    assert (base.picture_id, base.picture_id_bits, base.tl0, base.tl0_at) == (0x123, 15, 7, 4)
    assert (base.width, base.height) == (640, 360)
    assert (upper.keyframe, upper.end, upper.spatial, upper.inter_layer) == (1, 1, 1, 1)


def test_vp9_predicted_picture_is_no_keyframe() -> None:
    frame = parse(VP9, "ec 23 50 07 55")
    assert (frame.keyframe, frame.start, frame.end) == (0, 1, 1)
    assert (frame.temporal, frame.switch_up, frame.picture_id, frame.picture_id_bits) == (2, 1, 0x23, 7)


def test_vp9_flexible_mode_has_references_and_no_tl0() -> None:
    frame = parse(VP9, "f8 8001 42 03 04 55")
    assert (frame.temporal, frame.spatial, frame.tl0, frame.tl0_at) == (2, 1, -1, 0)
    assert parse_any(VP9, bytes.fromhex("f8 8001 42 03 05 07 06 55"))[1] == MALFORMED


def test_vp9_bare_descriptor_asks_the_frame_header() -> None:
    key = parse(VP9, "08 82 49 83 42 00 13 f0 0b 30 aa")
    assert (key.keyframe, key.width, key.height) == (1, 320, 180)
    assert parse(VP9, "08 86 00 40 92 9c").keyframe == 0
    assert parse(VP9, "00 82 49 83 42 00").keyframe == 0


@pytest.mark.parametrize(
    ("data", "size"),
    [
        ("ae ce95 10 3c 18 0280 0168 02 14 02 34 01 83498342 0013f00b38", (320, 180)),  # Firefox, asked for 640x360
        ("8a b3cb 18 03c0 021c 01 14 01 82498342 003bf021b0", (960, 540)),
        ("ae ce95 10 3c 18 0280 0168 02 14 02 34 01 55", (640, 360)),  # nothing to measure
        ("a6 ce95 10 3c 18 0280 0168 02 14 02 34 01 83498342 0013f00b38", (640, 360)),  # the middle of a frame
        ("88 b3cb 82498342 003bf021b0", (960, 540)),  # no structure, no layers
        ("a8 b3cb 00 07 82498342 003bf021b0", (0, 0)),  # the lowest of layers that it does not list
        ("aa b3cb 00 07 30 0140 00b4 0280 0168 82498342 0013f00b38", (640, 360)),  # the lowest of two
        ("ea b3cb 00 07 18 0280 0168 01 14 01 83498342 0013f00b38", (640, 360)),  # a picture that is predicted
    ],
)
def test_vp9_size_is_measured_where_the_frame_is_the_only_one_of_its_picture(data: str, size: tuple[int, int]) -> None:
    frame = parse(VP9, data)
    assert (frame.width, frame.height) == size


@pytest.mark.parametrize(
    "data", ["", "80", "8081", "a08123", "a0812300", "0a", "0a38", "0a18014000b4", "0a080201", "08"]
)
def test_vp9_truncated_payload_says_nothing(data: str) -> None:
    frame, error = parse_any(VP9, bytes.fromhex(data))
    assert error == TRUNCATED
    assert (frame.start, frame.keyframe, frame.picture_id, frame.width) == (0, 0, -1, 0)
