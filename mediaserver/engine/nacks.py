"""Asking publishers for lost packets: the missing positions of a layer, in the list of `mediacodecs.missing`.

The round trip to a peer that only publishes is not known, hence the list's growing pauses. A gap too large to mend, or
a video packet that never came, ends in a keyframe request. The low 16 bits of a position are the RTP sequence number.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.missing import MAX_MISSING, forget, open_gap, take_due
from mediacodecs.rtcp_write import write_nack
from mediaserver.engine.access import layer_of, transport_of
from mediaserver.engine.keyframes import request_keyframe
from mediaserver.engine.layout import MS, VIDEO
from mediaserver.engine.rtcp_out import LISTS_AT, ROOM, begin_compound, send_rtcp
from packetio.memory import bytes_at, numbers_at

GRACE = 10 * MS  # ns that a packet may be late by reordering
AGAIN = 50 * MS  # ns between two requests for a packet, at least


@kernel
def repairable(t: Any, layer: Any) -> bool:
    """Whether lost packets of a layer are asked for: video always, audio when its payload type has RTX."""
    if layer.kind == VIDEO:
        return True
    for k in range(t.repairs.size):
        if t.repairs[k] == layer.payload_type:
            return True
    return False


@kernel
def note_arrival(w: Any, layer_index: int, position: int, highest_before: int) -> None:
    """A packet of a layer came: open the gap that it leaves, or close the one that it fills."""
    layer = layer_of(w, layer_index)
    gap = position - highest_before - 1
    if gap < 0:
        forget(layer, position)
    elif gap > MAX_MISSING:
        request_keyframe(w, layer_index)
    elif gap > 0 and repairable(transport_of(w, layer.transport), layer):
        open_gap(layer, highest_before + 1, position, w.now + GRACE)


@kernel
def nack_tick(w: Any, layer_index: int) -> None:
    """Ask for what is due in one NACK (RFC 4585 section 6.2.1)."""
    layer = layer_of(w, layer_index)
    if layer.missing_count == 0 or layer.ssrc < 0:
        return
    t = transport_of(w, layer.transport)
    lost = numbers_at(w.scratch + LISTS_AT, MAX_MISSING)
    asked, given_up = take_due(layer, w.now, max(int64(AGAIN), t.rtt), lost)
    if asked:
        at = begin_compound(w, t, 0)
        if send_rtcp(w, t, write_nack(bytes_at(w.scratch, ROOM), at, t.rtcp_ssrc, layer.ssrc, lost, asked)):
            layer.nacks_sent += asked
            w.nack_out += asked
    if given_up:
        request_keyframe(w, layer_index)
