"""What a receiver asks for: lost packets (NACK) and keyframes (PLI), when libwebrtc would.

A packet of a video stream is asked for after a grace for reordering, then about every round trip, which is not known
and taken as libwebrtc's first guess. A gap too large to mend is given up at once. While nothing can be decoded a
keyframe is asked for, again and again as long as media comes; but not while one is on its way.
"""

from __future__ import annotations

from typing import Any

from loadtest.engine.frames import abandon, give_up
from loadtest.engine.layout import MS, SECOND, VIDEO
from loadtest.engine.post import LISTS_AT, post_rtcp
from mediacodecs.bits import put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.missing import MAX_MISSING, forget, open_gap, take_due
from mediacodecs.rtcp import RR
from mediacodecs.rtcp_write import write_head, write_nack, write_pli, write_sdes_cname
from packetio.memory import bytes_at, numbers_at

GRACE = 5 * MS  # ns that a packet may be late by reordering
AGAIN = 100 * MS  # ns between two requests for a packet: libwebrtc's round trip before it has measured one
PATIENCE = 500 * MS  # ns that a new stream may take to bring a keyframe
PLI_INTERVAL = 300 * MS  # ns between two requests for a keyframe
ACTIVE = 5 * SECOND  # ns without a packet after which no keyframe is asked for


@kernel
def note_gap(s: Any, before: int, position: int, now: int) -> None:
    """A packet came when `before` was the highest position: note the gap that it leaves, or that it fills one."""
    if position <= before:
        forget(s, position)
        return
    first = max(before + 1, s.next)
    if s.kind != VIDEO or first >= position:
        return
    if position - first > MAX_MISSING:
        abandon(s, position, now)
    else:
        open_gap(s, first, position, now + GRACE)


@kernel
def keyframe_due(s: Any, now: int) -> bool:
    """Whether to ask for a keyframe now; notes when it may be done again."""
    if s.kind != VIDEO or s.waiting == 0 or now < s.next_pli or now - s.last_packet > ACTIVE:
        return False
    if s.frame_stamp >= 0 and s.frame_key == 1 and s.frame_begun == 1:
        return False
    s.next_pli = now + PLI_INTERVAL
    return True


@kernel
def begin_compound(e: Any, c: Any) -> int:
    """An empty receiver report and our CNAME, as RFC 3550 section 6.1 wants; returns where the next packet goes."""
    b = bytes_at(e.scratch, LISTS_AT)
    put32(b, 4, c.ssrc)
    return write_sdes_cname(b, write_head(b, 0, RR, 0, 8), c.ssrc, c.cname, c.cname_size)


@kernel
def repair_stream(e: Any, c: Any, s: Any) -> None:
    """What is due of one stream: packets to give up, packets or a keyframe to ask for."""
    if s.blocked_since:
        give_up(s, e.now)
    if s.missing_count:
        ask(e, c, s)
    if s.waiting and keyframe_due(s, e.now):
        at = begin_compound(e, c)
        post_rtcp(e, c, write_pli(bytes_at(e.scratch, LISTS_AT), at, c.ssrc, s.ssrc))
        s.plis += 1


@kernel
def ask(e: Any, c: Any, s: Any) -> None:
    """Ask for what is due in one NACK (RFC 4585 section 6.2.1)."""
    lost = numbers_at(e.scratch + LISTS_AT, MAX_MISSING)
    asked, _ = take_due(s, e.now, int64(AGAIN), lost)
    if asked:
        at = begin_compound(e, c)
        post_rtcp(e, c, write_nack(bytes_at(e.scratch, LISTS_AT), at, c.ssrc, s.ssrc, lost, asked))
        s.nacks += asked
