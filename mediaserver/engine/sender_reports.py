"""Sender reports towards subscribers (RFC 3550 section 6.4.1): audio and video stay in sync by them.

A report lies exactly on the line that the publisher's own newest report and the clock rate span, so what a receiver
aligns is the publisher's clock, however its reports were delayed on the way here.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.kernel import kernel
from mediacodecs.rtcp_write import write_sdes_cname, write_sender_report
from mediaserver.engine.access import feed_of, gone, subscription_of, transport_of
from mediaserver.engine.layout import LIVE, PACED, SECOND
from mediaserver.engine.rtcp_out import ROOM, send_rtcp
from packetio.log import ATTEMPTS, SR_VERSION, offset_of
from packetio.memory import bytes_at, load_acquire

REPORT_INTERVAL = 1 * SECOND  # ns between two reports of a subscription
NTP_AT, TIMESTAMP_AT, ARRIVAL_AT = offset_of("sr_ntp"), offset_of("sr_timestamp"), offset_of("sr_arrival")
MASK32 = 0xFFFFFFFF


@kernel
def publisher_report(base: int) -> tuple[int, int, int]:
    """(NTP time in ns since 1900, RTP time stamp, arrival in ns) of a log's newest sender report; arrival 0: none."""
    for _ in range(ATTEMPTS):
        version = load_acquire(base + SR_VERSION)
        ntp = load_acquire(base + NTP_AT)
        timestamp = load_acquire(base + TIMESTAMP_AT)
        arrival = load_acquire(base + ARRIVAL_AT)
        if version & 1 == 0 and load_acquire(base + SR_VERSION) == version:
            return ntp, timestamp, arrival
    return 0, 0, 0


@kernel
def extrapolate(ntp: int, timestamp: int, elapsed: int, clock_rate: int) -> tuple[int, int]:
    """The pair (NTP time in ns, RTP time stamp unwrapped) that follows a pair `elapsed` ns later.

    The time stamp is a whole number of units, and the NTP time that of this very unit: the pair is on the line.
    """
    units = elapsed // SECOND * clock_rate + elapsed % SECOND * clock_rate // SECOND
    return ntp + units // clock_rate * SECOND + units % clock_rate * SECOND // clock_rate, timestamp + units


@kernel
def ntp_fixed(ns: int) -> int:
    """Nanoseconds since 1900 as 32.32 fixed point seconds (the bits of; as a number it may be negative)."""
    return ns // SECOND << 32 | ((ns % SECOND << 32) // SECOND)


@kernel
def sender_report(w: Any, subscription_index: int) -> None:
    """Send a sender report and CNAME for a subscription that sends, once its publisher has sent one."""
    sub = subscription_of(w, subscription_index)
    feed = feed_of(w, sub.feed)
    if (sub.mode != LIVE and sub.mode != PACED) or sub.packets == 0 or gone(feed):
        return
    ntp, timestamp, arrival = publisher_report(feed.log)
    if arrival == 0:
        return
    ntp, timestamp = extrapolate(ntp, timestamp, max(w.now - arrival, 0), sub.clock_rate)
    timestamp = (timestamp + sub.timestamp_offset) & MASK32
    fixed = ntp_fixed(ntp)
    b = bytes_at(w.scratch, ROOM)
    at = write_sender_report(b, 0, sub.ssrc, fixed, timestamp, sub.packets, sub.octets)
    at = write_sdes_cname(b, at, sub.ssrc, sub.cname, sub.cname_size)
    sub.next_report = w.now + REPORT_INTERVAL
    if send_rtcp(w, transport_of(w, sub.transport), at):
        sub.sr_middle = (fixed >> 16) & MASK32
        sub.sr_sent = w.now
