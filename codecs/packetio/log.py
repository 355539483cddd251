"""The packet log: one published layer, written once by its worker, read by any number of cursors.

A ring in shared memory. An entry is found by its position (the RTP sequence number widened to 64 bits, one numbering
across epochs), its bytes lie in a byte ring behind. Two orders are kept: the arrival journal, which cursors at the live
edge read, and the sequence order of the positions, which delayed cursors read. There is one writer. Readers, also in
other threads and processes, may be overtaken when the ring wraps: they copy, then ask `holds` again before they use it.

A log's place may be freed and used again under a late reader. Each log made in it has another generation, 0 means free;
the three words that say how large it is outlive it, so that a late reader divides by nothing that is zero and stays
within the region. Readers that may outlive a log take its generation and size once and ask `held` instead of `holds`.

    region:  LOG header (one page) | ENTRY × packets | journal: i8 × packets | bytes
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.memory import (
    PAGE,
    Region,
    copy_bytes,
    load_acquire,
    numbers_at,
    pointer_to,
    read_fence,
    store_release,
    write_fence,
)

MAGIC = 0x57454952_4C4F4703  # "WEIRLOG", version 3
KEYFRAMES = 16  # keyframe positions that a log remembers
PARAMETERS = 768  # bytes kept of a codec's parameter sets (H.264 SPS and PPS as one payload)
MAX_PACKET = 2048 - 64  # bytes of an RTP packet that a log takes; larger ones are dropped and counted
NO_LEVEL = 255  # audio_level of a packet that carries none

# ENTRY.marks; a field must not bear the name of an attribute of numpy records (flags, size, data …)
KEYFRAME, START, END, SWITCH_UP, DISCARDABLE, INTER_LAYER, MARKER, PADDING_ONLY, REPAIRED, BARE_KEYFRAME = (
    1 << n for n in range(10)
)

ENTRY = np.dtype(
    [
        ("position", "i8"),  # this entry's own position; -1 while it is written: readers check it
        ("at", "i8"),  # where its bytes begin, counted since the log began (never wraps)
        ("arrival", "i8"),  # ns, CLOCK_MONOTONIC, from the kernel's receive time stamp
        ("timestamp", "u4"),  # RTP time stamp
        ("marks", "u2"),  # the bits above
        ("length", "u2"),  # bytes of the whole RTP packet as it came, decrypted, padding removed
        ("payload_at", "u2"),  # offset of the payload within the packet
        ("epoch", "u2"),  # counts SSRC changes and sequence resets of the publisher
        ("picture_id", "i2"),  # -1: none
        ("tl0", "i2"),  # -1: none
        ("picture_id_at", "u1"),  # offset within the payload
        ("tl0_at", "u1"),
        ("picture_id_bits", "u1"),
        ("spatial", "u1"),
        ("temporal", "u1"),
        ("payload_type", "u1"),
        ("audio_level", "u1"),  # RFC 6464 byte with the voice bit; NO_LEVEL: none
        ("orientation", "u1"),  # urn:3gpp:video-orientation byte; 255: none
        ("descriptor_at", "u2"),  # dependency descriptor within the packet; size 0: none
        ("capture_at", "u2"),  # abs-capture-time within the packet; size 0: none
        ("descriptor_size", "u1"),
        ("capture_size", "u1"),
        ("opening", "u1"),  # of a keyframe's first packet: so many positions before it its parameter sets begin
        ("spare", "u1", (9,)),  # makes an entry one cache line
    ],
    align=True,
)

LOG = np.dtype(
    [
        ("magic", "u8"),
        ("packets", "i8"),  # entries in the index ring, a power of two
        ("capacity", "i8"),  # bytes of the byte ring
        ("generation", "i8"),  # another one for each log that was ever here; 0: free. Written last and cleared first
        ("journal_head", "i8"),  # packets appended so far; the writer's release store publishes them
        ("write_end", "i8"),  # bytes reserved so far: what lies more than `bytes` below is overwritten
        ("highest", "i8"),  # highest position appended; 0: none yet
        ("epoch_start", "i8"),  # first position of the current epoch
        ("epoch", "i8"),
        ("keyframes", "i8", (KEYFRAMES,)),  # start positions of the newest keyframes, a ring
        ("keyframe_count", "i8"),
        ("keyframe_arrival", "i8"),  # ns, of the newest
        ("keyframe_wanted", "i8"),  # any reader writes 1; the writer asks the publisher and clears it
        ("sr_version", "i8"),  # odd while the four fields below change
        ("sr_ntp", "i8"),  # newest sender report: NTP time in ns since 1900 of the publisher's clock
        ("sr_timestamp", "i8"),  # the RTP time stamp that belongs to it
        ("sr_arrival", "i8"),  # ns, CLOCK_MONOTONIC; 0: no report yet
        ("parameters_version", "i8"),  # odd while the cached parameter sets change
        ("parameters_size", "i8"),  # H.264: cached SPS and PPS as one RTP payload; 0: none
        ("received_bytes", "i8"),
        ("received_packets", "i8"),
        ("last_arrival", "i8"),
        ("begun", "i8"),  # ns: arrival of the packet with which media began, or began again after a pause; 0: none yet
        ("clock_rate", "i8"),
        ("codec", "i8"),  # constant of mediacodecs.frame
        ("width", "i8"),
        ("height", "i8"),
        ("oversized", "i8"),  # packets refused because they exceed MAX_PACKET
        ("readers", "i8", (64,)),  # readers[w]: the feed by which worker w reads this log and wants its news; 0: none
        ("parameters", "u1", (PARAMETERS,)),
    ],
    align=True,
)
assert ENTRY.itemsize == 64 and LOG.itemsize <= PAGE

log_at = pointer_to(LOG)
entry_at = pointer_to(ENTRY)


def offset_of(field: str) -> int:
    """Byte offset of a LOG field, for the atomic words."""
    return int(LOG.fields[field][1])  # type: ignore[index]


JOURNAL_HEAD = offset_of("journal_head")
WRITE_END = offset_of("write_end")
KEYFRAME_WANTED = offset_of("keyframe_wanted")
SR_VERSION = offset_of("sr_version")
GENERATION = offset_of("generation")
PARAMETERS_VERSION, PARAMETERS_SIZE = offset_of("parameters_version"), offset_of("parameters_size")
PARAMETERS_AT = offset_of("parameters")
ATTEMPTS = 4  # readings of what its writer may be changing
GENERATIONS = itertools.count(1)  # no two logs of a process have the same


def log_size(packets: int, size: int) -> int:
    """Bytes of a region for a log of `packets` entries and a byte ring of `size`."""
    whole = PAGE + packets * (ENTRY.itemsize + 8) + size + PAGE
    return -(-whole // PAGE) * PAGE  # whole pages, so that one log's can be given back without its neighbours'


@kernel
def entry_address(base: int, position: int) -> int:
    """Where the entry of a position lies, if it is still held."""
    return int64(base + PAGE + (position & (log_at(base).packets - 1)) * 64)


@kernel
def journal_address(base: int, count: int) -> int:
    """Where the journal keeps the position of the packet that arrived as number `count`."""
    packets = log_at(base).packets
    return int64(base + PAGE + packets * 64 + (count & (packets - 1)) * 8)


@kernel
def bytes_address(base: int, at: int) -> int:
    """Where the packet that was reserved at `at` begins."""
    log = log_at(base)
    return int64(base + PAGE + log.packets * 72 + at % log.capacity)


@kernel
def holds(base: int, position: int) -> bool:
    """Whether the packet of a position is in the log, whole. Ask again after copying from another thread's log.

    The position is looked at last: while it stands there, what was read before is this packet's. A reader that loses
    its processor in between would else judge by the place of the packet that came after it.
    """
    address = entry_address(base, position)
    read_fence()  # what was copied before this question was read before it
    behind = load_acquire(base + WRITE_END) - entry_at(address).at
    read_fence()
    return bool(load_acquire(address) == position and behind <= log_at(base).capacity)


@kernel
def held(base: int, packets: int, capacity: int, generation: int, position: int) -> bool:
    """`holds` for a reader that may outlive the log: size and generation are those that it found when it attached."""
    address = base + PAGE + (position & (packets - 1)) * 64
    read_fence()
    behind = load_acquire(base + WRITE_END) - entry_at(address).at
    read_fence()
    if load_acquire(address) != position or behind > capacity:
        return False
    return bool(load_acquire(base + GENERATION) == generation)  # last: all above was still this log's


@kernel
def reserve(base: int, size: int) -> int:
    """Make room for one packet of `size` bytes that lies in one piece; returns its `at`. Writer only."""
    log = log_at(base)
    at = log.write_end
    room = log.capacity - at % log.capacity
    if room < size:
        at += room
    store_release(base + WRITE_END, at + size)
    write_fence()
    return int64(at)


@kernel
def append(base: int, position: int, draft: Any, source: int) -> int:
    """Write one packet: `draft` is a filled ENTRY, `source` the address of its bytes. Writer only.

    Returns 1, or 0 when it was there already, is older than the ring or larger than MAX_PACKET.
    """
    log = log_at(base)
    address = entry_address(base, position)
    entry = entry_at(address)
    if entry.position == position or position <= log.highest - log.packets or draft.length > MAX_PACKET:
        log.oversized += draft.length > MAX_PACKET
        return 0
    store_release(address, -1)
    write_fence()
    at = reserve(base, int64(draft.length))
    copy_bytes(bytes_address(base, at), source, int64(draft.length))
    fill(entry, draft)
    entry.at = at
    store_release(address, position)
    publish(base, log, entry, position)
    return 1


@kernel
def fill(entry: Any, draft: Any) -> None:
    """Copy all fields but position and at."""
    entry.arrival = draft.arrival
    entry.timestamp = draft.timestamp
    entry.marks = draft.marks
    entry.length = draft.length
    entry.payload_at = draft.payload_at
    entry.epoch = draft.epoch
    entry.picture_id = draft.picture_id
    entry.tl0 = draft.tl0
    entry.picture_id_at = draft.picture_id_at
    entry.tl0_at = draft.tl0_at
    entry.picture_id_bits = draft.picture_id_bits
    entry.spatial = draft.spatial
    entry.temporal = draft.temporal
    entry.payload_type = draft.payload_type
    entry.audio_level = draft.audio_level
    entry.orientation = draft.orientation
    entry.descriptor_at = draft.descriptor_at
    entry.descriptor_size = draft.descriptor_size
    entry.capture_at = draft.capture_at
    entry.capture_size = draft.capture_size
    entry.opening = draft.opening


@kernel
def publish(base: int, log: Any, entry: Any, position: int) -> None:
    """Note the packet in the journal, the keyframe ring and the counters, then let readers see it."""
    if position > log.highest:
        log.highest = position
    if entry.marks & KEYFRAME and entry.marks & START and entry.spatial == 0:
        log.keyframes[log.keyframe_count & (KEYFRAMES - 1)] = position - int64(entry.opening)
        log.keyframe_count += 1
        log.keyframe_arrival = entry.arrival
    log.received_packets += 1
    log.received_bytes += int64(entry.length)
    log.last_arrival = entry.arrival
    numbers_at(journal_address(base, log.journal_head), 1)[0] = position
    store_release(base + JOURNAL_HEAD, log.journal_head + 1)


@kernel
def begin_epoch(base: int, gap: int) -> int:
    """Start a new epoch after an SSRC change or a sequence reset; returns its first position. Writer only.

    Positions go on far enough above the old ones (`gap`) that no reader takes the two for neighbours.
    """
    log = log_at(base)
    start = ((log.highest + gap) >> 16) + 1 << 16
    log.epoch += 1
    log.epoch_start = start
    log.sr_arrival = 0
    log.parameters_size = 0
    return int64(start)


@kernel
def newest_keyframe(base: int, before: int) -> int:
    """Start position of the newest held keyframe that arrived at or before `before` (ns); -1: none.

    Only keyframes of the current epoch count.
    """
    log = log_at(base)
    for k in range(1, min(log.keyframe_count, KEYFRAMES) + 1):
        position = log.keyframes[(log.keyframe_count - k) & (KEYFRAMES - 1)]
        if position < log.epoch_start:
            return -1
        if holds(base, position) and entry_at(entry_address(base, position)).arrival <= before:
            return int64(position)
    return -1


@kernel
def set_sender_report(base: int, ntp: int, timestamp: int, arrival: int) -> None:
    """Keep the publisher's newest sender report (RFC 3550 6.4.1); ntp in ns since 1900. Writer only."""
    log = log_at(base)
    version = log.sr_version
    store_release(base + SR_VERSION, version + 1)
    write_fence()
    log.sr_ntp = ntp
    log.sr_timestamp = timestamp
    log.sr_arrival = arrival
    store_release(base + SR_VERSION, version + 2)


