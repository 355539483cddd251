"""What a receiver asks of our sources: packets again (NACK), a keyframe (PLI, FIR).

A packet is made again from the source's history and leaves as RTX (RFC 4588). Without RTX nothing is sent again: the
transport-wide number and send time would differ, and an SSRC and index must never seal two different packets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.layout import MS, NO_TYPE, OPEN, VIDEO
from loadtest.engine.packets import history_of, write_packet
from loadtest.engine.post import LISTS_AT, SCRATCH, flush, slot_address
from loadtest.engine.sources import seal_and_post, source_of
from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import FIR, NACK, PLI, PSFB, RTPFB, read_fir, read_nack
from mediacodecs.rtp import unwrap16
from packetio.memory import array_of

shorts_at = array_of(np.uint16)
MAX_NACKED = (SCRATCH - LISTS_AT) // 2  # sequence numbers taken from one NACK
KEY_INTERVAL = 200 * MS  # ns between two keyframes that are sent on request


@kernel
def take_packet(e: Any, c: Any, b: Bytes) -> None:
    """One packet of an opened RTCP compound b that came to client c; its header is in e.rtcp."""
    kind, form = int64(e.rtcp.packet_type), int64(e.rtcp.count)
    if c.source_count == 0 or c.stopped:
        return
    if kind == RTPFB and form == NACK:
        answer_nack(e, c, b)
        flush(e, c)
    elif kind == PSFB and form == PLI:
        want_keyframe(e, c, int64(e.rtcp.media_ssrc))
    elif kind == PSFB and form == FIR:
        k = int64(0)
        ssrc = read_fir(b, e.rtcp, k)
        while ssrc >= 0:
            want_keyframe(e, c, ssrc)
            k += 1
            ssrc = read_fir(b, e.rtcp, k)


@kernel
def place_of(e: Any, c: Any, ssrc: int) -> int:
    """Which of the client's sources has this primary SSRC; -1: none."""
    for k in range(c.source_count):
        s = source_of(e, c, k)
        if s.state == OPEN and s.ssrc == ssrc:
            return int64(k)
    return int64(-1)


@kernel
def want_keyframe(e: Any, c: Any, ssrc: int) -> None:
    """Go on at a keyframe, unless the source did so just now."""
    k = place_of(e, c, ssrc)
    if k < 0:
        return
    s = source_of(e, c, k)
    s.requests += 1
    if s.kind == VIDEO and e.now >= s.key_after:
        s.want_key = 1
        s.key_after = e.now + KEY_INTERVAL


@kernel
def answer_nack(e: Any, c: Any, b: Bytes) -> None:
    """Send again what the NACK in e.rtcp asks for."""
    k = place_of(e, c, int64(e.rtcp.media_ssrc))
    if k < 0:
        return
    s = source_of(e, c, k)
    wanted = shorts_at(e.scratch + LISTS_AT, MAX_NACKED)
    for n in range(read_nack(b, e.rtcp, wanted)):
        if resend(e, c, s, int64(wanted[n])):
            s.resent += 1
        else:
            s.unanswered += 1


@kernel
def resend(e: Any, c: Any, s: Any, sequence: int) -> bool:
    """Send one packet again as RTX; False: it is not known any more, or there is no RTX."""
    if s.rtx_type == NO_TYPE:
        return False
    number = unwrap16(s.sequence - 1, sequence)
    entry = history_of(s, number)
    if number < 0 or entry.sequence != number:
        return False
    size = write_packet(e, c, s, entry, slot_address(e), 1)
    s.rtx_sequence += 1
    return seal_and_post(e, c, size)
