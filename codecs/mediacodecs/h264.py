"""The H.264 payload (RFC 6184, packetization modes 0 and 1): single NAL units, STAP-A and FU-A.

A keyframe is a picture of IDR slices. Its parameter sets may come in packets of their own, so the engine keeps the
newest SPS and PPS and puts them as one STAP-A before an IDR that comes bare.

    |F|NRI| type 5 |   1-23: the NAL unit itself   24 STAP-A: (size 16, NAL unit) …   28 FU-A: |S|E|R| type 5 | fragment
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.h264_sps import sps_resolution
from mediacodecs.kernel import kernel

SLICE, IDR, SEI, SPS, PPS, STAP_A, FU_A = 1, 5, 6, 7, 8, 24, 28  # NAL unit types
HAS_SPS, HAS_PPS, HAS_IDR, HAS_RECOVERY = 1, 2, 4, 8  # bits of FRAME.param_sets
RECOVERY_POINT = 6  # payload type of an SEI message (H.264 D.1.8)
MESSAGES = 8  # of one SEI that are looked at


@kernel
def parse_h264(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill a cleared FRAME from the H.264 payload b[at:end]. Returns OK, TRUNCATED or MALFORMED.

    `start` is set on the packet that holds the beginning of a picture's first slice (first_mb_in_slice 0), not on
    parameter sets that come before it. `end` stays 0: the RTP marker tells it. Every packet of an IDR is a keyframe.
    """
    if at >= end:
        return TRUNCATED
    head = int64(b[at])
    kind = head & 31
    if kind == FU_A:
        return parse_fragment(b, at, end, frame)
    if kind == STAP_A:
        return parse_stap(b, at + 1, end, frame)
    if not 1 <= kind <= 23:
        return MALFORMED
    read_nal(b, at, end, frame)
    return OK


@kernel
def parse_stap(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Note each NAL unit of a STAP-A (RFC 6184 section 5.7.1), which begin at b[at] with their sizes."""
    if at >= end:
        return TRUNCATED
    while at < end:
        size = nal_size(b, at, end)
        if size < 0:
            return MALFORMED
        read_nal(b, at + 2, at + 2 + size, frame)
        at += 2 + size
    return OK


@kernel
def nal_size(b: Bytes, at: int, end: int) -> int:
    """Bytes of the NAL unit behind the 16 bit size at b[at]; -1: it is empty or leads past the end."""
    if at + 2 > end:
        return -1
    size = int64(b[at]) << 8 | int64(b[at + 1])
    return size if 0 < size <= end - at - 2 else int64(-1)


@kernel
def nal_span(b: Bytes, at: int, end: int, k: int) -> int:
    """Where NAL unit number k (from 0) of the payload b[at:end] lies: `position in b << 20 | size`.

    -1: there are no more, or the packet is a fragment or malformed.
    """
    if at >= end:
        return -1
    kind = int64(b[at]) & 31
    if kind != STAP_A:
        return int64(at << 20 | end - at) if k == 0 and 1 <= kind <= 23 else int64(-1)
    at += 1
    while at < end:
        size = nal_size(b, at, end)
        if size < 0:
            return -1
        if k == 0:
            return int64(at + 2 << 20 | size)
        k -= 1
        at += 2 + size
    return -1


@kernel
def nal_of_type(b: Bytes, at: int, end: int, kind: int) -> int:
    """Where the first whole NAL unit of a type lies, as `nal_span` tells it; -1: there is none."""
    if at >= end or int64(b[at]) & 31 != STAP_A:
        return nal_span(b, at, end, 0) if at < end and int64(b[at]) & 31 == kind else int64(-1)
    at += 1
    while at < end:
        size = nal_size(b, at, end)
        if size < 0:
            break
        if int64(b[at + 2]) & 31 == kind:
            return int64(at + 2 << 20 | size)
        at += 2 + size
    return -1


@kernel
def parse_fragment(b: Bytes, at: int, end: int, frame: Any) -> int:
    """Fill the FRAME from an FU-A (RFC 6184 section 5.8)."""
    if at + 3 > end:
        return TRUNCATED
    head = int64(b[at + 1])
    read_slice(int64(b[at]) >> 5 & 3, head & 31, frame)
    if is_slice(head & 31) and head & 0x80 and b[at + 2] & 0x80:
        frame.start = 1
    return OK


@kernel
def read_nal(b: Bytes, at: int, end: int, frame: Any) -> None:
    """Note the whole NAL unit b[at:end]."""
    head = int64(b[at])
    kind = head & 31
    read_slice(head >> 5 & 3, kind, frame)
    if is_slice(kind) and at + 1 < end and b[at + 1] & 0x80:
        frame.start = 1
    if kind == PPS:
        frame.param_sets |= HAS_PPS
    if kind == SEI and tells_recovery(b, at + 1, end):
        frame.param_sets |= HAS_RECOVERY
    if kind == SPS and not frame.param_sets & HAS_SPS:  # the first, which is also the one that is kept
        frame.param_sets |= HAS_SPS
        size = sps_resolution(b, at, end)
        frame.width = size >> 16
        frame.height = size & 0xFFFF


@kernel
def tells_recovery(b: Bytes, at: int, end: int) -> bool:
    """Whether one of the messages of an SEI, b[at:end], is a recovery point (H.264 7.3.2.3.1)."""
    for _ in range(MESSAGES):
        kind, at = sei_number(b, at, end)
        size, at = sei_number(b, at, end)
        if at > end:
            return False
        if kind == RECOVERY_POINT:
            return True
        at += size
    return False


@kernel
def sei_number(b: Bytes, at: int, end: int) -> tuple[int, int]:
    """A type or size of an SEI message, whose bytes of 255 count up, and the position after it; beyond `end`: cut."""
    value = int64(0)
    while at < end and b[at] == 255:
        value += 255
        at += 1
    if at >= end:
        return value, int64(end + 1)
    return value + int64(b[at]), int64(at + 1)


@kernel
def is_slice(kind: int) -> bool:
    """Whether a NAL unit type is a slice that no data partition splits."""
    return kind == SLICE or kind == IDR


@kernel
def read_slice(importance: int, kind: int, frame: Any) -> None:
    """Note what NRI and type tell of a slice."""
    if is_slice(kind):
        frame.discardable = 0 if importance else 1
    if kind == IDR:
        frame.keyframe = 1
        frame.param_sets |= HAS_IDR


@kernel
def write_parameter_packet(dst: Bytes, dst_at: int, sps: Bytes, sps_size: int, pps: Bytes, pps_size: int) -> int:
    """Write a STAP-A of an SPS and a PPS to dst[dst_at:]; returns its size, -1 if one is empty or it doesn't fit.

    The packet's NRI is the higher of the two (RFC 6184 section 5.7).
    """
    size = 5 + sps_size + pps_size
    if sps_size < 1 or pps_size < 1 or max(sps_size, pps_size) > 0xFFFF or dst_at + size > dst.size:
        return -1
    dst[dst_at] = max(int64(sps[0]) & 0x60, int64(pps[0]) & 0x60) | STAP_A
    at = write_sized(dst, dst_at + 1, sps, sps_size)
    write_sized(dst, at, pps, pps_size)
    return int64(size)


@kernel
def write_sized(dst: Bytes, at: int, nal: Bytes, size: int) -> int:
    """Write a 16 bit size and the NAL unit; returns where they end."""
    dst[at] = size >> 8
    dst[at + 1] = size & 0xFF
    for i in range(size):
        dst[at + 2 + i] = nal[i]
    return int64(at + 2 + size)
