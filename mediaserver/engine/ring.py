"""Commands down, events up: one-way rings in shared memory between control and one worker.

One producer, one consumer, fixed slots; the producer publishes `head` with a release store, the consumer frees slots
by `tail`. Events that can be told again (`engine.news`) have half of the event ring, DTLS three quarters, so that
peers which connect always find room; DTLS that finds none is lost and counted. A full command ring makes the caller
wait for its turn. An eventfd on each side wakes a sleeper.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import (
    COMMAND,
    DTLS,
    EVENT,
    EVENT_PAYLOAD,
    ICE_CONNECTED,
    RING,
    event_at,
    ring_at,
)
from packetio.log import load_acquire_py, store_release_py
from packetio.memory import Table, copy_bytes, load_acquire, set_bits, store_release
from packetio.native import write_fd

RING_SIZE, EVENT_SIZE, COMMAND_SIZE = RING.itemsize, EVENT.itemsize, COMMAND.itemsize
TAIL = 64  # offset of RING.tail
assert RING.fields is not None and RING.fields["tail"][1] == TAIL and RING.fields["head"][1] == 0


@kernel
def taken(w: Any, head: int) -> bool:
    """Whether control has taken the event that ended at `head`, as `emit` said."""
    return bool(load_acquire(w.events + TAIL) >= head)


@kernel
def has_room(w: Any, op: int) -> bool:
    """Whether the ring has a slot for an event of this kind."""
    slots = w.event_slots
    if op == DTLS:
        slots -= slots >> 2
    elif op != ICE_CONNECTED:
        slots >>= 1
    return bool(ring_at(w.events).head - load_acquire(w.events + TAIL) < slots)


@kernel
def emit(w: Any, op: int, index: int, a: int, b: int, payload: int, size: int) -> int:
    """Send one event to control; `payload` is an address, `size` its bytes (at most EVENT_PAYLOAD).

    Returns where in the ring it ends, for `taken`; 0: lost.
    """
    ring = ring_at(w.events)
    if size > EVENT_PAYLOAD or not has_room(w, op):
        w.drop_event += 1
        ring.lost += 1
        return 0
    event = event_at(w.events + RING_SIZE + (ring.head & (w.event_slots - 1)) * EVENT_SIZE)
    event.op, event.index, event.a, event.b, event.length = op, index, a, b, size
    if size:
        copy_bytes(event.payload.ctypes.data, payload, size)
    store_release(w.events, ring.head + 1)
    wake(w, w.control_wake)
    return int64(ring.head)


@kernel
def wake(w: Any, fd: int) -> None:
    """Add one to an eventfd."""
    w.words[15] = 1
    write_fd(np.int32(fd), w.words.ctypes.data + 120, 8)


@kernel
def mark(news: int, feed: int) -> bool:
    """Set a feed's bit in a map of news; False: it was set, so its worker is awake and has yet to look."""
    bit = int64(1) << (feed & 63)
    return bool(set_bits(news + (feed >> 6) * 8, bit) & bit == 0)


class Ring:
    """Python's end of a ring: `push` commands, `pop` events."""

    def __init__(self, slot: np.dtype[Any], slots: int) -> None:
        if slots & (slots - 1):
            raise ValueError(f"a ring has a power of two of slots, not {slots}")
        self.memory = Table(np.dtype("u1"), RING_SIZE + slot.itemsize * slots)
        raw = self.memory.rows.view(np.ndarray)
        self.header = raw[:RING_SIZE].view(RING).view(np.recarray)[0]
        self.slots = raw[RING_SIZE:].view(slot).view(np.recarray)
        self.count, self.address = slots, self.memory.address
        self._head = self._tail = 0

    @property
    def produced(self) -> int:
        """How many slots the producer has filled since the ring was made."""
        return load_acquire_py(self.address)

    @property
    def taken(self) -> int:
        """How many of them Python has taken with `pop`."""
        return self._tail

    def push(self, *values: int) -> bool:
        """Add a command (op, index, a, b); False when the ring is full."""
        if self._head - load_acquire_py(self.address + TAIL) >= self.count:
            return False
        self.slots[self._head & (self.count - 1)] = values
        self._head += 1
        store_release_py(self.address, self._head)
        return True

    def pop(self) -> tuple[int, int, int, int, bytes] | None:
        """The next event (op, index, a, b, payload); None when there is none."""
        if load_acquire_py(self.address) <= self._tail:
            return None
        row = self.slots[self._tail & (self.count - 1)]
        event = (
            int(row["op"]), int(row["index"]), int(row["a"]), int(row["b"]),
            row["payload"][: int(row["length"])].tobytes(),
        )  # fmt: skip
        self._tail += 1
        store_release_py(self.address + TAIL, self._tail)
        return event


def drain_eventfd(fd: int) -> None:
    """Reset an eventfd after a wake-up."""
    try:
        os.read(fd, 8)
    except BlockingIOError:
        pass
