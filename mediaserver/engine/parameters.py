"""H.264 parameter sets: cached as they pass, put before a keyframe that comes without them (RFC 6184 8.4).

A late joiner starts at a keyframe; an encoder that sends SPS and PPS once, or in packets of their own before the IDR
slice, would leave it without. The keyframe then begins at the parameter sets if they are in the same frame.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.h264 import HAS_IDR, HAS_PPS, HAS_SPS, PPS, SPS, nal_of_type, write_parameter_packet
from mediacodecs.kernel import kernel
from packetio.log import BARE_KEYFRAME, KEYFRAME, PARAMETERS, PARAMETERS_VERSION, START, log_at
from packetio.memory import store_release, write_fence


@kernel
def keep_parameters(layer: Any, b: Any, rtp: Any, frame: Any, marks: int) -> int:
    """Cache SPS and PPS of the packet; returns its marks, with KEYFRAME | START where a keyframe really begins."""
    timestamp, sets = int64(rtp.timestamp), int64(frame.param_sets)
    if timestamp != layer.frame_timestamp:
        layer.frame_timestamp = timestamp
        layer.frame_parameters = 0
    if sets & (HAS_SPS | HAS_PPS):
        cache(layer, b, int64(rtp.payload_at), int64(rtp.payload_end))
    before = int64(layer.frame_parameters)
    layer.frame_parameters = before | sets
    if sets & HAS_SPS and not sets & HAS_IDR and before == 0:
        return int64(marks | KEYFRAME | START)
    if marks & KEYFRAME and before & (HAS_SPS | HAS_IDR):
        return int64(marks & ~START)
    if marks & KEYFRAME and marks & START and not sets & HAS_SPS:
        return int64(marks | BARE_KEYFRAME)
    return int64(marks)


@kernel
def cache(layer: Any, b: Any, at: int, end: int) -> None:
    """Keep the packet's SPS and PPS, and both as one STAP-A in the log for its readers."""
    sps, pps = nal_of_type(b, at, end, SPS), nal_of_type(b, at, end, PPS)
    if sps >= 0 and (sps & 0xFFFFF) <= layer.sps.size:
        layer.sps_size = sps & 0xFFFFF
        for k in range(layer.sps_size):
            layer.sps[k] = b[(sps >> 20) + k]
    if pps >= 0 and (pps & 0xFFFFF) <= layer.pps.size:
        layer.pps_size = pps & 0xFFFFF
        for k in range(layer.pps_size):
            layer.pps[k] = b[(pps >> 20) + k]
    if layer.sps_size and layer.pps_size and layer.sps_size + layer.pps_size + 8 <= PARAMETERS:
        publish(layer)


@kernel
def publish(layer: Any) -> None:
    """Write both into the log, under a version: other workers read them meanwhile (`packetio.log.copy_parameters`)."""
    log = log_at(layer.log)
    version = log.parameters_version
    store_release(layer.log + PARAMETERS_VERSION, version + 1)
    write_fence()
    log.parameters_size = write_parameter_packet(
        log.parameters, 0, layer.sps, layer.sps_size, layer.pps, layer.pps_size
    )
    store_release(layer.log + PARAMETERS_VERSION, version + 2)
