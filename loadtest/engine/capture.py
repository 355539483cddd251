"""Opened RTP packets on their way from the engine's thread to Python: what a sampled client decodes.

A ring with one producer (native) and one consumer (Python). The producer reserves an entry, fills it in place and
publishes it; a full ring drops the packet and counts it, and never makes the engine wait.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.log import load_acquire_py, store_release_py
from packetio.memory import Table, copy_bytes, load_acquire, pointer_to, store_release

PAYLOAD = 1500  # bytes of an RTP payload at most

CAPTURE = np.dtype(
    [
        ("head", "i8"),  # packets published; written by the producer
        ("pad0", "i8", (7,)),
        ("tail", "i8"),  # packets read; written by the consumer
        ("pad1", "i8", (7,)),
        ("slots", "i8"),  # entries, a power of two
        ("self", "i8"),  # address of this record, for the atomic words
        ("entries", "i8"),  # address of the first entry
        ("lost", "i8"),  # packets that found the ring full or exceed PAYLOAD
    ],
    align=True,
)
CAPTURED = np.dtype(
    [
        ("client", "i8"),  # its token: rows are used again
        ("stream", "i8"),
        ("sequence", "i8"),  # RTP sequence number, widened
        ("timestamp", "i8"),  # RTP time stamp
        ("codec", "i4"),  # constant of mediacodecs.frame
        ("marker", "i4"),
        ("keyframe", "i4"),  # 1: of a picture from which decoding can start
        ("start", "i4"),  # 1: first packet of a frame
        ("stamp", "i8"),  # ns: when it was received
        ("captured", "i8"),  # ns: the publisher's capture time; 0: not told
        ("length", "i8"),  # bytes of payload
        ("payload", "u1", (PAYLOAD,)),
    ],
    align=True,
)
assert CAPTURE.fields is not None and CAPTURED.fields is not None
TAIL, PAYLOAD_AT = CAPTURE.fields["tail"][1], CAPTURED.fields["payload"][1]
CAPTURED_SIZE = CAPTURED.itemsize
HEADER = struct.Struct("=4q4i3q")  # CAPTURED as far as the payload; ten times faster to read than the record
assert HEADER.size == PAYLOAD_AT
capture_at, captured_at = pointer_to(CAPTURE), pointer_to(CAPTURED)


@kernel
def reserve(c: Any) -> int:
    """Address of the next CAPTURED entry, for the producer to fill before `capture`; 0, and counted: the ring is full.

    An entry that isn't captured is handed out again by the next call.
    """
    if c.head - load_acquire(c.self + TAIL) >= c.slots:
        c.lost += 1
        return 0
    return int64(c.entries + (c.head & (c.slots - 1)) * CAPTURED_SIZE)


@kernel
def capture(c: Any, payload: int, size: int) -> bool:
    """Copy the `size` bytes at address `payload` into the reserved entry and publish it. False: too large, and lost."""
    if size > PAYLOAD or size < 0:
        c.lost += 1
        return False
    entry = int64(c.entries + (c.head & (c.slots - 1)) * CAPTURED_SIZE)
    captured_at(entry).length = size
    copy_bytes(entry + PAYLOAD_AT, payload, size)
    store_release(c.self, c.head + 1)
    return True


@dataclass(frozen=True, slots=True)
class CapturedPacket:
    """One opened RTP packet. Times are ns of CLOCK_MONOTONIC."""

    client: int  # token
    stream: int
    sequence: int  # widened
    timestamp: int
    codec: int  # constant of mediacodecs.frame
    marker: bool
    keyframe: bool
    start: bool
    stamp: int
    captured: int  # 0: not told
    payload: bytes


class CaptureRing:
    """Owns the memory of a ring of `slots` packets (a power of two) and is its consumer; `c` is its CAPTURE record."""

    def __init__(self, slots: int) -> None:
        if slots < 1 or slots & (slots - 1):
            raise ValueError(f"a capture ring has a power of two of slots, not {slots}")
        self.memory, self.entries = Table(CAPTURE, 1), Table(CAPTURED, slots)
        self.address, self.count = self.memory.address, slots
        self.c: Any = self.memory.rows[0]
        self.c.slots, self.c.self, self.c.entries = slots, self.address, self.entries.address
        self._bytes = memoryview(self.entries.raw.data)[self.entries.address - int(self.entries.raw.ctypes.data) :]
        self._tail = 0

    @property
    def lost(self) -> int:
        """Packets that were dropped so far."""
        return int(self.c.lost)

    def pop(self) -> CapturedPacket | None:
        """The oldest packet that hasn't been read; None: there is none."""
        if load_acquire_py(self.address) <= self._tail:
            return None
        at = (self._tail & (self.count - 1)) * CAPTURED_SIZE
        client, stream, sequence, timestamp, *rest = HEADER.unpack_from(self._bytes, at)
        codec, marker, keyframe, start, stamp, captured, length = rest
        payload = bytes(self._bytes[at + PAYLOAD_AT : at + PAYLOAD_AT + length])
        packet = CapturedPacket(
            client, stream, sequence, timestamp, codec,
            bool(marker), bool(keyframe), bool(start), stamp, captured, payload,
        )  # fmt: skip
        self._tail += 1
        store_release_py(self.address + TAIL, self._tail)
        return packet