@kernel
def copy_parameters(base: int, to: int) -> int:
    """Copy the cached parameter sets to `to` (PARAMETERS bytes); returns their size, 0: none or just being changed."""
    for _ in range(ATTEMPTS):
        version = load_acquire(base + PARAMETERS_VERSION)
        size = load_acquire(base + PARAMETERS_SIZE)
        if version & 1 == 0 and 0 < size <= PARAMETERS:
            copy_bytes(to, base + PARAMETERS_AT, size)
            read_fence()
            if load_acquire(base + PARAMETERS_VERSION) == version:
                return int64(size)
    return 0


@dataclass(frozen=True)
class LoggedPacket:
    """One packet copied out of a log."""

    position: int
    arrival: int
    timestamp: int
    marks: int
    data: bytes


class PacketLog:
    """The Python side of a log: makes one in a region, or reads one that another thread or process writes.

    What it says of a log that was freed since is nothing: `gone` tells. Size and generation are those of the log that
    was there when it was made.
    """

    def __init__(self, region: Region, offset: int = 0) -> None:
        self.region = region
        self.offset = offset
        self.base = region.address + offset
        self.header = region.table(offset, LOG, 1)[0]
        self.generation = int(load_acquire_py(self.base + GENERATION))
        self.packets, self.capacity = int(self.header.packets), int(self.header.capacity)

    @classmethod
    def create(cls, region: Region, offset: int, packets: int, size: int) -> PacketLog:
        """Lay out an empty log of a new generation. `packets` is a power of two, `size` the bytes of its byte ring.

        Raises ValueError when a size can't be used.
        """
        if packets & (packets - 1) or packets < 64:
            raise ValueError(f"a log holds a power of two of packets, at least 64, not {packets}")
        if size < 4 * MAX_PACKET:
            raise ValueError(f"a log's byte ring holds at least {4 * MAX_PACKET} bytes, not {size}")
        store_release_py(region.address + offset + GENERATION, 0)  # what stands before it says how large the log is
        region.populate(offset + GENERATION, PAGE + packets * (ENTRY.itemsize + 8) - GENERATION)
        log = cls(region, offset)
        log.header.packets, log.header.capacity = log.packets, log.capacity = packets, size
        entries = region.table(offset + PAGE, ENTRY, packets)
        entries["position"] = -1
        log.header.epoch_start = 1 << 16
        log.header.magic = MAGIC
        log.generation = next(GENERATIONS)
        store_release_py(log.base + GENERATION, log.generation)
        return log

    @classmethod
    def attach(cls, fd: int, offset: int = 0) -> PacketLog:
        """Open the log at `offset` of a memfd that another process made. Raises ValueError when none is there."""
        log = cls(Region.attach(fd), offset)
        fits = 64 <= log.packets and log.packets & (log.packets - 1) == 0 and log.capacity >= 4 * MAX_PACKET
        if int(log.header.magic) != MAGIC or log.gone or not fits:
            raise ValueError(f"no packet log at offset {offset}")
        if offset + log_size(log.packets, log.capacity) > log.region.size:
            raise ValueError(f"the packet log at offset {offset} is larger than its region")
        return log

    def free(self) -> None:
        """The log is over: readers see that it is gone, its memory goes back to the system. Owner only."""
        store_release_py(self.base + GENERATION, 0)
        self.region.release(self.offset + PAGE, log_size(self.packets, self.capacity) - PAGE)

    @property
    def gone(self) -> bool:
        """Whether the log was freed, be its place empty or another's by now."""
        return self.generation == 0 or int(load_acquire_py(self.base + GENERATION)) != self.generation

    @property
    def head(self) -> int:
        """Number of packets appended so far; 0 when the log is gone."""
        head = int(load_acquire_py(self.base + JOURNAL_HEAD))
        return 0 if self.gone else head

    def _holds(self, position: int) -> bool:
        return held(self.base, self.packets, self.capacity, self.generation, position)

    def read(self, position: int) -> LoggedPacket | None:
        """A copy of the packet at a position.

        None when it is not held, was overwritten while it was copied, or when the log is gone.
        """
        if not self._holds(position):
            return None
        entry = self.region.table(self.offset + PAGE + (position & self.packets - 1) * 64, ENTRY, 1)[0]
        at, size = int(entry.at), int(entry.length)
        start = self.offset + PAGE + self.packets * 72 + at % self.capacity
        packet = LoggedPacket(
            position,
            int(entry.arrival),
            int(entry.timestamp),
            int(entry.marks),
            self.region.bytes[start : start + size].tobytes(),
        )
        return packet if self._holds(position) else None

    def arrivals(self, start: int) -> Iterator[tuple[int, int]]:
        """(arrival number, position) of what arrived since number `start`, as far as the journal still holds it.

        Ends when the log is gone.
        """
        head = self.head
        for count in range(max(start, head - self.packets + 1), head):
            at = self.offset + PAGE + self.packets * 64 + (count & self.packets - 1) * 8
            position = int(self.region.bytes[at : at + 8].view(np.int64)[0])
            now = self.head
            if self.gone:
                return
            if now - count < self.packets:  # else its place is being used again
                yield count, position


@kernel
def load_acquire_py(address: int) -> int:
    """`load_acquire` for callers in Python."""
    return int64(load_acquire(address))


@kernel
def store_release_py(address: int, value: int) -> None:
    """`store_release` for callers in Python."""
    store_release(address, value)
