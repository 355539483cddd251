"""Hundreds of subscribers' sockets drained by one compiled loop on its own thread: counted, timed, and in part opened.

All packets are counted, with gaps by SSRC (RFC 3550 A.3). Until its first whole keyframe a subscriber's packets are
opened by libsrtp and their bodies compared with what was sent; those of `opened` subscribers always. Times are the
kernel's receive stamps, so a slow sink spoils no latency; `measure.socket_drops` tells what its own sockets dropped.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import numpy as np

from loadtest.media import WRONG, check_body, check_vp8, get_number, new_frame, payload_bounds
from loadtest.offers import OPUS_TYPE, VP8_TYPE
from loadtest.words import set_word
from mediacodecs.frame import FRAME, int64
from mediacodecs.kernel import kernel
from packetio.batch import CONTROL_BYTES, MESSAGE, SLOT, ReceiveSlots
from packetio.memory import Table, bytes_at, load_acquire, numbers_at, pointer_to
from packetio.native import clock_gettime, ppoll, recvmmsg, srtp_unprotect
from packetio.srtp import SrtpContexts

STREAMS = 4  # SSRCs that one subscriber may get
BUCKETS = 256  # of latency: 8 an octave from 1 µs
BUCKETS_AN_OCTAVE = 8
BATCH = 64
PAUSE = 500_000  # ns of sleep after a pass that found little
BUSY = 64  # packets of a pass after which the next one follows at once
RECEIVE_BUFFER = 1 << 20  # bytes per socket
MSG_DONTWAIT, SCM_TIMESTAMPNS, SOL_SOCKET = 0x40, 35, 1
REALTIME, MONOTONIC, SECOND = 0, 1, 1_000_000_000

STREAM = np.dtype([("ssrc", "i8"), ("lowest", "i8"), ("highest", "i8"), ("received", "i8")], align=True)
SUBSCRIBER = np.dtype(
    [
        ("fd", "i8"),  # 0: not in use
        ("inbound", "u8"),  # libsrtp context; 0: packets are counted only
        ("opened", "i8"),  # 1: every packet is opened and checked
        ("leaving", "i8"),  # 1: asked to stop, 2: stopped
        ("packets", "i8"),  # RTP, retransmissions included
        ("bytes", "i8"),  # of UDP payload in them
        ("rtcp", "i8"),
        ("stun", "i8"),
        ("other", "i8"),  # DTLS and whatever else
        ("excess", "i8"),  # packets of SSRCs beyond STREAMS
        ("checked", "i8"),  # opened and found intact
        ("refused", "i8"),  # libsrtp would not open them
        ("wrong", "i8"),  # opened, but not what was sent
        ("first_packet", "i8"),  # ns, CLOCK_MONOTONIC; 0: none yet
        ("first_frame", "i8"),  # ns: the first keyframe was whole
        ("key_ssrc", "i8"),  # the keyframe being gathered: its next sequence number is key_next
        ("key_next", "i8"),
        ("streams", STREAM, (STREAMS,)),
        ("latency", "i8", (BUCKETS,)),
        ("latency_max", "i8"),  # ns
    ],
    align=True,
)
SINK = np.dtype(
    [
        ("stop", "i8"),
        ("count", "i8"),  # rows in use, released by control
        ("rows", "i8"),
        ("messages", "i8"),
        ("buffer", "i8"),
        ("controls", "i8"),
        ("realtime", "i8"),  # ns that CLOCK_REALTIME is ahead of CLOCK_MONOTONIC
        ("passes", "i8"),
        ("frame", "i8"),
        ("stamp", "i8"),  # arrival of the packet at hand
        ("words", "i8", (8,)),
        ("timeout", "i8", (2,)),
    ],
    align=True,
)
assert SINK.fields is not None
STOP, COUNT = SINK.fields["stop"][1], SINK.fields["count"][1]
subscriber_at, sink_at, message_at = pointer_to(SUBSCRIBER), pointer_to(SINK), pointer_to(MESSAGE)
frame_at = pointer_to(np.dtype(FRAME))
length_at = pointer_to(np.dtype([("value", "i4")]))
SUBSCRIBER_SIZE, MESSAGE_SIZE = SUBSCRIBER.itemsize, MESSAGE.itemsize


@kernel
def bucket_of(ns: int) -> int:
    """The latency bucket of a duration."""
    if ns < 1000:
        return 0
    return min(int(np.log2(ns / 1000.0) * BUCKETS_AN_OCTAVE) + 1, BUCKETS - 1)


@kernel
def count_packet(sub: Any, ssrc: int, sequence: int) -> None:
    """Count one packet in its stream; the first SSRCs seen get the places."""
    for k in range(STREAMS):
        stream = sub.streams[k]
        if stream.received == 0:
            stream.ssrc, stream.lowest, stream.highest, stream.received = ssrc, sequence, sequence, 1
            return
        if stream.ssrc == ssrc:
            ahead = ((sequence - stream.highest + 0x8000) & 0xFFFF) - 0x8000
            if ahead > 0:
                stream.highest += ahead
            stream.received += 1
            return
    sub.excess += 1


@kernel
def follow_keyframe(s: Any, sub: Any, ssrc: int, sequence: int, begins: bool, marker: bool) -> None:
    """Note when the first keyframe is whole: its packets in order, from the start of the frame to the marker."""
    if begins:
        sub.key_ssrc, sub.key_next = ssrc, sequence
    if sub.key_ssrc != ssrc or sub.key_next != sequence:
        return
    sub.key_next = (sequence + 1) & 0xFFFF
    if marker:
        sub.first_frame = s.stamp


@kernel
def open_packet(s: Any, sub: Any, b: Any, size: int) -> None:
    """Let libsrtp open the packet and compare its body with what was sent."""
    length = length_at(s.words.ctypes.data)
    length.value = size
    if srtp_unprotect(sub.inbound, b.ctypes.data, s.words.ctypes.data) != 0:
        sub.refused += 1
        return
    kind = int64(b[1]) & 127
    if (kind != VP8_TYPE and kind != OPUS_TYPE) or not payload_bounds(b, int64(length.value), s.words):
        return
    at, end = s.words[0], s.words[1]
    frame = frame_at(s.frame)
    sent = check_body(b, at + 1, end) if kind == OPUS_TYPE else check_vp8(b, at, end, frame)
    if sent == WRONG:
        sub.wrong += 1
        return
    sub.checked += 1
    taken = max(s.stamp - sent, int64(0))
    sub.latency[bucket_of(taken)] += 1
    sub.latency_max = max(sub.latency_max, taken)
    if kind == VP8_TYPE and sub.first_frame == 0:
        begins = frame.keyframe == 1 and frame.start == 1
        follow_keyframe(s, sub, get_number(b, 8, 4), get_number(b, 2, 2), begins, b[1] >= 128)


@kernel
def take(s: Any, sub: Any, b: Any, size: int) -> None:
    """One datagram by its first byte (RFC 7983)."""
    first = int64(b[0])
    if size < 12 or first < 128 or first > 191:
        if first <= 3:
            sub.stun += 1
        else:
            sub.other += 1
        return
    if 192 <= b[1] <= 223:
        sub.rtcp += 1
        return
    sub.packets += 1
    sub.bytes += size
    count_packet(sub, get_number(b, 8, 4), get_number(b, 2, 2))
    if sub.first_packet == 0:
        sub.first_packet = s.stamp
    if sub.inbound and (sub.opened or sub.first_frame == 0):
        open_packet(s, sub, b, size)


@kernel
def stamp_of(s: Any, slot: int, control_size: int) -> int:
    """The kernel's receive stamp on CLOCK_MONOTONIC; 0: it gave none."""
    words = numbers_at(s.controls + slot * CONTROL_BYTES, 4)
    if control_size >= 32 and words[1] == SOL_SOCKET | SCM_TIMESTAMPNS << 32:
        return int64(words[2] * SECOND + words[3] - s.realtime)
    return 0


