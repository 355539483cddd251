"""Reading RTCP: the packets of a compound, sender and receiver reports (RFC 3550), NACK (RFC 4585) and FIR (RFC 5104).

`next_rtcp` steps through a datagram and checks lengths; the readers take the RTCP record that it filled and never read
outside that packet. `mediacodecs.rtcp_write` writes, `mediacodecs.twcc` does transport-wide feedback.

    |V=2|P| count or format 5 | packet type 8 | 32-bit words after this one, 16 |  SSRC of the sender  | …
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mediacodecs.bits import be16, be24, be32
from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel

SR, RR, SDES, BYE, APP, RTPFB, PSFB, XR = range(200, 208)  # packet types
NACK, TRANSPORT_CC = 1, 15  # formats of RTPFB (RFC 4585 6.2, draft-holmer-rmcat-transport-wide-cc-extensions-01)
PLI, FIR = 1, 4  # formats of PSFB (RFC 4585 section 6.3, RFC 5104 section 4.3.1)
RTCP_HEADER = 4  # bytes
FEEDBACK_HEADER = 12  # bytes of RTPFB and PSFB before their control information
SENDER_BYTES, BLOCK_BYTES = 20, 24  # sender info and one report block

RTCP = np.dtype(
    [
        ("packet_type", "u1"),
        ("count", "u1"),  # of report blocks or sources; the format of feedback
        ("at", "u4"),  # the packet's first byte
        ("end", "u4"),  # padding removed
        ("ssrc", "u4"),  # of the sender; 0: the packet is too short for one
        ("media_ssrc", "u4"),  # of the source that feedback is about (the first reported, in RR); 0: too short
    ],
    align=True,
)
SENDER_INFO = np.dtype([("ntp", "u8"), ("rtp", "u4"), ("packets", "u4"), ("octets", "u4")], align=True)
REPORT_BLOCK = np.dtype(
    [
        ("ssrc", "u4"),  # the source that is reported on
        ("fraction", "u1"),  # lost since the previous report, in 256ths
        ("lost", "i4"),  # in all; 24 bit signed
        ("highest", "u4"),  # sequence number, extended to 32 bits
        ("jitter", "u4"),  # in units of the RTP time stamp
        ("lsr", "u4"),  # middle 32 bits of the newest sender report's NTP time; 0: none came
        ("dlsr", "u4"),  # time since that, in 1/65536 s
    ],
    align=True,
)


@kernel
def is_rtcp(b: Bytes, at: int) -> bool:
    """Whether the packet at b[at], of two bytes at least, is RTCP and not RTP on the same port (RFC 5761 section 4)."""
    return 192 <= int64(b[at + 1]) <= 223


@kernel
def next_rtcp(b: Bytes, at: int, end: int, item: Any) -> int:
    """Fill an RTCP record from the packet at b[at] of the compound that ends at `end`.

    Returns where the next packet begins (`end` after the last), -1: none or a malformed one, and item says nothing.
    """
    if end - at < RTCP_HEADER:
        return -1
    head = int64(b[at])
    after = at + RTCP_HEADER + 4 * be16(b, at + 2)
    if head >> 6 != 2 or after > end:
        return -1
    last = int64(after)
    if head & 0x20:
        padding = int64(b[after - 1])
        last -= padding
        if padding == 0 or last < at + RTCP_HEADER:
            return -1
    item.packet_type = b[at + 1]
    item.count = head & 31
    item.at = at
    item.end = last
    item.ssrc = be32(b, at + 4) if at + 8 <= last else int64(0)
    item.media_ssrc = be32(b, at + 8) if at + 12 <= last else int64(0)
    return int64(after)


@kernel
def read_sender_info(b: Bytes, item: Any, out: Any) -> bool:
    """Fill SENDER_INFO from a sender report; False: it is none, or truncated."""
    at = int64(item.at) + 8
    if item.packet_type != SR or at + SENDER_BYTES > int64(item.end):
        return False
    out.ntp = np.uint64(be32(b, at)) << np.uint64(32) | np.uint64(be32(b, at + 4))
    out.rtp = be32(b, at + 8)
    out.packets = be32(b, at + 12)
    out.octets = be32(b, at + 16)
    return True


@kernel
def read_report_block(b: Bytes, item: Any, k: int, out: Any) -> bool:
    """Fill REPORT_BLOCK from block k of a sender or receiver report; False: there is no such block."""
    if item.packet_type != SR and item.packet_type != RR:
        return False
    at = int64(item.at) + 8 + BLOCK_BYTES * k
    if item.packet_type == SR:
        at += SENDER_BYTES
    if k < 0 or k >= item.count or at + BLOCK_BYTES > int64(item.end):
        return False
    out.ssrc = be32(b, at)
    out.fraction = b[at + 4]
    out.lost = (be24(b, at + 5) ^ 0x800000) - 0x800000
    out.highest = be32(b, at + 8)
    out.jitter = be32(b, at + 12)
    out.lsr = be32(b, at + 16)
    out.dlsr = be32(b, at + 20)
    return True


@kernel
def read_bye(b: Bytes, item: Any, k: int) -> int:
    """The k-th source that a BYE says has left; -1: there is no such source."""
    at = int64(item.at) + RTCP_HEADER + 4 * k
    if item.packet_type != BYE or k < 0 or k >= item.count or at + 4 > int64(item.end):
        return -1
    return be32(b, at)


@kernel
def read_nack(b: Bytes, item: Any, out: NDArray[np.uint16]) -> int:
    """Write the sequence numbers that a generic NACK asks for to `out` (u2), as many as fit; returns how many.

    They come as written, masks expanded; nothing is sorted or made unique. 0: not a NACK.
    """
    n = 0
    if item.packet_type != RTPFB or item.count != NACK:
        return 0
    for at in range(int64(item.at) + FEEDBACK_HEADER, int64(item.end) - 3, 4):
        first = be16(b, at)
        mask = be16(b, at + 2) << 1 | 1
        for k in range(17):
            if mask >> k & 1:
                if n == out.size:
                    return n
                out[n] = first + k & 0xFFFF
                n += 1
    return n


@kernel
def read_fir(b: Bytes, item: Any, k: int) -> int:
    """The source that entry k of a full intra request wants a keyframe of; -1: no such entry, or not a FIR."""
    at = int64(item.at) + FEEDBACK_HEADER + 8 * k
    if item.packet_type != PSFB or item.count != FIR or k < 0 or at + 8 > int64(item.end):
        return -1
    return be32(b, at)
