"""AV1 payloads and the dependency descriptor."""

from __future__ import annotations

import pytest

from mediacodecs.frame import AV1, MALFORMED, NO_STRUCTURE, TRUNCATED
from tests.fuzz.dependency_twin import Descriptor, Structure, Template, write
from tests.unit.mediacodecs.payloads import Descriptors, parse, parse_any

L1T3 = Structure(
    offset=10,
    templates=[
        Template(0, 0, [2, 2, 2], [], [0]),
        Template(0, 0, [2, 2, 2], [4], [4]),
        Template(0, 1, [0, 1, 2], [2], [2]),
        Template(0, 2, [0, 0, 1], [1], [1]),
        Template(0, 2, [0, 0, 1], [1], [3]),
    ],
    protected_by=[0, 0, 0],
    sizes=[(1280, 720)],
)
L2T1 = Structure(
    offset=0,
    templates=[
        Template(0, 0, [2, 2], [], [0, 0]),
        Template(0, 0, [2, 3], [2], [2, 1]),
        Template(1, 0, [0, 2], [1], [1, 1]),
        Template(1, 0, [0, 3], [2, 1], [1, 1]),
    ],
    protected_by=[0, 1],
    sizes=[(640, 360), (1280, 720)],
)


def test_new_coded_video_sequence_is_a_keyframe() -> None:
    frame = parse(AV1, "18 30 aa bb")
    assert (frame.keyframe, frame.start, frame.end) == (1, 1, 0)


def test_sequence_header_behind_a_temporal_delimiter_is_a_keyframe() -> None:
    assert parse(AV1, "20 02 1200 0a 00").keyframe == 1
    assert parse(AV1, "10 32 00").keyframe == 0


def test_fragment_that_goes_on_does_not_start_a_frame() -> None:
    assert parse(AV1, "90 0a aa bb").start == 0
    assert parse(AV1, "10 22 00").start == 0
    assert parse(AV1, "50 32 00").start == 1


def test_layers_come_from_the_obu_extension() -> None:
    frame = parse(AV1, "10 34 48 00")
    assert (frame.temporal, frame.spatial) == (2, 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [("", TRUNCATED), ("18", TRUNCATED), ("0005 30", MALFORMED), ("20 05 aabb", MALFORMED), ("20 02 aabb", MALFORMED)]
    + [("00 ffffffffffffffffff01", MALFORMED)],
)
def test_broken_payload_says_nothing(data: str, error: int) -> None:
    frame, returned = parse_any(AV1, bytes.fromhex(data))
    assert returned == error
    assert frame.keyframe == 0


def test_keyframe_with_structure_tells_layer_and_size() -> None:
    frame, error = Descriptors().parse(write(Descriptor(1, 0, 10, 100, L1T3), 3))
    assert error == 0
    assert (frame.start, frame.end, frame.keyframe, frame.switch_up) == (1, 0, 1, 1)
    assert (frame.width, frame.height) == (1280, 720)


def test_later_packets_of_a_keyframe_are_keyframes_too() -> None:
    stream = Descriptors()
    stream.parse(write(Descriptor(1, 0, 10, 100, L1T3), 3))
    frame, _ = stream.parse(write(Descriptor(0, 1, 10, 100), 3))
    assert (frame.keyframe, frame.start, frame.end) == (1, 0, 1)
    assert stream.parse(write(Descriptor(1, 1, 13, 101), 3))[0].keyframe == 0


def test_temporal_layers_can_be_begun_where_all_references_lie_below() -> None:
    stream = Descriptors()
    frames = [
        stream.parse(write(Descriptor(1, 1, template, 100 + k, L1T3 if k == 0 else None), 3))[0]
        for k, template in enumerate([10, 13, 12, 14, 11])
    ]
    assert [f.temporal for f in frames] == [0, 2, 1, 2, 0]
    assert [f.switch_up for f in frames] == [1, 1, 1, 1, 1]
    assert [f.discardable for f in frames] == [0, 1, 0, 1, 0]


def test_frame_that_refers_to_its_own_layer_is_no_place_to_begin_it() -> None:
    stream = Descriptors()
    stream.parse(write(Descriptor(1, 1, 10, 100, L1T3), 3))
    stream.parse(write(Descriptor(1, 1, 13, 101), 3))
    frame, _ = stream.parse(write(Descriptor(1, 1, 13, 102, dtis=[0, 0, 3]), 3))
    assert (frame.switch_up, frame.discardable) == (0, 0)


def test_layers_above_belong_to_the_key_picture() -> None:
    stream = Descriptors()
    frames = [
        stream.parse(write(Descriptor(1, 1, template, (65535 + k) % 65536, L2T1 if k == 0 else None), 2))[0]
        for k, template in enumerate([0, 2, 1, 3])
    ]
    assert [f.spatial for f in frames] == [0, 1, 0, 1]
    assert [f.keyframe for f in frames] == [1, 1, 0, 0]
    assert [f.inter_layer for f in frames] == [0, 1, 0, 1]
    assert (frames[0].width, frames[0].height) == (1280, 720)


def test_without_structure_only_start_and_end_are_told() -> None:
    frame, error = Descriptors().parse(bytes.fromhex("ca0064"))
    assert (error, frame.start, frame.end, frame.keyframe) == (NO_STRUCTURE, 1, 1, 0)


def test_unknown_template_waits_for_the_next_structure() -> None:
    stream = Descriptors()
    stream.parse(write(Descriptor(1, 1, 10, 100, L1T3), 3))
    assert stream.parse(write(Descriptor(1, 1, 30, 101), 3))[1] == NO_STRUCTURE
    assert stream.parse(write(Descriptor(1, 1, 13, 101), 3))[1] == 0


def test_old_keyframe_sent_again_does_not_replace_the_newer_structure() -> None:
    stream, other = Descriptors(), Structure(40, L1T3.templates, L1T3.protected_by)
    stream.parse(write(Descriptor(1, 1, 40, 200, other), 3))
    frame, error = stream.parse(write(Descriptor(1, 1, 10, 100, L1T3), 3))
    assert (error, frame.keyframe, frame.spatial) == (0, 1, 0)
    assert stream.parse(write(Descriptor(1, 1, 43, 201), 3))[1] == 0


def test_keyframe_number_is_forgotten_before_numbers_wrap() -> None:
    stream = Descriptors()
    stream.parse(write(Descriptor(1, 1, 10, 100, L1T3), 3))
    stream.parse(write(Descriptor(1, 1, 11, 2000), 3))
    assert stream.parse(write(Descriptor(1, 1, 11, 100), 3))[0].keyframe == 0


def test_cut_off_structure_is_not_used() -> None:
    stream, whole = Descriptors(), write(Descriptor(1, 1, 10, 100, L1T3), 3)
    assert stream.parse(whole[:2])[1] == TRUNCATED
    for size in range(4, len(whole)):
        assert stream.parse(whole[:size])[1] != 0
    assert stream.parse(write(Descriptor(1, 1, 13, 101), 3))[1] == NO_STRUCTURE
    assert stream.parse(whole)[1] == 0
