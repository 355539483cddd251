"""Writing RTCP: reports, CNAME, BYE, and feedback that asks for packets or keyframes.

Each writer puts one packet at b[at] and returns where it ends; the caller has made room for the bytes that it names.
Whoever sends puts several into one datagram, a report and SDES first unless reduced-size RTCP was agreed (RFC 5506).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mediacodecs.bits import put8, put16, put24, put32
from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import BYE, NACK, PLI, PSFB, RTPFB, SDES, SR

CNAME = 1  # type of an SDES item


@kernel
def write_head(b: Bytes, at: int, packet_type: int, count: int, end: int) -> int:
    """Write the common header of the packet b[at:end]; returns `end`."""
    put8(b, at, 0x80 | count)
    put8(b, at + 1, packet_type)
    put16(b, at + 2, (end - at >> 2) - 1)
    return int64(end)


@kernel
def write_sender_report(b: Bytes, at: int, ssrc: int, ntp: int, rtp: int, packets: int, octets: int) -> int:
    """A sender report without report blocks: 28 bytes. ntp: 32.32 fixed point seconds; counts are cut to 32 bits."""
    put32(b, at + 4, ssrc)
    put32(b, at + 8, ntp >> 32 & 0xFFFFFFFF)
    put32(b, at + 12, ntp & 0xFFFFFFFF)
    put32(b, at + 16, rtp)
    put32(b, at + 20, packets)
    put32(b, at + 24, octets)
    return write_head(b, at, SR, 0, at + 28)


@kernel
def write_report_block(b: Bytes, at: int, block: Any) -> None:
    """Write a REPORT_BLOCK: 24 bytes."""
    put32(b, at, int64(block.ssrc))
    put8(b, at + 4, int64(block.fraction))
    put24(b, at + 5, int64(block.lost))
    put32(b, at + 8, int64(block.highest))
    put32(b, at + 12, int64(block.jitter))
    put32(b, at + 16, int64(block.lsr))
    put32(b, at + 20, int64(block.dlsr))


@kernel
def write_sdes_cname(b: Bytes, at: int, ssrc: int, cname: Bytes, n: int) -> int:
    """Name the source: SDES with the first n (0 to 255) bytes of cname as CNAME. At most 14 + n bytes, at most 268."""
    put32(b, at + 4, ssrc)
    put8(b, at + 8, CNAME)
    put8(b, at + 9, n)
    for k in range(n):
        b[at + 10 + k] = cname[k]
    end = at + ((10 + n) // 4 + 1) * 4
    for k in range(at + 10 + n, end):
        b[k] = 0
    return write_head(b, at, SDES, 1, end)


@kernel
def write_bye(b: Bytes, at: int, ssrcs: Any, n: int) -> int:
    """The first n (0 to 31) sources of an array leave: 4 + 4 n bytes."""
    for k in range(n):
        put32(b, at + 4 + 4 * k, int64(ssrcs[k]))
    return write_head(b, at, BYE, n, at + 4 + 4 * n)


@kernel
def write_pli(b: Bytes, at: int, sender: int, media: int) -> int:
    """Picture loss indication (RFC 4585 section 6.3.1): 12 bytes."""
    put32(b, at + 4, sender)
    put32(b, at + 8, media)
    return write_head(b, at, PSFB, PLI, at + 12)


@kernel
def write_nack(b: Bytes, at: int, sender: int, media: int, lost: NDArray[np.int64], n: int) -> int:
    """Generic NACK (RFC 4585 section 6.2.1) for the first n (at least 1) numbers of `lost`: at most 12 + 4 n bytes.

    lost: i8, ascending and unwrapped, so that 65535 comes before 65536; the low 16 bits are sent.
    """
    put32(b, at + 4, sender)
    put32(b, at + 8, media)
    end = at + 12
    k = 0
    while k < n:
        first = int64(lost[k])
        mask = int64(0)
        k += 1
        while k < n and lost[k] - first <= 16:
            if lost[k] > first:
                mask |= int64(1) << lost[k] - first - 1
            k += 1
        put16(b, end, first)
        put16(b, end + 2, mask)
        end += 4
    return write_head(b, at, RTPFB, NACK, end)
