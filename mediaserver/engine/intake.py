"""From an authenticated RTP packet to an entry of its layer's log.

A position is the sequence number widened to 64 bits; its low 16 bits are the sequence number itself. A jump that two
packets in a row confirm (RFC 3550 A.1), a new SSRC or a new codec begins a new epoch of the log.

A new codec is one that begins with a keyframe, as every encoder does that is switched, or that two packets in a row
confirm; a packet of another type in the middle of a stream is none. Whoever mixes the types gets a few epochs a second.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.dependency_descriptor import DD_STATE, parse_dependency_descriptor
from mediacodecs.extensions import ABS_CAPTURE_TIME, AUDIO_LEVEL, DEPENDENCY_DESCRIPTOR, VIDEO_ORIENTATION
from mediacodecs.frame import AV1, H264, OPUS, VP9, int64
from mediacodecs.h264 import HAS_PPS, HAS_SPS
from mediacodecs.kernel import kernel
from mediacodecs.payload import parse_payload
from mediacodecs.reception import count_reception
from mediacodecs.rtp import unwrap16
from mediaserver.engine.access import feed_of, layer_of, transport_of
from mediaserver.engine.buckets import may_begin_epoch
from mediaserver.engine.keyframes import keyframe_came
from mediaserver.engine.layout import AUDIO, LAYER, SECOND
from mediaserver.engine.nacks import note_arrival
from mediaserver.engine.news import tell_layer
from mediaserver.engine.parameters import keep_parameters, recall_parameters
from mediaserver.engine.rewrite import signed32
from packetio.log import (
    DISCARDABLE,
    END,
    INTER_LAYER,
    KEYFRAME,
    MARKER,
    NO_LEVEL,
    PADDING_ONLY,
    REPAIRED,
    START,
    SWITCH_UP,
    append,
    begin_epoch,
    log_at,
)
from packetio.memory import bytes_at, numbers_at

assert LAYER.fields is not None
DESCRIPTOR_FROM_MID = LAYER.fields["descriptor"][1] - LAYER.fields["mid"][1]
DESCRIPTOR_BYTES = DD_STATE.itemsize
REPLACED = SECOND  # ns of silence after which an SSRC that was replaced may come back
FAR, TOO_MANY = -1, -2  # no position: far from the rest, or an epoch more than the publisher may begin
CODEC_STEP = SECOND // 2  # ns between two changes of codec on one SSRC, at least: browsers change once in minutes
JUMP = 3000  # positions: a larger step is a reset or nonsense (RFC 3550's MAX_DROPOUT)


@kernel
def accept(w: Any, t: Any, index: int, address: int, arrival: int, ssrc: int, repaired: int, known: bool) -> None:
    """Log the packet in w.rtp / w.extensions, whose bytes begin at `address` (two later if it was RTX).

    A new SSRC takes the layer over at once, a `known` one that was replaced only when the other has fallen silent:
    else a packet of it that comes late, or two that send at once, would begin epoch after epoch.
    """
    layer = layer_of(w, index)
    start = address + 2 * repaired
    b = bytes_at(address, 2048)
    codec = int64(t.codecs[w.rtp.payload_type])
    if codec == 0:
        w.drop_payload += 1
        return
    stranger = codec != layer.codec or (ssrc != layer.ssrc and not repaired)
    if stranger and not fits(w, index, layer, b, ssrc, codec, repaired, known):
        return
    position = position_of(w, layer, int64(w.rtp.sequence), repaired)
    if position < 0:
        w.drop_duplicate += position == FAR
        w.drop_epoch += position == TOO_MANY
        return
    describe(w, layer, b, codec, position, arrival, repaired)
    if not repaired:
        layer.received += 1
        count_reception(layer, int64(w.rtp.timestamp), arrival, layer.clock_rate)
    note_arrival(w, index, position, layer.highest)
    if position > layer.highest:
        layer.highest = position
    if append(layer.log, position, w.draft, start) == 0:
        layer.duplicates += 1
        w.drop_duplicate += 1
        return
    layer.recovered += repaired
    after_append(w, index, layer)


@kernel
def fits(w: Any, index: int, layer: Any, b: Any, ssrc: int, codec: int, repaired: int, known: bool) -> bool:
    """Whether a packet of another SSRC or codec than the layer's begins an epoch; else it is dropped and counted."""
    if repaired:
        w.drop_payload += 1  # of the codec before
        return False
    if ssrc != layer.ssrc:
        if int64(w.rtp.payload_end) <= int64(w.rtp.payload_at):
            w.drop_ssrc += 1  # padding takes nothing over
            return False
        if known and layer.ssrc >= 0 and w.now - log_at(layer.log).last_arrival < REPLACED:
            w.drop_ssrc += 1
            return False
    elif layer.codec and not changes_codec(w, layer, b, codec):
        w.drop_payload += 1
        return False
    renew(w, index, layer, ssrc, codec)
    return True


