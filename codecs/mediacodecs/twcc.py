"""Transport-wide congestion control feedback: when each packet arrived, for the sender's bandwidth estimate.

Source: draft-holmer-rmcat-transport-wide-cc-extensions-01. A TWCC_STATE, zeroed at the start, keeps the newest 1024
arrivals by transport-wide number. Each report covers the numbers from the first unreported to the highest; a late
packet moves the beginning back, so that it is reported with all that followed, as libwebrtc does.

    header 12 | first number 16 | numbers 16 | reference time 24, in 64 ms | report number 8 | chunks | deltas | zeros
    chunk: |0| symbol 2 | numbers 13 |  or  |1|0| 14 symbols of 1 bit |  or  |1|1| 7 symbols of 2 bits |
    symbol: 0 not received, 1 received with a delta of 8 bits, 2 with a signed one of 16 bits; deltas in 250 µs
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mediacodecs.bits import be16, be24, put8, put16, put24, put32
from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import RTPFB, TRANSPORT_CC
from mediacodecs.rtcp_write import write_head
from mediacodecs.rtp import unwrap16

RING = 1024  # numbers remembered: 0.5 s at 2,000 packets/s; a power of two
TICK = 250_000  # ns of one unit of a delta
TICKS = 256  # of one unit of the reference time
FIXED = 20  # bytes before the chunks
LOST, SMALL, LARGE = range(3)  # symbols: also the bytes of their delta
NEVER = -1  # what twcc_read gives as the arrival of a packet that did not arrive

TWCC_STATE = np.dtype(
    [
        ("started", "u1"),  # 1: a packet has come
        ("feedback_count", "u1"),  # number of the next report
        ("next_base", "i8"),  # first number not yet reported, unwrapped
        ("highest", "i8"),  # highest number received, unwrapped
        ("arrival", "i8", (RING,)),  # ns, by the low bits of the number; 0: not received
        ("symbols", "u1", (RING,)),  # of the report being written, from its first number
    ],
    align=True,
)


@kernel
def twcc_receive(state: Any, sequence: int, arrival: int) -> None:
    """Note that the packet with this transport-wide number (16 bits) arrived; arrival in ns (> 0) of a monotonic clock.

    Of duplicates the first counts; a packet RING or more behind the highest is ignored.
    """
    if not state.started:
        state.started = 1
        state.highest = 65535 + int64(sequence)
        state.next_base = 65536 + int64(sequence)
    number = unwrap16(state.highest, sequence)
    if number <= state.highest - RING:
        return
    if number > state.highest:
        for k in range(max(int64(state.highest) + 1, number - RING + 1), number):
            state.arrival[k & RING - 1] = 0
        state.highest = number
        state.next_base = max(int64(state.next_base), number - RING + 1)
    elif state.arrival[number & RING - 1]:
        return
    state.arrival[number & RING - 1] = max(int64(arrival), 1)
    state.next_base = min(int64(state.next_base), number)


@kernel
def ticks_of(arrival: int) -> int:
    """An arrival in units of a delta, rounded to the nearest, so that rounding errors do not add up."""
    return (int64(arrival) + TICK // 2) // TICK


@kernel
def find_symbols(state: Any) -> tuple[int, int]:
    """Fill state.symbols for a report from next_base on.

    Returns how many numbers it can cover, up to the first delta of more than 16 bits, and its reference time in ticks.
    """
    base = int64(state.next_base)
    count = int64(state.highest) + 1 - base if state.started else int64(0)
    reference = int64(-1)
    last = int64(0)
    for k in range(count):
        arrival = int64(state.arrival[base + k & RING - 1])
        symbol = LOST
        if arrival:
            ticks = ticks_of(arrival)
            if reference < 0:
                reference = ticks // TICKS * TICKS
                last = reference
            delta = ticks - last
            if delta < -0x8000 or delta > 0x7FFF:
                return int64(k), reference
            symbol = SMALL if 0 <= delta <= 0xFF else LARGE
            last = ticks
        state.symbols[k] = symbol
    return count, max(reference, 0)


@kernel
def chunk_length(symbols: Bytes, at: int, count: int) -> tuple[int, int]:
    """The chunk to use for symbols[at:count]: how many symbols it takes, and the bits of each (0: run length)."""
    run = at + 1
    while run < count and symbols[run] == symbols[at]:
        run += 1
    width = 1
    for k in range(at, min(at + 14, count)):
        if symbols[k] == LARGE:
            width = 2
    vector = min(14 // width, count - at)
    return (int64(run - at), 0) if run - at >= vector else (int64(vector), width)


@kernel
def fitting(symbols: Bytes, at: int, length: int, room: int) -> tuple[int, int]:
    """How many of symbols[at:at+length] have deltas that fit in `room` bytes, and the bytes of those."""
    used = int64(0)
    for k in range(length):
        more = used + int64(symbols[at + k])
        if more > room:
            return int64(k), used
        used = more
    return int64(length), used


@kernel
def write_chunk(b: Bytes, to: int, symbols: Bytes, at: int, length: int, width: int) -> None:
    """Write a chunk for symbols[at:at+length] of `width` bits; 0: they are all the same."""
    if width == 0:
        put16(b, to, int64(symbols[at]) << 13 | length)
        return
    value = 1 + width  # 0b10 or 0b11
    for k in range(14 // width):
        value <<= width
        if k < length:
            value |= int64(symbols[at + k])
    put16(b, to, value)


@kernel
def write_deltas(state: Any, b: Bytes, to: int, count: int, reference: int) -> int:
    """Write the deltas of the first `count` numbers of the report; returns where they end."""
    last = reference
    for k in range(count):
        symbol = int64(state.symbols[k])
        if symbol == LOST:
            continue
        ticks = ticks_of(state.arrival[state.next_base + k & RING - 1])
        if symbol == SMALL:
            put8(b, to, ticks - last)
        else:
            put16(b, to, ticks - last)
        last = ticks
        to += symbol
    return to


@kernel
def twcc_write(state: Any, b: Bytes, at: int, limit: int, sender: int, media: int) -> int:
    """Write one report to b[at:limit] and count what it covers as reported; returns its end, `at`: nothing written.

    Call again for the rest while it writes: a delta may not fit in 16 bits, or the report not before `limit`.
    """
    count, reference = find_symbols(state)
    symbols = state.symbols
    end = at + (limit - at & ~3)
    to = at + FIXED
    done = int64(0)
    deltas = int64(0)
    while done < count:
        length, width = chunk_length(symbols, done, count)
        taken, used = fitting(symbols, done, length, end - to - 2 - deltas)
        if taken == 0:
            break
        write_chunk(b, to, symbols, done, taken, width)
        to += 2
        done += taken
        deltas += used
        if taken < length:
            break
    if done == 0:
        return int64(at)
    to = write_deltas(state, b, to, done, reference)
    while to - at & 3:
        b[to] = 0
        to += 1
    put32(b, at + 4, sender)
    put32(b, at + 8, media)
    put16(b, at + 12, state.next_base & 0xFFFF)
    put16(b, at + 14, done)
    put24(b, at + 16, reference // TICKS)
    put8(b, at + 19, state.feedback_count)
    state.next_base += done
    state.feedback_count = int64(state.feedback_count) + 1 & 0xFF
    return write_head(b, at, RTPFB, TRANSPORT_CC, to)


@kernel
def read_chunks(b: Bytes, at: int, end: int, count: int, symbols: NDArray[np.int64]) -> int:
    """Fill symbols[:count] from the chunks at b[at]; returns where they end, -1: malformed."""
    done = 0
    while done < count:
        if at + 2 > end:
            return -1
        chunk = be16(b, at)
        at += 2
        width = (chunk >> 14) - 1
        length = chunk & 0x1FFF if width < 1 else 14 // width
        for k in range(min(length, count - done)):
            if width < 1:
                symbol = chunk >> 13 & 3
            else:
                symbol = chunk >> 14 - width * (k + 1) & (1 << width) - 1
            if symbol > LARGE:
                return -1
            symbols[done + k] = symbol
        done += min(length, count - done)
    return int64(at)


@kernel
def twcc_read(b: Bytes, item: Any, numbers: NDArray[np.int64], arrivals: NDArray[np.int64]) -> int:
    """Read one report: the 16-bit numbers that it covers and their arrivals in ns of the reporter's clock, or NEVER.

    numbers, arrivals: i8, filled from the front. Returns how many; -1: no such report, a malformed one, or one that
    covers more than fit. The reporter's clock is cut to 24 bits of 64 ms, signed.
    """
    at = int64(item.at)
    end = int64(item.end)
    if item.packet_type != RTPFB or item.count != TRANSPORT_CC or at + FIXED > end:
        return -1
    count = be16(b, at + 14)
    if count > min(numbers.size, arrivals.size):
        return -1
    base = be16(b, at + 12)
    ticks = ((be24(b, at + 16) ^ 0x800000) - 0x800000) * TICKS
    to = read_chunks(b, at + FIXED, end, count, arrivals)
    if to < 0:
        return -1
    for k in range(count):
        numbers[k] = base + k & 0xFFFF
        symbol = int64(arrivals[k])
        if to + symbol > end:
            return -1
        if symbol == SMALL:
            ticks += int64(b[to])
        elif symbol == LARGE:
            ticks += (be16(b, to) ^ 0x8000) - 0x8000
        arrivals[k] = ticks * TICK if symbol else NEVER
        to += symbol
    return count
