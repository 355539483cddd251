"""The send queue: sealed bytes lie in the arena in order, one message a train, and leave by sendmmsg.

A message carries a packet-info control message when the socket is bound to a wildcard, so that replies leave from
the address that was asked, and UDP_SEGMENT when it holds more than one packet. A train that the kernel refuses is
sent again packet by packet, and GSO is given up for good when the socket can't do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import LATENCY_BUCKETS, RUN, SECOND
from packetio.batch import CONTROL, MESSAGE, SOL_UDP, UDP_SEGMENT, VECTOR
from packetio.memory import copy_bytes, numbers_at, pointer_to, write_fence
from packetio.native import clock_gettime, errno_location, sendmmsg

message_at, vector_at, control_at = pointer_to(MESSAGE), pointer_to(VECTOR), pointer_to(CONTROL)
errno_at = pointer_to(np.dtype([("value", "i4")]))
MESSAGE_SIZE, VECTOR_SIZE, CONTROLS = MESSAGE.itemsize, VECTOR.itemsize, 64
EIO, EINVAL, EMSGSIZE, EAGAIN = 5, 22, 90, 11
SEGMENT_CONTROL = 24
AMPLIFICATION = 3  # times what came from an address that has not shown that it gets what is sent there (RFC 9000 8.1)
STALL = 2 * SECOND  # ns between two readings of the clock, which are 10 ms apart, from which on the thread stood still


@kernel
def clock(w: Any) -> int:
    """ns, CLOCK_MONOTONIC."""
    clock_gettime(np.int32(1), w.words.ctypes.data + 96)
    return int64(w.words[12] * SECOND + w.words[13])


@kernel
def tell_time(w: Any) -> None:
    """Set w.now; when the thread stood still, w.awake_since before it, for whoever reads both from outside."""
    now = clock(w)
    if now - w.now > STALL:
        w.awake_since = now
        write_fence()
    w.now = now


@kernel
def may_send(t: Any, size: int) -> bool:
    """Whether the address that media goes to may get so many bytes; says that it starves when not."""
    if t.limited == 0 or AMPLIFICATION * t.came - t.gone - (t.gone_control - t.gone_before) >= size:
        return True
    t.starved = 1
    return False


@kernel
def queue_message(w: Any, t: Any, start: int, end: int, segment: int, arrival: int) -> None:
    """Queue arena[start:end] for a transport, cut every `segment` bytes. The caller has made room."""
    if t.limited and not may_send(t, end - start):
        w.drop_unproven += (end - start + segment - 1) // segment
        return
    k = w.queued
    vector = vector_at(w.out_vectors + k * VECTOR_SIZE)
    vector.base = w.arena + start
    vector.size = end - start
    message = message_at(w.out_messages + k * MESSAGE_SIZE)
    message.name = t.remote.ctypes.data
    message.name_size = t.remote_size
    control = w.out_controls + k * CONTROLS
    size = t.packet_info_size
    if size:
        copy_bytes(control, t.packet_info.ctypes.data, size)
    count = 1
    if end - start > segment:
        row = control_at(control + size)
        row.size, row.level, row.type, row.value = 18, SOL_UDP, UDP_SEGMENT, segment
        size += SEGMENT_CONTROL
        count = (end - start + segment - 1) // segment
    message.control = control
    message.control_size = size
    numbers_at(w.out_segments, w.out_count)[k] = count
    numbers_at(w.out_arrivals, w.out_count)[k] = arrival
    w.queued = k + 1
    w.queued_bytes = end
    w.trains += 1
    t.packets_out += count
    t.bytes_out += end - start
    t.gone += end - start


@kernel
def flush(w: Any) -> None:
    """Hand everything queued to the kernel and note how long the packets were in the node."""
    done = 0
    while done < w.queued:
        sent = sendmmsg(np.int32(w.fd), w.out_messages + done * MESSAGE_SIZE, np.uint32(w.queued - done), np.int32(0))
        w.sends += 1
        if sent > 0:
            done += sent
        else:
            refused(w, done, errno_at(errno_location()).value)
            done += 1
    if w.queued:
        note_latency(w)
    w.queued = 0
    w.queued_bytes = 0


@kernel
def refused(w: Any, k: int, error: int) -> None:
    """One message was not taken: retry a train packet by packet, else drop it."""
    count = numbers_at(w.out_segments, w.out_count)[k]
    if count <= 1 or error == EAGAIN:
        w.drop_send += count
        return
    w.gso_refused += 1
    message = message_at(w.out_messages + k * MESSAGE_SIZE)
    vector = vector_at(w.out_vectors + k * VECTOR_SIZE)
    base, total = int64(vector.base), int64(vector.size)
    segment = int64(control_at(int64(message.control + message.control_size) - SEGMENT_CONTROL).value)
    message.control_size -= np.uint64(SEGMENT_CONTROL)
    at = taken = int64(0)
    while at < total:
        vector.base = base + at
        vector.size = min(segment, total - at)
        if sendmmsg(np.int32(w.fd), w.out_messages + k * MESSAGE_SIZE, np.uint32(1), np.int32(0)) != 1:
            w.drop_send += 1
        else:
            taken += 1
        at += segment
    if error == EIO or (error == EINVAL and taken == count):  # else it is this way's MTU, not the socket
        w.gso = 0


@kernel
def note_latency(w: Any) -> None:
    """Add the forward latency of what was just sent to the histogram: receive time stamp to return of sendmmsg."""
    now = clock(w)
    counts, arrivals = numbers_at(w.out_segments, w.out_count), numbers_at(w.out_arrivals, w.out_count)
    for k in range(w.queued):
        if arrivals[k] == 0:
            continue
        spent = max(now - arrivals[k], int64(0))
        w.latency[latency_bucket(spent)] += counts[k]
        w.latency_sum += spent * counts[k]
        if spent > w.latency_max:
            w.latency_max = spent


@kernel
def latency_bucket(spent: int) -> int:
    """Half octaves from 1 µs: bucket 2k holds up to 1.41 · 2^k µs, bucket 2k + 1 up to 2 · 2^k µs."""
    octave = 0
    x = spent // 1000
    while x > 1:
        x >>= 1
        octave += 1
    half = spent > (1414 << octave)
    return min(int64(2 * octave + half), int64(LATENCY_BUCKETS - 1))


@kernel
def make_room(w: Any, size: int) -> None:
    """Flush when the queue can't take `size` bytes or the messages of one more run."""
    if w.queued + RUN >= w.out_count or w.queued_bytes + size > w.out_size:
        flush(w)


@kernel
def send_single(w: Any, t: Any, address: int, size: int) -> None:
    """Copy one datagram that is ready to leave into the queue (RTCP, STUN)."""
    if t.remote_size == 0:
        return
    make_room(w, size)
    start = w.queued_bytes
    copy_bytes(w.arena + start, address, size)
    queue_message(w, t, start, start + size, size, 0)
