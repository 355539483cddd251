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
from mediaserver.engine.access import feed_of, packet_of, subscription_of, transport_of
from mediaserver.engine.buckets import allow
from mediaserver.engine.forward import load_packet
from mediaserver.engine.layout import (
    LIVE,
    MAP_FEED,
    MAP_SIZE,
    MS,
    NO_TYPE,
    PACED,
    PARAMETER_PACKET,
    RESENT,
    RUN,
    SECOND,
)
from mediaserver.engine.numbering import position_of, word_of
from mediaserver.engine.rewrite import seal, set_payload, write_head
from mediaserver.engine.send import make_room, queue_message
from packetio.log import holds, log_at
from packetio.memory import bytes_at, pointer_to

RESEND_RATE = 1_000_000  # bytes a second that one subscription may ask for again …
RESEND_BURST = 400_000  # … and at once
BYTE_PAUSE, DEPTH = SECOND // RESEND_RATE, RESEND_BURST * SECOND // RESEND_RATE  # ns: the same as a bucket
LEAST_TRIP, MOST_TRIP = 20 * MS, 500 * MS  # ns: a round trip that is not known, or that the peer's reports claim
SPARE = RUN  # the packet slot used here lies behind the run that may be in work

STAMP = np.dtype([("ms", "u4")])
STAMP_SIZE = STAMP.itemsize
stamp_at = pointer_to(STAMP)


@kernel
def resend(w: Any, index: int, sequence: int) -> None:
    """Answer one NACKed outgoing sequence number of a subscription.

    A number that was kept for a packet which came while the cursor was past it is answered too.
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
    loaded = load_packet(w, feed.log, position_of(word), p)
    if not loaded or not allow(sub.buckets, RESENT, w.now, p.length * BYTE_PAUSE, DEPTH):
        sub.unanswered += 1
        return
    stamp_of(w, index, number).ms = w.now // MS & 0xFFFFFFFF
    send_rtx(w, sub, t, p, number, word & PARAMETER_PACKET)


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
def send_rtx(w: Any, sub: Any, t: Any, p: Any, number: int, parameters: int) -> None:
    """Seal and queue one RTX packet for the packet that was sent as `number`."""
    make_room(w, 0)
    to = w.arena + w.queued_bytes
    head = write_head(w, sub, t, p, sub.rtx_index + 1, to)
    b = bytes_at(to, 12)
    b[1] = (b[1] & 0x80) | sub.rtx_type
    put32(b, 8, sub.rtx_ssrc)
    if parameters:
        w.prefix_size = 0
        w.body, w.body_size = log_at(p.log).parameters.ctypes.data, log_at(p.log).parameters_size
        b[1] &= 0x7F
    else:
        set_payload(w, sub, p)
    original = bytes_at(w.scratch, 80)
    for k in range(w.prefix_size - 1, -1, -1):
        original[k + 2] = original[k]
    put16(original, 0, number & 0xFFFF)
    w.prefix_size += 2
    w.padding = 0
    size = seal(w, t, sub.rtx_ssrc, sub.rtx_index + 1, to, head)
    sub.rtx_index += 1
    if size == 0 or not holds(p.log, p.position):
        w.drop_overrun += 1
        return
    queue_message(w, t, w.queued_bytes, w.queued_bytes + size, size, 0)
    sub.resent += 1
    w.rtx_out += 1
