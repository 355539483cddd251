"""Retransmission: a NACKed outgoing number is looked up in the subscription's map and sent again from the log as RTX.

RFC 4588: own SSRC and numbering, the original sequence number before the payload. A subscription without RTX gets no
resend: the extensions of the transport would differ, and the same SSRC and index must never seal two different packets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import put16, put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtp import unwrap16
from mediaserver.engine.access import feed_of, gone, packet_of, subscription_of, transport_of
from mediaserver.engine.buckets import allow
from mediaserver.engine.forward import PARAMETERS_SCRATCH, SPARE, load_packet, strip, torn, unwanted
from mediaserver.engine.layout import (
    EMPTY,
    LIVE,
    MAP_FEED,
    MAP_SIZE,
    MS,
    NO_TYPE,
    PACED,
    PARAMETER_PACKET,
    RESENT,
    SECOND,
    SENT,
)
from mediaserver.engine.numbering import position_of, word_of
from mediaserver.engine.rewrite import seal, set_payload, write_head
from mediaserver.engine.send import make_room, queue_message
from packetio.log import copy_parameters
from packetio.memory import bytes_at, pointer_to

RESEND_RATE = 1_000_000  # bytes a second that one subscription may ask for again …
RESEND_BURST = 400_000  # … and at once
BYTE_PAUSE, DEPTH = SECOND // RESEND_RATE, RESEND_BURST * SECOND // RESEND_RATE  # ns: the same as a bucket
LEAST_TRIP, MOST_TRIP = 20 * MS, 500 * MS  # ns: a round trip that is not known, or that the peer's reports claim

STAMP = np.dtype([("ms", "u4")])
STAMP_SIZE = STAMP.itemsize
stamp_at = pointer_to(STAMP)


@kernel
def resend(w: Any, index: int, sequence: int) -> None:
    """Answer one NACKed outgoing sequence number of a subscription.

    A number that was kept for a packet which came while the cursor was past it is answered too, without payload if the
    packet is not for this subscription: a receiver that knows is one that does not ask again.
    """
    sub = subscription_of(w, index)
    number = unwrap16(sub.out_highest, sequence)
    word = word_of(sub, number)
    good = word != 0 and number >= sub.out_start and (word >> MAP_FEED) == sub.feed and sub.rtx_type != NO_TYPE
    if not good or (sub.mode != LIVE and sub.mode != PACED):
        sub.unanswered += 1
        return
    t = transport_of(w, sub.transport)
    if on_its_way(w, t, index, number):
        return
    feed = feed_of(w, sub.feed)
    p = packet_of(w, SPARE)
    loaded = not gone(feed) and load_packet(w, feed.log, position_of(word), p) and point(w, sub, p, word)
    if not loaded or not allow(sub.buckets, RESENT, w.now, p.length * BYTE_PAUSE, DEPTH):
        sub.unanswered += 1
        return
    stamp_of(w, index, number).ms = w.now // MS & 0xFFFFFFFF
    send_rtx(w, sub, t, p, number, feed)


@kernel
def point(w: Any, sub: Any, p: Any, word: int) -> bool:
    """Point the worker at the payload that a number is for; False: it is no more."""
    w.prefix_size = w.body_size = 0
    if word & PARAMETER_PACKET:
        p.marks = 0
        w.body = w.scratch + PARAMETERS_SCRATCH
        w.body_size = copy_parameters(p.log, w.body)
        return bool(w.body_size > 0)
    if word & EMPTY or (word & SENT == 0 and unwanted(sub, p)):
        strip(p)
    else:
        set_payload(w, sub, p)
    return True


@kernel
def stamp_of(w: Any, index: int, number: int) -> Any:
    """When (`ms`, modulo 2^32) an outgoing number of a subscription was last resent; 0: never."""
    return stamp_at(w.resends + (index * MAP_SIZE + (number & (MAP_SIZE - 1))) * STAMP_SIZE)


@kernel
def on_its_way(w: Any, t: Any, index: int, number: int) -> bool:
    """Whether this number was resent within the last round trip: the request was made before that could arrive."""
    passed = (w.now // MS - int64(stamp_of(w, index, number).ms)) & 0xFFFFFFFF
    return bool(passed * MS < min(max(int64(t.rtt), int64(LEAST_TRIP)), int64(MOST_TRIP)))


@kernel
def send_rtx(w: Any, sub: Any, t: Any, p: Any, number: int, feed: Any) -> None:
    """Seal and queue one RTX packet for the packet p that was sent as `number`; its payload is pointed at."""
    make_room(w, 0)
    to = w.arena + w.queued_bytes
    primary, sub.acknowledged = sub.acknowledged, sub.rtx_acknowledged  # the mid stays until this SSRC is known, too
    head = write_head(w, sub, t, p, sub.rtx_index + 1, to)
    sub.acknowledged = primary
    b = bytes_at(to, 12)
    b[1] = (b[1] & 0x80) | sub.rtx_type
    put32(b, 8, sub.rtx_ssrc)
    original = bytes_at(w.scratch, 80)
    for k in range(w.prefix_size - 1, -1, -1):
        original[k + 2] = original[k]
    put16(original, 0, number & 0xFFFF)
    w.prefix_size += 2
    w.padding = 0
    size = seal(w, t, sub.rtx_ssrc, sub.rtx_index + 1, to, head)
    sub.rtx_index += 1
    if size == 0 or torn(feed, p):
        w.drop_overrun += 1
        return
    queue_message(w, t, w.queued_bytes, w.queued_bytes + size, size, 0)
    sub.resent += 1
    w.rtx_out += 1