@kernel
def drain_one(s: Any, sub: Any) -> int:
    """Take what one socket has, a batch at most; returns the number of datagrams."""
    n = recvmmsg(np.int32(sub.fd), s.messages, np.uint32(BATCH), np.int32(MSG_DONTWAIT), 0)
    for slot in range(n):
        message = message_at(s.messages + slot * MESSAGE_SIZE)
        s.stamp = stamp_of(s, slot, int64(message.control_size))
        take(s, sub, bytes_at(s.buffer + slot * SLOT, SLOT), int64(message.size))
        message.control_size = CONTROL_BYTES
        message.flags = 0
    return int64(max(n, 0))


@kernel
def clock_of(s: Any, which: int) -> int:
    """Nanoseconds of a clock."""
    clock_gettime(np.int32(which), s.words.ctypes.data)
    return int64(s.words[0] * SECOND + s.words[1])


@kernel
def drain(address: int) -> None:
    """Go round all sockets until the `stop` word is set."""
    s = sink_at(address)
    while load_acquire(address + STOP) == 0:
        s.realtime = clock_of(s, REALTIME) - clock_of(s, MONOTONIC)
        taken = int64(0)
        for row in range(load_acquire(address + COUNT)):
            sub = subscriber_at(s.rows + row * SUBSCRIBER_SIZE)
            if sub.leaving == 1:
                sub.fd = 0
                sub.leaving = 2
            elif sub.fd:
                taken += drain_one(s, sub)
        s.passes += 1
        if taken < BUSY:
            s.timeout[0], s.timeout[1] = 0, PAUSE
            ppoll(0, 0, s.timeout.ctypes.data, 0)


