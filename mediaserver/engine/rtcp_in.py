"""RTCP from a peer: authenticated, then each packet of the compound to whom it concerns.

Reports give loss and round trip, NACKs are answered from the log, PLI and FIR become a joined keyframe request, a
publisher's sender reports go into its logs. Feedback is believed only about SSRCs that this very peer receives.
Transport-wide feedback, REMB, XR and APP are passed over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import be32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import (
    BYE,
    FIR,
    NACK,
    PLI,
    PSFB,
    RR,
    RTPFB,
    SR,
    next_rtcp,
    read_bye,
    read_fir,
    read_nack,
    read_report_block,
    read_sender_info,
)
from mediaserver.engine.access import feed_of, layer_of, subscription_of, transport_of
from mediaserver.engine.buckets import admitted, allow, may_ask_again
from mediaserver.engine.keyframes import want_keyframe
from mediaserver.engine.layout import ASKED, GOODBYE, MS, OPEN, PACED, SECOND
from mediaserver.engine.news import tell_layer, tell_peer
from mediaserver.engine.paths import heard
from mediaserver.engine.reception import layer_of_ssrc, sender_report_in
from mediaserver.engine.resend import resend
from mediaserver.engine.rtcp_out import LENGTH_AT, LISTS_AT, length_at
from packetio.batch import SLOT
from packetio.memory import array_of, bytes_at
from packetio.native import srtp_unprotect_rtcp

shorts_at = array_of(np.uint16)
MAX_NACKED = 896  # sequence numbers taken from one datagram: what fits in the scratch memory, near what a map holds
ASKED_PAUSE = MS // 2  # ns; 2,000 numbers of one stream a second: all that a map holds, twice
ASKED_DEPTH = 2 * SECOND // 2


@kernel
def handle_rtcp(w: Any, transport_index: int, address: int, size: int) -> None:
    """Open and carry out one datagram of RTCP, in place in its receive slot."""
    t = transport_of(w, transport_index)
    if t.secured == 0:
        w.drop_srtp += 1
        return
    if not admitted(w, t, size):
        return
    b = bytes_at(address, SLOT)
    sender = be32(b, 4)
    known = known_sender(t, sender)
    if not known and t.rtcp_ssrc_count >= t.rtcp_ssrcs.size:
        w.drop_ssrc += 1
        return
    words = w.words.ctypes.data + LENGTH_AT
    length = length_at(words)
    length.value = size
    if srtp_unprotect_rtcp(t.inbound, address, words) != 0:
        w.drop_srtp += 1
        t.bad_srtp += 1
        return
    if not known:
        t.rtcp_ssrcs[t.rtcp_ssrc_count] = sender
        t.rtcp_ssrc_count += 1
    heard(w, t, address, size)
    w.rtcp_in += 1
    t.packets_in += 1
    t.bytes_in += size
    w.nack_room = MAX_NACKED
    end = int64(length.value)
    at = int64(0)
    while at < end:
        at = next_rtcp(b, at, end, w.rtcp)
        if at < 0:
            w.drop_garbage += 1
            return
        handle_packet(w, transport_index, t, b)


@kernel
def known_sender(t: Any, ssrc: int) -> bool:
    """Whether authentic RTCP of the peer came from this SSRC before."""
    for k in range(t.rtcp_ssrc_count):
        if int64(t.rtcp_ssrcs[k]) == ssrc:
            return True
    return False


@kernel
def handle_packet(w: Any, transport_index: int, t: Any, b: Any) -> None:
    """One packet of a compound, whose header is in w.rtcp."""
    item = w.rtcp
    kind, form = int64(item.packet_type), int64(item.count)
    if kind == SR and read_sender_info(b, item, w.sender_info):
        sender_report_in(w, t, int64(item.ssrc), w.sender_info)
    if kind == SR or kind == RR:
        for k in range(form):
            if read_report_block(b, item, k, w.report):
                note_report(w, transport_index, t, w.report)
    elif kind == RTPFB and form == NACK:
        answer_nack(w, transport_index, t, b)
    elif kind == PSFB and form == PLI:
        keyframe_for(w, subscription_named(w, transport_index, int64(item.media_ssrc)))
    elif kind == PSFB and form == FIR:
        k = int64(0)
        ssrc = read_fir(b, item, k)
        while ssrc >= 0:
            keyframe_for(w, subscription_named(w, transport_index, ssrc))
            k += 1
            ssrc = read_fir(b, item, k)
    elif kind == BYE:
        handle_bye(w, transport_index, t, b)


@kernel
def subscription_named(w: Any, transport_index: int, ssrc: int) -> int:
    """The subscription of this transport whose primary SSRC it is; 0: none. SSRC: generation << 17 | index << 1."""
    index = int64((ssrc >> 1) & 0xFFFF)
    if index >= w.subscription_used:
        return 0
    sub = subscription_of(w, index)
    if index == 0 or sub.state != OPEN or sub.transport != transport_index or sub.ssrc != ssrc:
        return 0
    return index


@kernel
def note_report(w: Any, transport_index: int, t: Any, block: Any) -> None:
    """Keep what a report block says of one of our streams, and the round trip (RFC 3550 section 6.4.1).

    Of retransmissions, whose SSRC is one more, only that they come (RFC 9143 14: until then they bear the mid).
    """
    ssrc = int64(block.ssrc)
    index = subscription_named(w, transport_index, ssrc & ~1)
    if index == 0:
        return
    sub = subscription_of(w, index)
    if ssrc != sub.ssrc:
        sub.rtx_acknowledged = 1
        return
    sub.acknowledged = 1
    sub.lost_fraction = int64(block.fraction)
    sub.lost = int64(block.lost)
    sub.jitter = int64(block.jitter)
    if block.lsr and int64(block.lsr) == sub.sr_middle:
        held = int64(block.dlsr) * SECOND >> 16
        t.rtt = max(w.now - sub.sr_sent - held, int64(1))


@kernel
def answer_nack(w: Any, transport_index: int, t: Any, b: Any) -> None:
    """Send again what a NACK asks for, as far as the datagram, the stream and the peer may ask."""
    index = subscription_named(w, transport_index, int64(w.rtcp.media_ssrc))
    if index == 0:
        return
    sub = subscription_of(w, index)
    wanted = shorts_at(w.scratch + LISTS_AT, w.nack_room)
    count = read_nack(b, w.rtcp, wanted)
    w.nack_room -= count
    w.nack_in += count
    sub.nacks += count
    for k in range(count):
        if not (allow(sub.buckets, ASKED, w.now, ASKED_PAUSE, ASKED_DEPTH) and may_ask_again(w, t)):
            sub.unanswered += count - k
            return
        resend(w, index, int64(wanted[k]))


@kernel
def keyframe_for(w: Any, index: int) -> None:
    """A subscriber can't decode: ask for a keyframe of what it waits for or gets.

    Not while a late joiner's replay, which begins with a keyframe, is still on its way.
    """
    if index == 0:
        return
    w.pli_in += 1
    sub = subscription_of(w, index)
    sub.plis += 1
    feed = int64(sub.target if sub.target else sub.feed)
    if feed and not (sub.mode == PACED and sub.lag == 0):
        want_keyframe(w, feed_of(w, feed))


@kernel
def handle_bye(w: Any, transport_index: int, t: Any, b: Any) -> None:
    """A stream of the peer's own ends: a BYE about others is none. Tell control when it was the last of a publisher.

    libwebrtc sends a BYE for each layer that it turns off, so one of them alone does not mean that the peer leaves.
    """
    ended = named = 0
    for k in range(int64(w.rtcp.count)):
        ssrc = read_bye(b, w.rtcp, k)
        index = layer_of_ssrc(w, t, ssrc)
        named += known_sender(t, ssrc)
        if index:
            ended += 1
            layer = layer_of(w, index)
            if layer.active:
                layer.active = 0
                tell_layer(w, index, layer)
    index = int64(t.first_layer)
    while index:
        if layer_of(w, index).active:
            return
        index = int64(layer_of(w, index).next)
    if ended or named:
        t.last_goodbye = w.now
    if ended:
        tell_peer(w, transport_index, t, GOODBYE)
