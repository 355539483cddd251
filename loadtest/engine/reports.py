"""What a client tells its server without being asked: receiver reports and transport-wide feedback; and its timers.

Intervals are libwebrtc's: a report every second for video, every five for audio alone, each between half and one and a
half of that (RFC 3550 section 6.3); transport-wide feedback every 50 ms while packets come.
"""

from __future__ import annotations

from typing import Any

from loadtest.engine.frames import give_up
from loadtest.engine.layout import MS, SECOND, VIDEO
from loadtest.engine.post import LISTS_AT, post_rtcp
from loadtest.engine.repair import begin_compound, repair_stream
from loadtest.engine.streams import stream_of
from mediacodecs.bits import put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.reception import fill_block
from mediacodecs.rtcp import BLOCK_BYTES, RR
from mediacodecs.rtcp_write import write_head, write_report_block, write_sdes_cname
from mediacodecs.twcc import twcc_write
from packetio.memory import bytes_at

TICK = 10 * MS  # ns between two looks at a client's timers
VIDEO_INTERVAL, AUDIO_INTERVAL = 1 * SECOND, 5 * SECOND  # ns between two reports, on average
SILENT = 8 * SECOND  # ns without media after which a stream is not reported on
TWCC_INTERVAL, TWCC_IDLE = 50 * MS, 100 * MS  # ns
LIMIT = 1100  # bytes of one compound
MAX_TWCC = 16  # reports in a row; what is left comes with the next


@kernel
def timers(e: Any, index: int, c: Any) -> None:
    """All that is due of client c, number `index`, at e.now; the caller sends the batch."""
    if e.now < c.next_nack:
        return
    c.next_nack = e.now + TICK
    if c.stream_count == 0:
        return
    for k in range(c.stream_count):
        s = stream_of(e, c.streams[k])
        if c.counted_only == 0:
            repair_stream(e, c, s)
        elif s.blocked_since:
            give_up(s, e.now)
    if e.now >= c.next_twcc and c.twcc_media:
        twcc_reports(e, c)
    if e.now >= c.next_report:
        receiver_report(e, index, c)


@kernel
def report_interval(e: Any, index: int, c: Any) -> int:
    """The time to the next report: half to one and a half of the average, without a pattern over the clients."""
    mean = int64(AUDIO_INTERVAL)
    for k in range(c.stream_count):
        if stream_of(e, c.streams[k]).kind == VIDEO:
            mean = int64(VIDEO_INTERVAL)
    mixed = ((e.now & 0x7FFFFFFF) ^ (index * 0x9E3779B1 & 0x7FFFFFFF)) * 0x45D9F3B & 0x7FFFFFFFFFFF
    return int64(mean // 2 + mean * (mixed >> 31) // 0x10000)


@kernel
def receiver_report(e: Any, index: int, c: Any) -> None:
    """Report on all streams that media comes from, in one compound; the first time only the next one is set."""
    first = c.next_report == 0
    c.next_report = e.now + report_interval(e, index, c)
    if first:
        return
    b = bytes_at(e.scratch, LISTS_AT)
    n = int64(0)
    for k in range(c.stream_count):
        s = stream_of(e, c.streams[k])
        if s.first_position and e.now - s.last_packet < SILENT:
            fill_block(s, e.now, e.report)
            write_report_block(b, 8 + BLOCK_BYTES * n, e.report)
            n += 1
    if n == 0:
        return
    put32(b, 4, c.ssrc)
    at = write_head(b, 0, RR, n, 8 + BLOCK_BYTES * n)
    post_rtcp(e, c, write_sdes_cname(b, at, c.ssrc, c.cname, c.cname_size))


@kernel
def twcc_reports(e: Any, c: Any) -> None:
    """Report all arrivals that are not reported yet; sets when to do so again."""
    c.next_twcc = e.now + TWCC_IDLE
    for _ in range(MAX_TWCC):
        at = begin_compound(e, c)
        end = twcc_write(c.twcc, bytes_at(e.scratch, LISTS_AT), at, LIMIT, c.ssrc, c.twcc_media)
        if end == at:
            return
        post_rtcp(e, c, end)
        c.next_twcc = e.now + TWCC_INTERVAL
