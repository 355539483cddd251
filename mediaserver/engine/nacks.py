"""Asking publishers for lost packets: which positions of a layer are missing, and when to ask for them (again).

The list is bounded and ascending. A packet is first asked for after a grace for reordering, then about every round
trip; the pauses grow, because the round trip to a peer that only publishes is not known. A gap too large to mend, or a
video packet that never came, ends in a keyframe request. The low 16 bits of a position are the RTP sequence number.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp_write import write_nack
from mediaserver.engine.access import layer_of, transport_of
from mediaserver.engine.keyframes import request_keyframe
from mediaserver.engine.layout import MAX_MISSING, MS, VIDEO
from mediaserver.engine.rtcp_out import LISTS_AT, ROOM, begin_compound, send_rtcp
from packetio.memory import bytes_at, numbers_at

GRACE = 10 * MS  # ns that a packet may be late by reordering
AGAIN = 50 * MS  # ns between two requests for a packet, at least
EVEN_TRIES = 3  # after so many requests the pauses grow
MAX_TRIES = 10


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
def open_gap(layer: Any, first: int, end: int, due: int) -> None:
    """Add the positions first … end - 1, at most MAX_MISSING of them, above all in the list; the oldest make room."""
    excess = layer.missing_count + end - first - MAX_MISSING
    if excess > 0:
        remove(layer, 0, excess)
    for position in range(first, end):
        k = layer.missing_count
        layer.missing[k] = position
        layer.missing_next[k] = due
        layer.missing_tries[k] = 0
        layer.missing_count = k + 1


@kernel
def remove(layer: Any, at: int, count: int) -> None:
    """Take `count` positions from the list, beginning with number `at`."""
    for k in range(at, layer.missing_count - count):
        layer.missing[k] = layer.missing[k + count]
        layer.missing_next[k] = layer.missing_next[k + count]
        layer.missing_tries[k] = layer.missing_tries[k + count]
    layer.missing_count -= count


@kernel
def forget(layer: Any, position: int) -> None:
    """A missing packet came."""
    for k in range(layer.missing_count):
        if layer.missing[k] == position:
            remove(layer, k, 1)
            return


@kernel
def take_due(layer: Any, now: int, pause: int, lost: Any) -> tuple[int, int]:
    """Write the positions to ask for now to `lost`, and note when to ask again; those asked in vain leave the list.

    Returns how many are asked for and how many are given up.
    """
    asked = kept = 0
    count = int64(layer.missing_count)
    for k in range(count):
        position, due, tries = layer.missing[k], layer.missing_next[k], int64(layer.missing_tries[k])
        if due <= now:
            if tries >= MAX_TRIES:
                continue
            lost[asked] = position
            asked += 1
            tries += 1
            due = now + pause * max(int64(1), tries - EVEN_TRIES + 1)
        layer.missing[kept] = position
        layer.missing_next[kept] = due
        layer.missing_tries[kept] = tries
        kept += 1
    layer.missing_count = kept
    return asked, count - kept


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
