"""Retransmission: a NACKed outgoing number is looked up in the subscription's map and sent again from the log as RTX.

RFC 4588: own SSRC and numbering, the original sequence number before the payload. A subscription without RTX gets no
resend: the extensions of the transport would differ, and the same SSRC and index must never seal two different packets.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.bits import put16, put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtp import unwrap16
from mediaserver.engine.access import feed_of, packet_of, subscription_of, transport_of
from mediaserver.engine.forward import load_packet
from mediaserver.engine.layout import LIVE, MAP_FEED, NO_TYPE, PACED, PARAMETER_PACKET, RUN, SECOND
from mediaserver.engine.numbering import position_of, word_of
from mediaserver.engine.rewrite import seal, set_payload, write_head
from mediaserver.engine.send import make_room, queue_message
from packetio.log import holds, log_at
from packetio.memory import bytes_at

RESEND_RATE = 1_000_000  # bytes a second that one subscription may ask for again …
RESEND_BURST = 400_000  # … and at once
SPARE = RUN  # the packet slot used here lies behind the run that may be in work


@kernel
def resend(w: Any, index: int, sequence: int) -> None:
    """Answer one NACKed outgoing sequence number of a subscription.

    A number that was kept for a packet which came while the cursor was past it is answered too.
    """
    sub = subscription_of(w, index)
    sub.nacks += 1
    w.nack_in += 1
    number = unwrap16(sub.out_highest, sequence)
    word = word_of(sub, number)
    good = word != 0 and number >= sub.out_start and (word >> MAP_FEED) == sub.feed and sub.rtx_type != NO_TYPE
    if not good or (sub.mode != LIVE and sub.mode != PACED) or not affordable(w, sub):
        sub.unanswered += 1
        return
    feed = feed_of(w, sub.feed)
    p = packet_of(w, SPARE)
    if not load_packet(w, feed.log, position_of(word), p):
        sub.unanswered += 1
        return
    send_rtx(w, sub, transport_of(w, sub.transport), p, number, word & PARAMETER_PACKET)


@kernel
def affordable(w: Any, sub: Any) -> bool:
    """Whether the subscription's share of resent bytes is not used up."""
    grown = sub.resend_budget + (w.now - sub.resend_budget_at) * RESEND_RATE // SECOND
    sub.resend_budget = min(grown, int64(RESEND_BURST))
    sub.resend_budget_at = w.now
    return bool(sub.resend_budget > 0)


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
    sub.resend_budget -= size
    w.rtx_out += 1
