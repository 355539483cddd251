"""H.264 parameter sets: cached as they pass, put before a keyframe that comes without them (RFC 6184 8.4).

A late joiner starts at a keyframe, which is one only with SPS and PPS before it. Encoders send these in one packet with
the picture or in several, in any order, behind other NAL units, under a time stamp of their own, before each IDR
picture or once; and the network swaps packets. So a keyframe begins with its picture's first packet, and it has an
opening: so many positions back, where the nearer of its own parameter sets begin. When a set comes late and is the last
that was missing, the keyframe begins (once more) with that. A picture without sets of its own gets the cached ones.

Without either nobody can start there, and the next keyframe is asked for. That one is let pass even without: the
session description may hold them (RFC 6184 8.2.2). A recovery point SEI makes a picture a keyframe as IDR does:
encoders that refresh line by line send nothing else.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import H264, int64
from mediacodecs.h264 import HAS_PPS, HAS_RECOVERY, HAS_SPS, PPS, SPS, nal_of_type, write_parameter_packet
from mediacodecs.kernel import kernel
from packetio.log import BARE_KEYFRAME, KEYFRAME, KEYFRAME_WANTED, PARAMETERS, PARAMETERS_VERSION, START, log_at
from packetio.memory import store_release, write_fence

NONE, SAME, OTHER = range(3)  # what a packet brings beside the sets that are kept
NEAR = 16  # positions before a picture in which its own parameter sets lie, at most: SPS, PPS, SEI, repeated or not


@kernel
def keep_parameters(layer: Any, b: Any, rtp: Any, frame: Any, draft: Any, position: int, marks: int) -> int:
    """Take note of the packet; returns its marks, KEYFRAME | START where a keyframe begins, and sets draft.opening."""
    sets = int64(frame.param_sets)
    fresh = NONE
    if sets & (HAS_SPS | HAS_PPS):
        fresh = cache(layer, b, int64(rtp.payload_at), int64(rtp.payload_end), position)
    if sets & HAS_RECOVERY:
        layer.recovery_at = max(layer.recovery_at, position)
    if marks & START:
        return begin_picture(layer, draft, position, marks)
    if fresh and position < layer.picture_at < position + NEAR:
        if fresh == OTHER:  # who has begun with that picture did with the sets before: a keyframe mends it
            store_release(layer.log + KEYFRAME_WANTED, 1)
        first = own_sets(layer, int64(layer.picture_at))
        if first >= 0:
            draft.opening = position - first
            return int64(marks | KEYFRAME | START)
    return int64(marks)


@kernel
def begin_picture(layer: Any, draft: Any, position: int, marks: int) -> int:
    """The marks of a picture's first packet."""
    before = int64(layer.picture_at)
    recovery = position - NEAR < layer.recovery_at <= position and layer.recovery_at > max(layer.slice_at, before)
    if not marks & KEYFRAME and not recovery:
        layer.slice_at = max(layer.slice_at, position)
        return int64(marks)
    layer.picture_at = max(before, position)
    first = own_sets(layer, position)
    if first >= 0 and not first < before < position:
        draft.opening = position - first
        return int64(marks | KEYFRAME)
    if log_at(layer.log).parameters_size or before >= 0:
        return int64(marks | KEYFRAME | BARE_KEYFRAME)
    return int64(marks & ~START)


@kernel
def own_sets(layer: Any, picture: int) -> int:
    """Where the parameter sets of its own begin that stand directly before a picture, or in its packet; -1: not both.

    No other picture begins in between.
    """
    first, last = min(layer.sps_at, layer.pps_at), max(layer.sps_at, layer.pps_at)
    if picture - NEAR < first and last <= picture and not first < layer.slice_at < picture:
        return int64(first)
    return -1


@kernel
def cache(layer: Any, b: Any, at: int, end: int, position: int) -> int:
    """Keep the packet's SPS and PPS, and both as one STAP-A in the log for its readers.

    NONE: newer ones have come before this packet, which is late. SAME, OTHER: than those that were kept before.
    """
    sps, pps = nal_of_type(b, at, end, SPS), nal_of_type(b, at, end, PPS)
    fresh = NONE
    if sps >= 0 and (sps & 0xFFFFF) <= layer.sps.size and position >= layer.sps_at:
        fresh = max(fresh, keep(b, sps, layer.sps, layer.sps_size))
        layer.sps_at, layer.sps_size = position, sps & 0xFFFFF
    if pps >= 0 and (pps & 0xFFFFF) <= layer.pps.size and position >= layer.pps_at:
        fresh = max(fresh, keep(b, pps, layer.pps, layer.pps_size))
        layer.pps_at, layer.pps_size = position, pps & 0xFFFFF
    if fresh:
        publish(layer)
    return int64(fresh)


@kernel
def keep(b: Any, span: int, kept: Any, size: int) -> int:
    """Copy a set over the one of `size` bytes that was kept: SAME or OTHER."""
    at, length = span >> 20, span & 0xFFFFF
    other = length != size
    for k in range(length):
        other = other or kept[k] != b[at + k]
        kept[k] = b[at + k]
    return OTHER if other else SAME


@kernel
def recall_parameters(layer: Any) -> None:
    """An epoch begins. The parameter sets of before stay good until others come: encoders may send them only once."""
    layer.sps_at = layer.pps_at = layer.recovery_at = layer.slice_at = layer.picture_at = -1
    if layer.codec == H264:
        publish(layer)


@kernel
def publish(layer: Any) -> None:
    """Write both into the log, under a version: other workers read them meanwhile (`packetio.log.copy_parameters`)."""
    if layer.sps_size == 0 or layer.pps_size == 0 or layer.sps_size + layer.pps_size + 8 > PARAMETERS:
        return
    log = log_at(layer.log)
    version = log.parameters_version
    store_release(layer.log + PARAMETERS_VERSION, version + 1)
    write_fence()
    log.parameters_size = write_parameter_packet(
        log.parameters, 0, layer.sps, layer.sps_size, layer.pps, layer.pps_size
    )
    store_release(layer.log + PARAMETERS_VERSION, version + 2)