def open_socket(host: str, receive_buffer: int = RECEIVE_BUFFER) -> socket.socket:
    """A non-blocking UDP socket on a port of the kernel's choice, with receive stamps."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, SCM_TIMESTAMPNS, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, 33, receive_buffer)  # SO_RCVBUFFORCE
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((host, 0))
    return sock


class Sink:
    """The rows and the thread. `capacity` rows are never given out twice."""

    def __init__(self, capacity: int) -> None:
        self.table = Table(SUBSCRIBER, capacity)
        self.rows = self.table.rows
        self.count = 0
        self._slots, self._frame, self._state = ReceiveSlots(BATCH), new_frame(), Table(SINK, 1)
        self._slots.messages.rows["name"], self._slots.messages.rows["name_size"] = 0, 0
        self._kept: dict[int, tuple[socket.socket, SrtpContexts | None]] = {}
        s = self._state.rows[0]
        s.rows, s.frame, s.messages = self.table.address, self._frame.address, self._slots.messages.address
        s.buffer, s.controls = self._slots.data.address, self._slots.controls.address
        self._thread = threading.Thread(target=drain, args=(self._state.address,), name="sink", daemon=True)

    def start(self) -> None:
        """Compile if need be, then drain."""
        set_word(self._state.address + STOP, 1)
        drain(self._state.address)
        set_word(self._state.address + STOP, 0)
        self._thread.start()

    def add(self, sock: socket.socket, contexts: SrtpContexts | None = None, opened: bool = False) -> int:
        """Hand a socket over to the loop; returns its row. IndexError when all rows were given out."""
        if self.count >= self.table.count:
            raise IndexError(f"the sink has {self.table.count} rows, all of them used")
        row = self.rows[self.count]
        row.inbound, row.opened, row.fd = contexts.inbound if contexts else 0, int(opened), sock.fileno()
        self._kept[self.count] = sock, contexts
        self.count += 1
        set_word(self._state.address + COUNT, self.count)
        return self.count - 1

    def remove(self, index: int) -> None:
        """Let the loop forget a row, then close its socket; the counts stay."""
        kept = self._kept.pop(index, None)
        if kept is None:
            return
        self.rows[index].leaving = 1
        while self._thread.is_alive() and self.rows[index].leaving != 2:
            threading.Event().wait(0.0005)
        self._close(kept)

    def stop(self) -> None:
        """End the loop and close all sockets."""
        set_word(self._state.address + STOP, 1)
        if self._thread.ident is not None:
            self._thread.join()
        for kept in self._kept.values():
            self._close(kept)
        self._kept.clear()

    def total(self, name: str) -> int:
        """The sum of a counter over all rows."""
        return int(self.rows[name][: self.count].sum())

    def gaps(self, start: int = 0) -> int:
        """Packets that are missing between the first and the newest of each stream, over rows from `start` on."""
        streams = self.rows["streams"][start : self.count]
        expected = np.where(streams["received"] > 0, streams["highest"] - streams["lowest"] + 1, 0)
        return int(np.maximum(expected - streams["received"], 0).sum())

    def ports(self) -> list[int]:
        """The local ports of the sockets being drained."""
        return [int(sock.getsockname()[1]) for sock, _ in self._kept.values()]

    def _close(self, kept: tuple[socket.socket, SrtpContexts | None]) -> None:
        kept[0].close()
        if kept[1]:
            kept[1].close()


def quantile(histogram: Any, q: float) -> float:
    """Microseconds below which the share `q` of a latency histogram lies: the upper edge of a bucket; nan if empty."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    bucket = int(np.searchsorted(np.cumsum(histogram), q * total))
    return float(2 ** (bucket / BUCKETS_AN_OCTAVE))
