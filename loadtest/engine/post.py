"""Datagrams on their way out: written to a send slot, sealed there, and sent in batches of one client at a time.

A client whose network is impaired has each datagram judged by its `up` link: lost, or held until it is released.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.held import UP, held_at, hold
from loadtest.engine.layout import SECOND
from loadtest.engine.links import release_time
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.batch import MESSAGE, SLOT, VECTOR
from packetio.memory import copy_bytes, pointer_to
from packetio.native import clock_gettime, sendmmsg, srtp_protect_rtcp

MONOTONIC = 1
MESSAGE_SIZE, VECTOR_SIZE = MESSAGE.itemsize, VECTOR.itemsize
SCRATCH = 4096  # bytes of e.scratch: the first 2048 for an RTCP compound, the rest for lists
LISTS_AT = 2048
vector_at = pointer_to(VECTOR)
length_at = pointer_to(np.dtype([("value", "i4")]))


@kernel
def clock(e: Any) -> int:
    """CLOCK_MONOTONIC in ns, or the time that a test has set."""
    if e.fake_now:
        return int64(e.fake_now)
    clock_gettime(np.int32(MONOTONIC), e.words.ctypes.data)
    return int64(e.words[0] * SECOND + e.words[1])


@kernel
def slot_address(e: Any) -> int:
    """Where the next datagram is to be written: SLOT bytes."""
    return int64(e.out_buffer + e.filled * SLOT)


@kernel
def post(e: Any, c: Any, size: int) -> None:
    """Let the datagram in the next slot leave for client c: now with the batch, later, or never."""
    if c.up.active:
        release = release_time(c.up, e.now, size)
        if release < 0:
            return
        if release > e.now:
            e.held_lost += not hold(held_at(e.held), release, c.token, UP, slot_address(e), size, release)
            return
    queue(e, c, size)


@kernel
def queue(e: Any, c: Any, size: int) -> None:
    """Let the datagram in the next slot leave with the batch."""
    vector_at(e.out_vectors + e.filled * VECTOR_SIZE).size = size
    e.filled += 1
    if e.filled == e.out_count:
        flush(e, c)


@kernel
def flush(e: Any, c: Any) -> None:
    """Send the batch from client c's socket; what the kernel has no room for is lost, and counted."""
    done = 0
    while done < e.filled:
        n = sendmmsg(np.int32(c.fd), e.out_messages + done * MESSAGE_SIZE, np.uint32(e.filled - done), np.int32(0))
        if n <= 0:
            c.failures += 1
            done += 1
        else:
            done += n
            c.sent += n
            e.sent += n
    e.filled = 0


@kernel
def post_copy(e: Any, c: Any, address: int, size: int) -> None:
    """The same for a sealed datagram that lies elsewhere."""
    copy_bytes(slot_address(e), address, size)
    post(e, c, size)


@kernel
def post_rtcp(e: Any, c: Any, size: int) -> None:
    """Seal the compound of `size` bytes in e.scratch, and post it."""
    length = length_at(e.words.ctypes.data + 64)
    length.value = size
    if c.outbound and srtp_protect_rtcp(c.outbound, e.scratch, e.words.ctypes.data + 64) == 0:
        post_copy(e, c, e.scratch, int64(length.value))
