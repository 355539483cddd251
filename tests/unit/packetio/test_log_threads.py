"""A log written and read at the same time, by threads that run compiled code: nothing torn is ever accepted.

Every byte of a packet tells its position (and its log's generation), so a mixture of two is seen. The ring is small and
readers prefer its end, where the writer overtakes them. Bounded by packets; readers go on until the writer is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.log import (
    ENTRY,
    JOURNAL_HEAD,
    PacketLog,
    append,
    bytes_address,
    entry_address,
    entry_at,
    held,
    holds,
    journal_address,
    log_size,
)
from packetio.memory import Region, Table, bytes_at, copy_bytes, load_acquire, numbers_at, pointer_to, store_release

PACKETS, CAPACITY = 64, 1 << 15
FIRST = 1 << 17
WRITTEN = 500_000
LIVES, LIFE = 400, 3000  # logs made in one place, one after the other, and packets in each
READERS = 2
WHOLE, REFUSED, OVERTAKEN, TORN = range(4)  # what a reader counts
draft_at = pointer_to(ENTRY)


@kernel
def size_of(position: int) -> int:
    """Bytes of the packet at a position: 200 to 1699, as if at random."""
    return 200 + (position * 7919) % 1500


@kernel
def write(base: int, draft: int, source: int, first: int, count: int, salt: int) -> None:
    """Append `count` packets whose bytes are their positions' lowest with a salt, and whose arrivals are positions."""
    d = draft_at(draft)
    b = bytes_at(source, 2048)
    for position in range(first, first + count):
        size = size_of(position)
        for k in range(size):
            b[k] = (position + salt) & 255
        d.length, d.arrival, d.payload_at = size, position, 12
        append(base, position, d, source)


@kernel
def check(base: int, position: int, buffer: int, salt: int) -> bool:
    """Copy a packet out, and tell whether it is whole."""
    entry = entry_at(entry_address(base, position))
    size, arrival = min(int64(entry.length), 2000), int64(entry.arrival)
    copy_bytes(buffer, bytes_address(base, entry.at), size)
    b = bytes_at(buffer, 2048)
    for k in range(size):
        if b[k] != (position + salt) & 255:
            return False
    return size == size_of(position) and arrival == position


@kernel
def read(base: int, buffer: int, words: int, seed: int, out: int) -> None:
    """Read packets from the end of the ring until words[0] says that the writer is done, and some after that."""
    counts = numbers_at(out, 8)
    store_release(words + 8 + 8 * (seed & 7), 1)
    more = 1000
    while more > 0:
        more -= load_acquire(words)
        head = load_acquire(base + JOURNAL_HEAD)
        if head < PACKETS:
            continue
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        position = numbers_at(journal_address(base, head - 1 - (seed >> 8) % PACKETS), 1)[0]
        if not holds(base, position):
            counts[REFUSED] += 1
            continue
        whole = check(base, position, buffer, 0)
        if not holds(base, position):
            counts[OVERTAKEN] += 1
        elif whole:
            counts[WHOLE] += 1
        else:
            counts[TORN] += 1


@kernel
def read_lives(base: int, buffer: int, words: int, seed: int, out: int) -> None:
    """The same for a place that is used again: words[7] is the generation that the reader attached to, and the salt."""
    counts = numbers_at(out, 8)
    store_release(words + 8 + 8 * (seed & 7), 1)
    while load_acquire(words) == 0:
        generation = load_acquire(words + 56)
        for _ in range(200):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            position = FIRST + load_acquire(base + JOURNAL_HEAD) - 1 - (seed >> 8) % PACKETS
            if not held(base, PACKETS, CAPACITY, generation, position):
                counts[REFUSED] += 1
                continue
            whole = check(base, position, buffer, generation)
            if not held(base, PACKETS, CAPACITY, generation, position):
                counts[OVERTAKEN] += 1
            elif whole:
                counts[WHOLE] += 1
            else:
                counts[TORN] += 1


class Bench:
    """A log, a writer's memory, and readers in threads that count what they saw."""

    def __init__(self) -> None:
        self.region = Region(log_size(PACKETS, CAPACITY))
        self.log = PacketLog.create(self.region, 0, PACKETS, CAPACITY)
        self.draft, self.source = Table(ENTRY, 1), Table(np.dtype("u1"), 2048)
        self.words = Table(np.dtype("i8"), 8)
        self.buffers = [Table(np.dtype("u1"), 2048) for _ in range(READERS)]
        self.counts = [Table(np.dtype("i8"), 8) for _ in range(READERS)]

    def write(self, count: int, first: int = FIRST, salt: int = 0) -> None:
        write(self.log.base, self.draft.address, self.source.address, first, count, salt)

    def run(self, reader: Callable[..., Any], work: Callable[[], None]) -> list[int]:
        """Do `work` while the readers read; what they counted in sum."""
        readers = [
            threading.Thread(target=reader, args=(self.log.base, buffer.address, self.words.address, k, out.address))
            for k, (buffer, out) in enumerate(zip(self.buffers, self.counts, strict=True))
        ]
        for thread in readers:
            thread.start()
        while not all(self.words.rows[1 : 1 + READERS]):
            time.sleep(0.001)  # compiling, which needs the interpreter too: they say when they read
        work()
        self.words.rows[0] = 1
        for thread in readers:
            thread.join()
        return [sum(int(out.rows[k]) for out in self.counts) for k in range(4)]


def test_packets_that_readers_accept_while_the_writer_overtakes_them_are_whole() -> None:
    bench = Bench()
    counts = bench.run(read, lambda: bench.write(WRITTEN))
    assert counts[TORN] == 0
    assert counts[WHOLE] > 100 and int(bench.log.header.received_packets) == WRITTEN


def test_readers_accept_nothing_of_another_life_of_the_place() -> None:
    bench = Bench()
    bench.words.rows[7] = bench.log.generation

    def live_again() -> None:
        for _ in range(LIVES):
            bench.log.free()
            bench.log = PacketLog.create(bench.region, 0, PACKETS, CAPACITY)
            bench.words.rows[7] = bench.log.generation
            bench.write(LIFE, salt=bench.log.generation)

    counts = bench.run(read_lives, live_again)
    assert counts[TORN] == 0 and counts[REFUSED] > 0
