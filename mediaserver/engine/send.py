"""The send queue: sealed bytes lie in the arena in order, one message a train, and leave by sendmmsg.

A message carries a packet-info control message when the socket is bound to a wildcard, so that replies leave from
the address that was asked, and UDP_SEGMENT when it holds more than one packet. A train that the kernel will not cut is
sent again packet by packet, and so is all else on that way for a while: it may be one peer's route that can't, so
nothing is concluded for others.

A socket whose buffer is full (a keyframe to hundreds of viewers is larger than any) is waited for, here, in the middle
of the work, within a bound. Going back to the loop with the queue unsent, to receive meanwhile, would lose more: the
queue is full in the middle of a fan-out, so the rest of that would be lost, or its place kept while commands change the
lists. What comes meanwhile lies in the kernel's receive buffer, which holds a second of it. What finds no room within
the bound is dropped and counted, so that a line that stands still costs the worker at most half of its time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import LATENCY_BUCKETS, MS, RUN, SECOND, TRANSPORT, transport_at
from packetio.batch import CONTROL, MESSAGE, SOL_UDP, UDP_SEGMENT, VECTOR
from packetio.memory import copy_bytes, numbers_at, pointer_to, write_fence
from packetio.native import clock_gettime, errno_location, ppoll, sendmmsg

message_at, vector_at, control_at = pointer_to(MESSAGE), pointer_to(VECTOR), pointer_to(CONTROL)
errno_at = pointer_to(np.dtype([("value", "i4")]))
poll_at = pointer_to(np.dtype([("fd", "i4"), ("events", "i2"), ("revents", "i2")]))
MESSAGE_SIZE, VECTOR_SIZE, CONTROLS = MESSAGE.itemsize, VECTOR.itemsize, 64
EINTR, EIO, EAGAIN, ENOMEM, EINVAL, EMSGSIZE, EOPNOTSUPP, ENOBUFS = 4, 5, 11, 12, 22, 90, 95, 105
SEGMENT_CONTROL = 24
REMOTE_AT = TRANSPORT.fields["remote"][1] if TRANSPORT.fields else 0
POLLOUT = 4
SLICE = 5 * MS  # ns: one wait for POLLOUT, which comes when half of the socket's buffer is free
PAUSE = 1 * MS  # ns: one wait for memory, which nothing tells of
SEND_WAIT = 20 * MS  # ns in one flush (WORKER.send_wait): a line of 200 Mbit/s takes a whole queue in that time
PATIENCE_FLUSHES = 10  # that many flushes' waits in a row; it grows back with half of the time that passes
SINGLY = 10 * SECOND  # ns until a train is tried again on a way on which one was refused: one system call
MICROSECOND = int64(1000)
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
    w.flush_left = w.send_wait
    done = int64(0)
    while done < w.queued:
        taken = offer(w, done, w.queued - done)
        done += taken if taken > 0 else refused(w, done, -taken)
    if w.queued:
        note_latency(w)
    w.queued = 0
    w.queued_bytes = 0


@kernel
def offer(w: Any, first: int, count: int) -> int:
    """Give the kernel `count` messages, waiting for room; returns how many it took, or minus the error of the first."""
    while True:
        sent = sendmmsg(np.int32(w.fd), w.out_messages + first * MESSAGE_SIZE, np.uint32(count), np.int32(0))
        w.sends += 1
        if sent > 0:
            return int64(sent)
        error = int64(errno_at(errno_location()).value)
        if not passing(error) or not await_room(w, error):
            return -error


@kernel
def passing(error: int) -> bool:
    """Whether an error is over when there is room or memory again."""
    return error == EAGAIN or error == ENOBUFS or error == ENOMEM or error == EINTR


@kernel
def await_room(w: Any, error: int) -> bool:
    """Wait until the socket takes more, a few ms at most; False: all the waiting that is allowed is done."""
    w.patience = min(w.patience + max(w.now - w.patience_at, int64(0)) // 2, PATIENCE_FLUSHES * w.send_wait)
    w.patience_at = w.now
    left = min(w.flush_left, w.patience, SLICE if error == EAGAIN else PAUSE)
    if left <= 0:
        return False
    before = clock(w)
    w.timeout[0], w.timeout[1] = 0, left
    socket = poll_at(w.poll.ctypes.data)
    socket.fd, socket.events, socket.revents = w.fd, POLLOUT, 0
    ppoll(w.poll.ctypes.data, 1 if error == EAGAIN else 0, w.timeout.ctypes.data, 0)  # without memory it has room
    spent = max(clock(w) - before, MICROSECOND)
    if spent > STALL:  # the thread stood still, which is for `tell_time` to see: that was no wait, and no time of peers
        spent = left
    w.flush_left -= spent
    w.patience -= spent
    w.now += spent
    w.send_waits += 1
    w.send_waited += spent
    return True


@kernel
def refused(w: Any, k: int, error: int) -> int:
    """Message k was not taken: drop it, or send it packet by packet if it is a train; returns how many that settles."""
    if passing(error):  # waited for in vain: what follows would find no room either
        for message in range(k, w.queued):
            drop(w, message)
        return int64(w.queued - k)
    cutting = error == EINVAL or error == EIO or error == EMSGSIZE or error == EOPNOTSUPP
    if cutting and numbers_at(w.out_segments, w.out_count)[k] > 1:
        send_apart(w, k)
    else:
        drop(w, k)
    return 1


@kernel
def drop(w: Any, k: int) -> None:
    """Give a message up."""
    w.drop_send += numbers_at(w.out_segments, w.out_count)[k]
    numbers_at(w.out_arrivals, w.out_count)[k] = 0


@kernel
def send_apart(w: Any, k: int) -> None:
    """Send a train packet by packet. What is wrong with one of them is wrong with the others, and only on this way."""
    w.gso_refused += 1
    message = message_at(w.out_messages + k * MESSAGE_SIZE)
    vector = vector_at(w.out_vectors + k * VECTOR_SIZE)
    base, total = int64(vector.base), int64(vector.size)
    segment = int64(control_at(int64(message.control + message.control_size) - SEGMENT_CONTROL).value)
    message.control_size -= np.uint64(SEGMENT_CONTROL)
    at = int64(0)
    while at < total:
        vector.base = base + at
        vector.size = min(segment, total - at)
        if offer(w, k, 1) != 1:
            break
        at += segment
    if at > 0:  # it was the cutting: had the packets been too large for the way, none would have passed
        transport_at(int64(message.name) - REMOTE_AT).singly_until = w.now + SINGLY
    lost = (max(total - at, int64(0)) + segment - 1) // segment
    w.drop_send += lost
    numbers_at(w.out_segments, w.out_count)[k] -= lost


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
