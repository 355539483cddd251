"""Datagrams that wait for their release: what a link delays is kept here, in a bounded heap ordered by time.

The heap is a table of rows (release ns, order number, slot); equal times leave in the order they came. The rows from
`count` to `idle` are taken out and in use, those beyond are free: together they always name every slot once. A slot
keeps its bytes from `take` until `give_back`, so that a packet can be handled while others are held.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.memory import Table, copy_bytes, numbers_at, pointer_to

DOWN, UP = 0, 1  # direction: received and to be delivered; sealed and to be sent
SLOT_BYTES = 2048

HELD = np.dtype(
    [
        ("capacity", "i8"),  # slots
        ("count", "i8"),  # datagrams that wait
        ("taken", "i8"),  # datagrams that were taken out and not given back
        ("order", "i8"),  # datagrams ever held
        ("heap", "i8"),  # address of `capacity` rows of ROW numbers
        ("details", "i8"),  # address of a DETAIL for each slot
        ("arena", "i8"),  # address of SLOT_BYTES for each slot
    ],
    align=True,
)
DETAIL = np.dtype(
    [
        ("client", "i8"),  # its token
        ("direction", "i8"),  # DOWN or UP
        ("length", "i8"),  # bytes of the datagram
        ("stamp", "i8"),  # ns: DOWN: when it arrives, for what is measured; UP: the caller's
    ],
    align=True,
)
ROW = 3  # numbers of a heap row: release, order, slot
DETAIL_SIZE = DETAIL.itemsize
held_at, detail_at = pointer_to(HELD), pointer_to(DETAIL)
NEVER = (1 << 63) - 1


@kernel
def detail_of(h: Any, slot: int) -> Any:
    """The DETAIL record of a slot."""
    return detail_at(h.details + slot * DETAIL_SIZE)


@kernel
def slot_address(h: Any, slot: int) -> int:
    """Where the bytes of a slot begin."""
    return int64(h.arena + slot * SLOT_BYTES)


@kernel
def is_before(rows: Any, a: int, b: int) -> bool:
    """Whether the heap's row a leaves before its row b."""
    if rows[ROW * a] != rows[ROW * b]:
        return bool(rows[ROW * a] < rows[ROW * b])
    return bool(rows[ROW * a + 1] < rows[ROW * b + 1])


@kernel
def swap_rows(rows: Any, a: int, b: int) -> None:
    """Exchange two rows of the heap."""
    for k in range(ROW):
        kept = rows[ROW * a + k]
        rows[ROW * a + k] = rows[ROW * b + k]
        rows[ROW * b + k] = kept


@kernel
def sift_up(rows: Any, at: int) -> None:
    """Let a row rise to its place."""
    while at > 0:
        parent = (at - 1) >> 1
        if not is_before(rows, at, parent):
            return
        swap_rows(rows, at, parent)
        at = parent


@kernel
def sift_down(rows: Any, at: int, count: int) -> None:
    """Let a row sink to its place among the first `count`."""
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and is_before(rows, child + 1, child):
            child += 1
        if not is_before(rows, child, at):
            return
        swap_rows(rows, at, child)
        at = child


@kernel
def hold(h: Any, release: int, client: int, direction: int, source: int, size: int, stamp: int) -> bool:
    """Keep the `size` bytes at address `source` until `release`. False: there is no room."""
    idle = h.count + h.taken
    if idle >= h.capacity or size > SLOT_BYTES or size < 0:
        return False
    rows = numbers_at(h.heap, ROW * h.capacity)
    if h.taken:
        swap_rows(rows, h.count, idle)
    at = int64(h.count)
    slot = int64(rows[ROW * at + 2])
    rows[ROW * at] = release
    rows[ROW * at + 1] = h.order
    detail = detail_of(h, slot)
    detail.client, detail.direction, detail.length = client, direction, size
    detail.stamp = stamp
    copy_bytes(slot_address(h, slot), source, size)
    h.order += 1
    h.count += 1
    sift_up(rows, at)
    return True


@kernel
def next_release(h: Any) -> int:
    """When the first datagram is due, in ns; NEVER: none waits."""
    if h.count == 0:
        return NEVER
    return int64(numbers_at(h.heap, ROW)[0])


@kernel
def due(h: Any, now: int) -> int:
    """The slot of the first datagram if it is due at `now`, else -1. It still waits: `take` takes it out."""
    if h.count == 0:
        return -1
    rows = numbers_at(h.heap, ROW)
    return int64(rows[2]) if rows[0] <= now else -1


@kernel
def take(h: Any) -> int:
    """Take out the first datagram and return its slot, which is the caller's until `give_back`; -1: none waits."""
    if h.count == 0:
        return -1
    rows = numbers_at(h.heap, ROW * h.capacity)
    last = h.count - 1
    swap_rows(rows, 0, last)
    h.count = last
    h.taken += 1
    sift_down(rows, 0, last)
    return int64(rows[ROW * last + 2])


@kernel
def give_back(h: Any, slot: int) -> None:
    """Make a slot free that was taken out; any other is left alone."""
    rows = numbers_at(h.heap, ROW * h.capacity)
    last = h.count + h.taken - 1
    for at in range(h.count, h.count + h.taken):
        if rows[ROW * at + 2] == slot:
            swap_rows(rows, at, last)
            h.taken -= 1
            return


class HeldPackets:
    """Owns the memory of one delay queue of `capacity` datagrams; `h` is its HELD record, for the kernels."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a delay queue holds at least one datagram, not {capacity}")
        self.memory = Table(HELD, 1)
        self.heap = Table(np.dtype("i8"), ROW * capacity)
        self.details = Table(DETAIL, capacity)
        self.arena = Table(np.dtype("u1"), SLOT_BYTES * capacity)
        self.heap.rows[2::ROW] = np.arange(capacity)
        self.h: Any = self.memory.rows[0]
        self.h.capacity, self.h.heap = capacity, self.heap.address
        self.h.details, self.h.arena = self.details.address, self.arena.address
        self.address = self.memory.address

    def __len__(self) -> int:
        return int(self.h.count)

    def payload(self, slot: int) -> bytes:
        """The datagram in a slot."""
        start = slot * SLOT_BYTES
        return self.arena.rows[start : start + int(self.details.rows[slot].length)].tobytes()