@kernel
def changes_codec(w: Any, layer: Any, b: Any, codec: int) -> bool:
    """Whether the packet in w.rtp, of another codec on the same SSRC, is the beginning of a stream of that codec."""
    at, end, sequence = int64(w.rtp.payload_at), int64(w.rtp.payload_end), int64(w.rtp.sequence)
    if (codec == OPUS) != (layer.kind == AUDIO) or end <= at:
        return False
    confirmed = layer.other == codec << 16 | sequence
    layer.other = codec << 16 | ((sequence + 1) & 0xFFFF)
    if w.now - layer.codec_at < CODEC_STEP:
        return False
    parse_payload(codec, b, at, end, w.frame)
    return bool(confirmed or (w.frame.keyframe and w.frame.start) or w.frame.param_sets & (HAS_SPS | HAS_PPS))


@kernel
def after_append(w: Any, index: int, layer: Any) -> None:
    """Tell who must know: the forwarder, the keyframe requests, control."""
    marks = w.draft.marks
    if marks & KEYFRAME and marks & START and w.draft.spatial == 0:
        layer.keyframe_count += 1
        keyframe_came(layer)
    if layer.active == 0 and not marks & PADDING_ONLY:
        layer.active = 1
        log_at(layer.log).begun = w.draft.arrival
        tell_layer(w, index, layer)
    feed = feed_of(w, layer.feed)
    if feed.dirty == 0:
        feed.dirty = 1
        numbers_at(w.dirty, w.feed_count)[w.dirty_count] = layer.feed
        w.dirty_count += 1


@kernel
def renew(w: Any, index: int, layer: Any, ssrc: int, codec: int) -> None:
    """The layer's first packet, another SSRC or another codec: a new epoch."""
    layer.ssrc = ssrc
    layer.started = 0
    layer.other = 0
    if codec != layer.codec:
        layer.codec_at = w.now if layer.codec else int64(0)  # the first codec is no change: the second may come at once
        layer.codec = codec
        layer.payload_type = int64(w.rtp.payload_type)
        log_at(layer.log).codec = codec
        log_at(layer.log).clock_rate = layer.clock_rate
        layer.active = 0


@kernel
def position_of(w: Any, layer: Any, sequence: int, repaired: int) -> int:
    """The position of a sequence number; FAR: from the rest, or before the epoch began; TOO_MANY: see `begin`."""
    if layer.started == 0:
        return begin(w, layer, sequence)
    position = unwrap16(layer.highest, sequence)
    if abs(position - layer.highest) <= JUMP:
        layer.odd = -1
        return position if position >= log_at(layer.log).epoch_start else FAR
    if repaired:
        return FAR
    confirmed = layer.odd == sequence
    layer.odd = (sequence + 1) & 0xFFFF
    return begin(w, layer, sequence) if confirmed else FAR


@kernel
def begin(w: Any, layer: Any, sequence: int) -> int:
    """Begin an epoch whose first packet has this sequence number. TOO_MANY: all readers would pay for it too often."""
    log = log_at(layer.log)
    start = log.epoch_start
    if log.highest:
        if not may_begin_epoch(w, transport_of(w, layer.transport)):
            return TOO_MANY
        start = begin_epoch(layer.log, log.packets)
    position = start + 65536 | sequence
    layer.started, layer.odd = 1, -1
    layer.first_position = position
    layer.highest = position - 1
    layer.received = layer.expected_prior = layer.received_prior = 0
    layer.missing_count = 0
    layer.transit = layer.jitter = 0
    layer.timestamp = int64(w.rtp.timestamp)
    recall_parameters(layer)
    layer.sr_arrival = 0
    state = bytes_at(layer.mid.ctypes.data + DESCRIPTOR_FROM_MID, DESCRIPTOR_BYTES)
    for k in range(DESCRIPTOR_BYTES):
        state[k] = 0
    return int64(position)


