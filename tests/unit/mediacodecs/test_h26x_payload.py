"""H.264 and H.265 payloads."""

from __future__ import annotations

import numpy as np
import pytest

from mediacodecs.frame import H264, H265, MALFORMED, TRUNCATED
from mediacodecs.h264 import (
    HAS_IDR,
    HAS_PPS,
    HAS_RECOVERY,
    HAS_SPS,
    PPS,
    SPS,
    nal_of_type,
    nal_span,
    write_parameter_packet,
)
from mediacodecs.h264_sps import golomb, skip_order, skip_scaling, sps_resolution
from tests.unit.mediacodecs.payloads import BEFORE, array, parse, parse_any

SPS_NAL = bytes.fromhex("6764001facd9405005bb016c80000003008000001e078c18cb")  # High, 1280x720
PPS_NAL = bytes.fromhex("68ebe3cb22c0")
IDR_NAL = bytes.fromhex("658884001122")


def stap(*nals: bytes) -> bytes:
    return b"\x78" + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)


def test_stap_with_parameter_sets_and_idr_is_a_whole_keyframe() -> None:
    frame = parse(H264, stap(SPS_NAL, PPS_NAL, IDR_NAL))
    assert (frame.keyframe, frame.start, frame.end) == (1, 1, 0)
    assert frame.param_sets == HAS_SPS | HAS_PPS | HAS_IDR
    assert (frame.width, frame.height) == (1280, 720)


def test_parameter_sets_alone_are_no_keyframe() -> None:
    frame = parse(H264, stap(SPS_NAL, PPS_NAL))
    assert (frame.keyframe, frame.start, frame.param_sets) == (0, 0, HAS_SPS | HAS_PPS)


def test_every_fragment_of_an_idr_is_a_keyframe_and_only_the_first_starts_it() -> None:
    fragments = [parse(H264, data) for data in ("7c8588840012", "7c0588840012", "7c4588840012")]
    assert [f.keyframe for f in fragments] == [1, 1, 1]
    assert [f.start for f in fragments] == [1, 0, 0]
    assert [f.param_sets for f in fragments] == [HAS_IDR] * 3


def test_second_slice_of_a_picture_does_not_start_a_frame() -> None:
    assert parse(H264, "419a1122").start == 1
    assert parse(H264, "41021122").start == 0
    assert parse(H264, "7c8503c88843").start == 0


def test_slice_that_nothing_refers_to_is_discardable() -> None:
    assert parse(H264, "019a1122").discardable == 1
    assert parse(H264, "1c819a22").discardable == 1
    assert parse(H264, "419a1122").discardable == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [("", TRUNCATED), ("78", TRUNCATED), ("7c85", TRUNCATED), ("7800", MALFORMED), ("780000", MALFORMED)]
    + [("780003686162000f6588", MALFORMED), ("7900000002658800", MALFORMED), ("1f00", MALFORMED), ("0000", MALFORMED)],
)
def test_h264_broken_payload_says_nothing(data: str, error: int) -> None:
    frame, returned = parse_any(H264, bytes.fromhex(data))
    assert returned == error
    assert (frame.keyframe, frame.param_sets) == (0, 0)


def test_nal_spans_find_the_parameter_sets_in_a_packet() -> None:
    payload = stap(SPS_NAL, PPS_NAL, IDR_NAL)
    b, end = array(payload), BEFORE + len(payload)
    spans = [nal_span(b, BEFORE, end, k) for k in range(4)]
    assert [b[s >> 20 : (s >> 20) + (s & 0xFFFFF)].tobytes() for s in spans[:3]] == [SPS_NAL, PPS_NAL, IDR_NAL]
    assert spans[3] == -1
    assert [nal_of_type(b, BEFORE, end, kind) for kind in (SPS, PPS, 6)] == [spans[0], spans[1], -1]


def test_nal_span_of_single_nal_and_fragment() -> None:
    b = array(SPS_NAL)
    assert nal_span(b, BEFORE, b.size, 0) == BEFORE << 20 | len(SPS_NAL)
    assert nal_span(b, BEFORE, b.size, 1) == -1
    assert nal_span(array(bytes.fromhex("7c858884")), BEFORE, BEFORE + 4, 0) == -1


