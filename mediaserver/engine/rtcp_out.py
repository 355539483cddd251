"""RTCP on its way out: a compound packet is built in the worker's scratch memory, sealed there and queued.

Feedback goes out alone where reduced-size RTCP was agreed (RFC 5506), else behind an empty receiver report and a CNAME
(RFC 3550 section 6.1). Whoever builds a packet sends it before anything else can use the scratch memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import RR
from mediacodecs.rtcp_write import write_bye, write_head, write_sdes_cname
from mediaserver.engine.access import subscription_of, transport_of
from mediaserver.engine.layout import NO_TYPE
from mediaserver.engine.send import send_single
from packetio.memory import bytes_at, numbers_at, pointer_to
from packetio.native import srtp_protect_rtcp

length_at = pointer_to(np.dtype([("value", "i4")]))
LENGTH_AT = 64  # offset in w.words of the length that libsrtp changes
ROOM = 2048  # bytes of the scratch memory for one compound and what sealing adds
LISTS_AT, NAME_AT = 2048, 4032  # offsets in the scratch memory: lists of numbers, our CNAME
MAX_BYES = 31  # sources that one BYE can name
PREFIX = np.frombuffer(b"weir-", np.uint8).copy()
NAME_SIZE = 13  # the prefix and 8 hexadecimal digits


@kernel
def write_own_name(w: Any, t: Any, at: int) -> int:
    """SDES with the node's CNAME towards this peer; returns its end."""
    name = bytes_at(w.scratch + NAME_AT, NAME_SIZE)
    for k in range(PREFIX.size):
        name[k] = PREFIX[k]
    for k in range(8):
        digit = (t.rtcp_ssrc >> (28 - 4 * k)) & 15
        name[PREFIX.size + k] = digit + (48 if digit < 10 else 87)
    return write_sdes_cname(bytes_at(w.scratch, ROOM), at, t.rtcp_ssrc, name, NAME_SIZE)


@kernel
def begin_compound(w: Any, t: Any, whole: int) -> int:
    """Begin a compound from our feedback SSRC; returns where the next packet goes.

    An empty receiver report and the CNAME come first if `whole`, or when the peer did not agree to reduced size.
    """
    if t.reduced_size and not whole:
        return 0
    b = bytes_at(w.scratch, ROOM)
    put32(b, 4, t.rtcp_ssrc)
    return write_own_name(w, t, write_head(b, 0, RR, 0, 8))


@kernel
def send_rtcp(w: Any, t: Any, size: int) -> bool:
    """Seal and queue the compound of `size` bytes in the scratch memory; False: it could not be sealed."""
    words = w.words.ctypes.data + LENGTH_AT
    length = length_at(words)
    length.value = size
    if t.secured == 0 or srtp_protect_rtcp(t.outbound, w.scratch, words) != 0:
        return False
    send_single(w, t, w.scratch, int64(length.value))
    return True


@kernel
def goodbye(w: Any, transport_index: int) -> None:
    """BYE for every SSRC that we use towards a peer (RFC 3550 section 6.6)."""
    t = transport_of(w, transport_index)
    sources = numbers_at(w.scratch + LISTS_AT, MAX_BYES)
    sources[0] = t.rtcp_ssrc
    n = 1
    index = int64(t.first_subscription)
    while index:
        sub = subscription_of(w, index)
        if n + 2 > MAX_BYES:
            send_goodbye(w, t, sources, n)
            n = 0
        if sub.packets:
            sources[n] = sub.ssrc
            n += 1
            if sub.rtx_type != NO_TYPE:
                sources[n] = sub.rtx_ssrc
                n += 1
        index = int64(sub.next)
    if n:
        send_goodbye(w, t, sources, n)


@kernel
def send_goodbye(w: Any, t: Any, sources: Any, n: int) -> None:
    """One compound that ends the first n sources."""
    at = begin_compound(w, t, 1)
    send_rtcp(w, t, write_bye(bytes_at(w.scratch, ROOM), at, sources, n))
