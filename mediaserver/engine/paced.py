"""Paced cursors: a late joiner's replay and the fixed lag, both in sequence order.

A replay sends a budget of bytes at once and more at a set rate until it has reached what live cursors have got, then
goes live. A lagged cursor releases each packet `lag` after its arrival, repaired ones in their place; it waits for a
missing packet until a later one is due, and steps over a hole that nothing will fill. When the publisher's numbering
begins anew, a replay does so at once, a lagged cursor after the last packet from before.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import feed_of, gone, packet_of, subscription_of, transport_of
from mediaserver.engine.forward import even_out, load_packet, send_run
from mediaserver.engine.layout import LIVE, MS, RUN, SECOND, VIDEO, WAITING
from mediaserver.engine.lists import add_live, remove_paced, remove_waiting
from mediaserver.engine.sources import detach, first_due, may_start, start_cursor, start_paced
from packetio.log import WRITE_END, entry_address, entry_at, holds, log_at, newest_keyframe
from packetio.memory import load_acquire

PACE = 5 * MS  # ns between looks at paced cursors
LOOK_AHEAD = 256  # positions searched for a later packet that is due
HOLE = 32  # bytes of the budget for a position without a packet: numbers that jump span millions of them
OVERDRAWN = -4096  # bytes; a lagged cursor sends what is due whatever its budget, and pays back no more than that
RESERVE = 3  # the last 2^-3 of a log is not waited in
NOTHING, NOT_YET, DUE = range(3)  # what `outlook` sees
LATE = 200 * MS  # a lagged cursor further behind than this is catching up and paces itself


@kernel
def paced_round(w: Any) -> None:
    """Let every paced cursor send what it may by now."""
    index = int64(w.first_paced)
    while index:
        sub = subscription_of(w, index)
        following = int64(sub.paced_next)
        refill(w, sub)
        advance(w, index, sub)
        index = following


@kernel
def refill(w: Any, sub: Any) -> None:
    """Grow the budget of bytes with time, up to one burst."""
    sub.budget = min(sub.budget + (w.now - sub.budget_at) * w.burst_rate // SECOND, w.burst)
    sub.budget_at = w.now


@kernel
def advance(w: Any, index: int, sub: Any) -> None:
    """Send runs while there is something to send and a budget for it."""
    if sub.lag > 0 and sub.target and switch_when_due(w, index, sub):
        return
    feed = feed_of(w, sub.feed)
    if gone(feed):
        return
    start = log_at(feed.log).epoch_start
    if sub.cursor < start and (sub.lag == 0 or outlook(w, sub, feed.log, sub.cursor, start - 1) == NOTHING):
        begin_again(w, index, sub)
        return
    while True:
        n = collect(w, sub, feed)
        if n == 0:
            break
        even_out(w, n)
        send_run(w, sub, transport_of(w, sub.transport), n, feed)
    if sub.lag == 0 and sub.cursor > feed.highest:
        remove_paced(w, index)
        sub.mode = LIVE
        add_live(w, index, int64(sub.feed))


@kernel
def begin_again(w: Any, index: int, sub: Any) -> None:
    """The cursor's epoch is over: begin on the new one, or on the target that it was to switch to."""
    feed = int64(sub.target if sub.target else sub.feed)
    remove_waiting(w, index)
    detach(w, index)
    sub.mode, sub.fresh = WAITING, 1
    start_cursor(w, index, feed)


@kernel
def collect(w: Any, sub: Any, feed: Any) -> int:
    """Load the next run of the cursor; returns its packets and moves the cursor past them."""
    n = 0
    log = log_at(feed.log)
    top = feed.highest if sub.lag == 0 else log.highest
    while n < RUN and sub.cursor <= top:
        position = sub.cursor
        if sub.lag > 0:
            seen = outlook(w, sub, feed.log, position, top)
            if seen != DUE and not (seen == NOTHING and log.epoch_start <= position < top - LOOK_AHEAD):
                break
        missing = not holds(feed.log, position)
        if sub.budget <= 0 and (sub.lag == 0 or missing or behind(w, sub, feed.log, position)):
            break
        if missing:
            sub.cursor = next_held(feed.log, position, top)
            sub.budget = max(sub.budget - HOLE * (sub.cursor - position), OVERDRAWN)
            continue
        p = packet_of(w, n)
        if load_packet(w, feed.log, position, p):
            sub.budget = max(sub.budget - p.length, OVERDRAWN)
            n += 1
        sub.cursor = position + 1
    return n


@kernel
def next_held(base: int, position: int, top: int) -> int:
    """The first position from `position` to `top` whose packet is held, or where the search is to go on."""
    end = min(position + LOOK_AHEAD, top) + 1
    for ahead in range(position, end):
        if holds(base, ahead):
            return int64(ahead)
    return int64(end)


@kernel
def outlook(w: Any, sub: Any, base: int, position: int, top: int) -> int:
    """DUE: the packet at a position, or a later one if it is missing or was repaired late, may be released.

    NOTHING: as far as is looked, no packet is there at all.
    """
    limit = w.now - sub.lag
    found = NOTHING
    for ahead in range(position, min(position + LOOK_AHEAD, top) + 1):
        if holds(base, ahead):
            if entry_at(entry_address(base, ahead)).arrival <= limit or leaving(base, ahead):
                return DUE
            found = NOT_YET
    return found


@kernel
def leaving(base: int, position: int) -> bool:
    """Whether a held packet is soon overwritten: a lag that is longer than the log gets what the log has."""
    log = log_at(base)
    behind_end = load_acquire(base + WRITE_END) - entry_at(entry_address(base, position)).at
    if behind_end > log.capacity - (log.capacity >> RESERVE):
        return True
    return bool(position >= log.epoch_start and log.highest - position > log.packets - (log.packets >> RESERVE))


@kernel
def behind(w: Any, sub: Any, base: int, position: int) -> bool:
    """Whether a packet has been due for so long that the cursor is catching up."""
    return holds(base, position) and entry_at(entry_address(base, position)).arrival < w.now - sub.lag - LATE


@kernel
def switch_when_due(w: Any, index: int, sub: Any) -> bool:
    """Switch a lagged cursor to its target when a keyframe of it has just become due."""
    feed = feed_of(w, sub.target)
    if not may_start(w, sub, feed):
        return False
    if sub.kind != VIDEO:
        position = first_due(w, sub, feed)
    else:
        position = newest_keyframe(feed.log, w.now - sub.lag)
    if position < 0 or entry_at(entry_address(feed.log, position)).arrival < w.now - sub.lag - 6 * PACE:
        return False
    start_paced(w, index, int64(sub.target), position)
    return True
