"""A bad network for one client and one direction, in the client's own packet path: no kernel module, no privileges.

A datagram meets, in this order: loss (Gilbert–Elliott: a good and a bad state, each with its own loss), a bottleneck
with a bounded queue, delay with jitter, and now and then a holding back that lets later packets overtake. A link only
says when a datagram is released; whoever asks keeps it until then. All chance comes from the link's own generator, in
whole numbers, so that a seed gives the same network everywhere, compiled or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel

LINK = np.dtype(
    [
        ("active", "i8"),  # 0: nothing is done to a datagram, and nothing is counted
        ("random", "i8"),  # state of the generator, 1 … MULTIPLIER << 32
        ("bad", "i8"),  # 1: in the bad state
        ("to_bad", "f8"),  # chance per packet to change from good to bad
        ("to_good", "f8"),  # and back
        ("loss_good", "f8"),  # chance that a packet is lost in the good state
        ("loss_bad", "f8"),
        ("delay", "i8"),  # ns
        ("jitter", "i8"),  # ns, standard deviation of a normal that is cut at ±3; the delay never falls below 0
        ("keep_order", "i8"),  # 1: a packet that comes out of the jitter is not earlier than the one before it
        ("reorder", "f8"),  # share of the packets that are held back additionally, free of keep_order
        ("reorder_delay", "i8"),  # ns that those are held back
        ("rate", "i8"),  # bit/s of the bottleneck, of what the caller counts as size; 0: no bottleneck
        ("queue", "i8"),  # ns: who would wait longer for the bottleneck is dropped
        ("busy_until", "i8"),  # ns: when the bottleneck has sent what it took
        ("last_release", "i8"),  # ns, of the packet before, without its holding back
        ("passed", "i8"),
        ("lost", "i8"),  # by Gilbert–Elliott
        ("capped", "i8"),  # dropped at the bottleneck
        ("reordered", "i8"),  # held back
    ],
    align=True,
)

# Multiply-with-carry (Marsaglia): a 63-bit state without overflow in signed words. MULTIPLIER << 32 and << 31, less
# one, are both prime, which makes the period MULTIPLIER << 31.
MULTIPLIER = 2_131_995_753
LOW_32 = 0xFFFFFFFF
TWO_32 = 4294967296.0
UNIT_BITS = 17  # a deviation of 1 is 1 << 17 in `normal`
CUT = 3 << UNIT_BITS
MS = 1_000_000  # ns
LONGEST = 3_600_000  # ms: no delay of a network is longer than an hour, and products stay within 63 bits


@kernel
def draw(link: Any) -> int:
    """The next random number of the link, 0 … 2³² - 1."""
    link.random = MULTIPLIER * (link.random & LOW_32) + (link.random >> 32)
    return int64((link.random & LOW_32) ^ (link.random >> 32))


@kernel
def happens(link: Any, chance: float) -> bool:
    """Whether something of this chance (0 … 1) happens. Certain things draw no number."""
    if chance <= 0.0:
        return False
    return bool(chance >= 1.0 or draw(link) < chance * TWO_32)


@kernel
def normal(link: Any) -> int:
    """A normally distributed number, mean 0, deviation 1 << UNIT_BITS, cut at ±3: the sum of twelve 16-bit numbers."""
    total = int64(0)
    for _ in range(6):
        drawn = draw(link)
        total += (drawn & 0xFFFF) + (drawn >> 16)
    return max(min(2 * total - 12 * 0xFFFF, CUT), -CUT)


@kernel
def is_lost(link: Any) -> bool:
    """Whether the next packet is lost; the state changes afterwards."""
    if link.bad:
        lost = happens(link, link.loss_bad)
        if happens(link, link.to_good):
            link.bad = 0
    else:
        lost = happens(link, link.loss_good)
        if happens(link, link.to_bad):
            link.bad = 1
    return lost


@kernel
def pass_bottleneck(link: Any, now: int, size: int) -> int:
    """When the bottleneck has sent a packet of `size` bytes; -1: the queue is full."""
    begin = max(now, link.busy_until)
    if begin - now > link.queue:
        return -1
    link.busy_until = begin + size * 8_000_000_000 // link.rate
    return int64(link.busy_until)


@kernel
def travel(link: Any, at: int) -> int:
    """When a packet that left the bottleneck at `at` arrives: delay, jitter, order, holding back."""
    delay = int64(link.delay)
    if link.jitter:
        delay = max(delay + ((link.jitter * normal(link)) >> UNIT_BITS), 0)
    at += delay
    if link.keep_order:
        at = max(at, link.last_release)
        link.last_release = at
    if happens(link, link.reorder):
        link.reordered += 1
        at += link.reorder_delay
    return at


@kernel
def release_time(link: Any, now: int, size: int) -> int:
    """When a datagram of `size` bytes that comes at `now` is released, in ns; `now` itself: at once; -1: it is lost."""
    if link.active == 0:
        return now
    if is_lost(link):
        link.lost += 1
        return -1
    at = int64(now)
    if link.rate:
        at = pass_bottleneck(link, at, size)
        if at < 0:
            link.capped += 1
            return -1
    link.passed += 1
    return travel(link, at)


def seed_link(link: Any, seed: int) -> None:
    """Set the link's generator; near seeds give unrelated sequences (the mixing of splitmix64)."""
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    link.random = (z ^ (z >> 31)) % ((MULTIPLIER << 32) - 2) + 1


def fill_link(
    row: Any,
    *,
    loss: tuple[float, float, float, float] | None = None,
    delay_ms: float = 0,
    jitter_ms: float = 0,
    reorder: float = 0,
    reorder_delay_ms: float = 10,
    rate_kbit: float = 0,
    queue_ms: float = 200,
    keep_order: bool = True,
    seed: int = 0,
) -> None:
    """Make a LINK record anew from settings; `loss` is (p, r, good, bad): good to bad, bad to good, loss in each.

    A link that is left in its defaults is not active. Raises ValueError for a chance outside 0 … 1 or a bad time.
    """
    chances = loss or (0.0, 1.0, 0.0, 0.0)
    for chance in (*chances, reorder):
        if not 0 <= chance <= 1:
            raise ValueError(f"a chance or share is 0 … 1, not {chance}")
    for name, time in {"delay": delay_ms, "jitter": jitter_ms, "reorder": reorder_delay_ms, "queue": queue_ms}.items():
        if not 0 <= time <= LONGEST:
            raise ValueError(f"a link's {name} is 0 … {LONGEST} ms, not {time}")
    if not 0 <= rate_kbit <= 1e9 or 0 < rate_kbit < 1:
        raise ValueError(f"a link's rate is 1 … 1e9 kbit/s, or 0 for none, not {rate_kbit}")
    for field in LINK.names or ():
        setattr(row, field, 0)
    row.to_bad, row.to_good, row.loss_good, row.loss_bad = chances
    row.delay, row.jitter = round(delay_ms * MS), round(jitter_ms * MS)
    row.keep_order, row.reorder, row.reorder_delay = keep_order, reorder, round(reorder_delay_ms * MS)
    row.rate, row.queue = round(rate_kbit * 1000), round(queue_ms * MS)
    row.active = int(any((loss, delay_ms, jitter_ms, reorder, rate_kbit)))
    seed_link(row, seed)
