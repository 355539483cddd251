"""Outgoing sequence numbers of a subscription: a map between outgoing indices and log positions.

An index is the outgoing sequence number widened to 64 bits: index = position - offset. A packet that is left out raises
the offset, so no gap shows; one that has not come yet keeps its number; a late one is found in the map and takes the
number kept for it. If that one turns out to be left out, its number leaves in a packet without payload (EMPTY), because
receivers take a hole for a loss, and ask for it until they ask for a keyframe. The map also answers NACKs. A word is
feed << 47 | position << 3 | EMPTY | PARAMETER_PACKET | SENT.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import EMPTY, MAP_FEED, MAP_POSITION, MAP_SIZE, PARAMETER_PACKET, SENT
from packetio.memory import numbers_at

POSITION_MASK = (1 << (MAP_FEED - MAP_POSITION)) - 1


@kernel
def word_of(sub: Any, index: int) -> int:
    """The map word of an outgoing index; 0 when it is too old or was never given."""
    if index > sub.out_highest or index <= sub.out_highest - MAP_SIZE or index < sub.out_first:
        return 0
    return int64(numbers_at(sub.map, MAP_SIZE)[index & (MAP_SIZE - 1)])


@kernel
def position_of(word: int) -> int:
    """The log position in a map word."""
    return int64((word >> MAP_POSITION) & POSITION_MASK)


@kernel
def assign(sub: Any, index: int, position: int, bits: int) -> None:
    """Give an outgoing index to a position of the current feed."""
    word = int64(sub.feed) << MAP_FEED | position << MAP_POSITION | bits
    numbers_at(sub.map, MAP_SIZE)[index & (MAP_SIZE - 1)] = word


@kernel
def skip_to(sub: Any, position: int) -> None:
    """Keep numbers for the positions between the highest handled and `position`, which have not come yet.

    A hole larger than the map is not kept: numbering closes it.
    """
    hole = position - sub.highest - 1
    if hole >= MAP_SIZE:
        sub.offset += hole
    else:
        for missing in range(sub.highest + 1, position):
            assign(sub, missing - sub.offset, missing, 0)
            sub.out_highest += 1
    sub.highest = position - 1


@kernel
def next_index(sub: Any, position: int) -> int:
    """The outgoing index of a position above all before it; marks it sent."""
    if position > sub.highest + 1:
        skip_to(sub, position)
    sub.highest = position
    index = position - sub.offset
    assign(sub, index, position, SENT)
    sub.out_highest = index
    return int64(index)


@kernel
def leave_out(sub: Any, position: int) -> None:
    """Pass over a position that the subscriber does not get; its number goes to the next packet."""
    if position > sub.highest + 1:
        skip_to(sub, position)
    sub.highest = position
    sub.offset += 1
    sub.dropped += 1


@kernel
def insert(sub: Any, position: int) -> int:
    """An outgoing index for a packet that the log does not have (parameter sets before `position`)."""
    if position > sub.highest + 1:
        skip_to(sub, position)
    index = sub.out_highest + 1
    assign(sub, index, position, SENT | PARAMETER_PACKET)
    sub.out_highest = index
    sub.offset -= 1
    return int64(index)


@kernel
def late_index(sub: Any, position: int) -> int:
    """The number that was kept for a late position; marks it sent. -1: none was kept, or it was sent already.

    Positions rise with the numbers, so the map is searched by halves.
    """
    words = numbers_at(sub.map, MAP_SIZE)
    low, high = max(sub.out_start, sub.out_highest - MAP_SIZE + 1), sub.out_highest + 1
    while low < high:
        middle = (low + high) >> 1
        if position_of(words[middle & (MAP_SIZE - 1)]) < position:
            low = middle + 1
        else:
            high = middle
    if low <= sub.out_highest and words[low & (MAP_SIZE - 1)] & PARAMETER_PACKET:
        low += 1
    if low > sub.out_highest:
        return -1
    word = words[low & (MAP_SIZE - 1)]
    if position_of(word) != position or word & (SENT | PARAMETER_PACKET):
        return -1
    words[low & (MAP_SIZE - 1)] = word | SENT
    return int64(low)


@kernel
def mark_empty(sub: Any, index: int) -> None:
    """Note that a number given by `late_index` leaves without payload."""
    numbers_at(sub.map, MAP_SIZE)[index & (MAP_SIZE - 1)] |= EMPTY


@kernel
def start_at(sub: Any, position: int) -> None:
    """Continue the numbering on another feed or epoch, whose first packet will be `position`."""
    sub.offset = position - (sub.out_highest + 1)
    sub.highest = position - 1
    sub.out_start = sub.out_highest + 1