def test_written_parameter_packet_is_read_back() -> None:
    dst = np.zeros(64, np.uint8)
    sps, pps = np.frombuffer(SPS_NAL, np.uint8), np.frombuffer(PPS_NAL, np.uint8)
    size = write_parameter_packet(dst, 5, sps, sps.size, pps, pps.size)
    assert dst[5 : 5 + size].tobytes() == stap(SPS_NAL, PPS_NAL)
    assert parse(H264, dst[5 : 5 + size].tobytes()).param_sets == HAS_SPS | HAS_PPS


def test_parameter_packet_that_does_not_fit_is_refused() -> None:
    dst = np.zeros(30, np.uint8)
    sps, pps = np.frombuffer(SPS_NAL, np.uint8), np.frombuffer(PPS_NAL, np.uint8)
    assert write_parameter_packet(dst, 0, sps, sps.size, pps, pps.size) == -1
    assert write_parameter_packet(dst, 0, sps, 0, pps, pps.size) == -1
    assert not dst.any()


def test_h265_keyframes_start_and_temporal_layer() -> None:
    single, delta = parse(H265, "2601af08"), parse(H265, "0203d00811")
    assert (single.keyframe, single.start, single.temporal) == (1, 1, 0)
    assert (delta.keyframe, delta.start, delta.temporal) == (0, 1, 2)
    packed = parse(H265, "6001 0004 40010c01 0005 2601af0800")
    assert (packed.keyframe, packed.start) == (1, 1)


def test_h265_fragments_are_keyframes_and_only_the_first_starts() -> None:
    first, last = parse(H265, "620193af11"), parse(H265, "620253af11")
    assert (first.keyframe, first.start) == (1, 1)
    assert (last.keyframe, last.start, last.temporal) == (1, 0, 1)


@pytest.mark.parametrize(("data", "error"), [("2601", TRUNCATED), ("6001000926", MALFORMED), ("640193af", MALFORMED)])
def test_h265_broken_payload_says_nothing(data: str, error: int) -> None:
    assert parse_any(H265, bytes.fromhex(data))[1] == error


def test_parameter_set_that_ends_early_is_none_and_costs_no_more_than_it_has() -> None:
    """Ten bytes may promise 255 numbers; a packet of such sets would keep a worker for milliseconds."""
    promising = bytes.fromhex("6742001e") + bytes([0b1_1_010_0_1_1, 0b0000_0000, 0b1000_0000, 0b0])
    b = array(promising)
    assert sps_resolution(b, BEFORE, b.size) == 0
    end = b.size * 8
    assert golomb(b, end + 1, BEFORE, b.size) == (0, end + 2)
    assert skip_order(b, end - 4, BEFORE, b.size) <= end + 2
    assert skip_scaling(b, end, BEFORE, b.size, 64) <= end + 2


def test_first_parameter_set_of_a_packet_counts() -> None:
    frame = parse(H264, stap(SPS_NAL, bytes.fromhex("6742001e"), PPS_NAL))
    assert (frame.width, frame.height) == (1280, 720)


RECOVERY_MESSAGE = "060184"
LONG = "05ff10" + 271 * "aa"  # user data of 271 bytes


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        (RECOVERY_MESSAGE, True),
        (LONG + RECOVERY_MESSAGE, True),
        ("010133" + RECOVERY_MESSAGE, True),
        ("ff0502aaaa" + RECOVERY_MESSAGE, True),
        ("070184", False),
        (LONG, False),
        ("05ff", False),
        ("06", False),
        ("0502aa", False),
    ],
)
def test_recovery_point_is_found_among_the_messages_of_an_sei(messages: str, found: bool) -> None:
    frame = parse(H264, bytes.fromhex("06" + messages).ljust(4, b"\x80") if found else bytes.fromhex("06" + messages))
    assert bool(frame.param_sets & HAS_RECOVERY) is found