@kernel
def describe(w: Any, layer: Any, b: Any, codec: int, position: int, arrival: int, repaired: int) -> None:
    """Fill w.draft, the log entry of the packet."""
    draft, rtp, ext, frame = w.draft, w.rtp, w.extensions, w.frame
    shift = 2 * repaired
    draft.arrival = arrival
    draft.timestamp = rtp.timestamp
    draft.length = rtp.payload_end - shift
    draft.payload_at = rtp.payload_at - shift
    draft.epoch = log_at(layer.log).epoch & 0xFFFF
    draft.payload_type = rtp.payload_type
    draft.audio_level = b[ext.at[AUDIO_LEVEL]] if ext.size[AUDIO_LEVEL] else NO_LEVEL
    draft.orientation = b[ext.at[VIDEO_ORIENTATION]] if ext.size[VIDEO_ORIENTATION] else NO_LEVEL
    draft.descriptor_at, draft.descriptor_size = ext.at[DEPENDENCY_DESCRIPTOR] - shift, ext.size[DEPENDENCY_DESCRIPTOR]
    draft.capture_at, draft.capture_size = ext.at[ABS_CAPTURE_TIME] - shift, ext.size[ABS_CAPTURE_TIME]
    draft.opening = 0
    marks = REPAIRED * repaired | MARKER * int64(rtp.marker)
    if rtp.payload_end <= rtp.payload_at:
        draft.marks = marks | PADDING_ONLY
        draft.picture_id_bits = draft.spatial = draft.temporal = 0
        layer.padding_only += 1
        return
    parse_payload(codec, b, int64(rtp.payload_at), int64(rtp.payload_end), frame)
    if ext.size[DEPENDENCY_DESCRIPTOR] and (codec == AV1 or codec == VP9 or codec == H264):
        at, size = int64(ext.at[DEPENDENCY_DESCRIPTOR]), int64(ext.size[DEPENDENCY_DESCRIPTOR])
        parse_dependency_descriptor(b, at, size, layer.descriptor, frame)
    note_order(layer, position, int64(rtp.timestamp))
    take_frame(w, layer, b, codec, position, marks)


@kernel
def note_order(layer: Any, position: int, timestamp: int) -> None:
    """Count steps back in time from one packet to the next in sequence, which came in this order: B-frames.

    Not what the network swapped: then one comes behind a gap, the other late. Not a clock that begins anew.
    """
    if position <= layer.highest:
        return
    if position == layer.highest + 1:
        layer.backwards += -layer.clock_rate < signed32(timestamp - layer.timestamp) < 0
    layer.timestamp = timestamp


@kernel
def take_frame(w: Any, layer: Any, b: Any, codec: int, position: int, marks: int) -> None:
    """Copy what the payload told into w.draft."""
    draft, frame, rtp = w.draft, w.frame, w.rtp
    marks |= KEYFRAME * int64(frame.keyframe) | START * int64(frame.start)
    marks |= END * int64(frame.end != 0 or rtp.marker != 0) | SWITCH_UP * int64(frame.switch_up)
    marks |= DISCARDABLE * int64(frame.discardable) | INTER_LAYER * int64(frame.inter_layer)
    if codec == H264:
        marks = keep_parameters(layer, b, rtp, frame, draft, position, marks)
    draft.marks = marks
    draft.spatial, draft.temporal = frame.spatial, frame.temporal
    draft.picture_id_bits = frame.picture_id_bits if codec != VP9 else 0
    draft.picture_id, draft.tl0 = frame.picture_id, frame.tl0
    draft.picture_id_at, draft.tl0_at = frame.picture_id_at, frame.tl0_at
    if frame.width:
        layer.width, layer.height = frame.width, frame.height
        log_at(layer.log).width, log_at(layer.log).height = frame.width, frame.height
