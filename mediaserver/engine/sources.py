"""What a subscription's cursor reads: start on a feed, switch to another at a keyframe, survive a new epoch.

Numbering goes on through every change (the same SSRC and index must never be sealed twice). Time stamps go on too:
by the publisher's sender reports where both layers have one, else by the clock. A subscription that waits for a
keyframe of its target keeps sending what it had.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import feed_of, gone, subscription_of, transport_of
from mediaserver.engine.keyframes import want_keyframe
from mediaserver.engine.layout import FROM_START, LIVE, PACED, PARKED, SECOND, VIDEO, WAITING
from mediaserver.engine.lists import add_live, add_paced, add_waiting, remove_live, remove_paced, remove_waiting
from mediaserver.engine.news import tell_source
from mediaserver.engine.numbering import start_at
from mediaserver.engine.rewrite import MASK32, SQUEEZE, signed32
from mediaserver.engine.sender_reports import publisher_report
from packetio.log import (
    JOURNAL_HEAD,
    KEYFRAME,
    KEYFRAMES,
    START,
    entry_address,
    entry_at,
    holds,
    journal_address,
    log_at,
    newest_keyframe,
)
from packetio.memory import load_acquire, numbers_at

OPENING = 2 * SECOND  # ns; a beginning that is longer ago is let go: sound would begin with a delay that long …
OPENING_BURSTS = 4  # … and this many bursts of video are caught up with in a second
MAX_PICTURE_STEP = 1  # picture ids continue with the next number after a switch


@kernel
def detach(w: Any, index: int) -> None:
    """Take the cursor off the feed that it reads."""
    sub = subscription_of(w, index)
    if sub.mode == LIVE:
        remove_live(w, index)
    elif sub.mode == PACED:
        remove_paced(w, index)
    sub.mode = PARKED


@kernel
def begins_keyframe(p: Any) -> bool:
    """Whether decoding can start at packet p: the first of a keyframe's lowest spatial layer."""
    return bool(p.marks & KEYFRAME and p.marks & START and p.entry.spatial == 0)


@kernel
def clock_offset(sub: Any, timestamp: int, due: int) -> int:
    """Time-stamp offset that lets the stream go on as much later as the clock says; due (ns): when it will be sent."""
    passed = (due - sub.last_sent) * sub.clock_rate // SECOND
    return int64(sub.last_timestamp + max(passed, int64(1)) - timestamp)


@kernel
def timestamp_offset_for(w: Any, sub: Any, feed: Any, timestamp: int, due: int) -> int:
    """Offset for a stream that goes on with `timestamp` on `feed` (RFC 3550 6.4.1: sender reports share one clock)."""
    if sub.last_timestamp < 0:
        return 0
    offset = clock_offset(sub, timestamp, due)
    if sub.feed and sub.fresh == 0:
        old_ntp, old_stamp, old_arrival = publisher_report(feed_of(w, sub.feed).log)
        new_ntp, new_stamp, new_arrival = publisher_report(feed.log)
        if old_arrival and new_arrival:
            apart = (new_ntp - old_ntp) * sub.clock_rate // SECOND
            aligned = sub.timestamp_offset + old_stamp - new_stamp + apart
            if abs(signed32(aligned - offset)) < 2 * sub.clock_rate:
                offset = aligned
    if signed32(timestamp + offset - sub.last_timestamp) <= 0:
        offset = sub.last_timestamp + 1 - timestamp
    return int64(offset)


@kernel
def take_source(w: Any, index: int, feed_index: int, position: int, timestamp: int) -> None:
    """Let a subscription continue on a feed with the packet at `position`; its mode is left to the caller."""
    sub, feed = subscription_of(w, index), feed_of(w, feed_index)
    remove_waiting(w, index)
    detach(w, index)
    entry = entry_at(entry_address(feed.log, position))
    due = max(int64(w.now), int64(entry.arrival) + sub.lag)
    sub.timestamp_offset = timestamp_offset_for(w, sub, feed, timestamp, due) & MASK32
    sub.squeeze_from = -1
    if sub.last_picture >= 0 and entry.picture_id_bits:
        sub.picture_offset = sub.last_picture + MAX_PICTURE_STEP - int64(entry.picture_id)
        sub.tl0_offset = sub.last_tl0 + 1 - int64(entry.tl0)
    start_at(sub, position)
    sub.feed = feed_index
    sub.payload_type, sub.rtx_type = sub.next_type, sub.next_rtx_type
    sub.spatial, sub.temporal = sub.max_spatial, sub.max_temporal
    sub.fresh = sub.from_start = 0
    sub.next_report = w.now
    tell_source(w, index, sub)


@kernel
def start_waiting(w: Any, feed_index: int, p: Any) -> None:
    """A keyframe begins with packet p: everybody who waits for it goes live on this feed.

    If it came late, repaired, what follows it has passed already: then it is replayed from the log. So is one that
    has an opening (its parameter sets), which has passed.
    A lagged cursor that is switching stays: it switches when the keyframe is due (`paced.switch_when_due`).
    """
    feed = feed_of(w, feed_index)
    opening = p.position - int64(p.entry.opening)
    passed = opening < p.position and holds(feed.log, opening) or p.position < feed.highest
    index = int64(feed.first_waiting)
    while index:
        sub = subscription_of(w, index)
        following = int64(sub.wait_next)
        if not may_start(w, sub, feed) or (sub.lag > 0 and sub.mode == PACED):
            index = following
            continue
        if sub.lag > 0 or passed:
            start_paced(w, index, feed_index, opening if holds(feed.log, opening) else p.position)
        else:
            take_source(w, index, feed_index, p.position, p.timestamp)
            sub.mode = LIVE
            add_live(w, index, feed_index)
        index = following


@kernel
def begin_feed_epoch(w: Any, feed_index: int, p: Any) -> None:
    """The publisher's SSRC or numbering changed: live cursors of video wait for its keyframe, audio goes on at once."""
    feed = feed_of(w, feed_index)
    feed.epoch = int64(p.entry.epoch)  # not the log's: that may be a later one
    feed.highest = p.position - 1
    index = int64(feed.first_live)
    while index:
        sub = subscription_of(w, index)
        following = int64(sub.live_next)
        remove_live(w, index)
        sub.mode, sub.fresh = WAITING, 1
        if sub.target == 0:
            add_waiting(w, index, feed_index)
        index = following
    if feed.first_waiting and not begins_keyframe(p):
        want_keyframe(w, feed)


@kernel
def replay_from(w: Any, sub: Any, feed: Any) -> int:
    """Position of a keyframe in the log that is fresh and near enough to start from; -1: none."""
    limit = w.now - sub.lag
    position = newest_keyframe(feed.log, limit)
    if position < 0 or sub.kind != VIDEO:
        return -1
    entry = entry_at(entry_address(feed.log, position))
    bytes_behind, arrival = log_at(feed.log).write_end - entry.at, int64(entry.arrival)
    if not holds(feed.log, position) or arrival < limit - w.keyframe_age or (sub.lag == 0 and bytes_behind > w.burst):
        return -1
    return int64(position)


@kernel
def may_start(w: Any, sub: Any, feed: Any) -> bool:
    """Whether a subscription may begin on a feed: keys agreed, not paused, and the codec that its types are for."""
    if sub.paused or transport_of(w, sub.transport).secured == 0 or gone(feed):
        return False
    return bool(sub.next_codec == log_at(feed.log).codec)


@kernel
def start_subscriptions(w: Any, t: Any) -> None:
    """The transport's keys are agreed: its subscriptions begin on what they were given meanwhile."""
    index = int64(t.first_subscription)
    while index:
        sub = subscription_of(w, index)
        target = int64(sub.target)
        if target:
            remove_waiting(w, index)
            start_cursor(w, index, target)
        index = int64(sub.next)


@kernel
def start_cursor(w: Any, index: int, feed_index: int) -> None:
    """Begin on a feed: from a fresh keyframe in the log, else at the next keyframe, which is asked for."""
    sub, feed = subscription_of(w, index), feed_of(w, feed_index)
    if not may_start(w, sub, feed):
        add_waiting(w, index, feed_index)
        return
    idle = sub.mode != LIVE and sub.mode != PACED
    position = beginning_of(w, sub, feed) if sub.from_start else int64(-1)
    if position < 0:
        position = replay_from(w, sub, feed)
    if position >= 0 and idle:
        start_paced(w, index, feed_index, position)
        w.keyframe_starts += sub.kind == VIDEO
    elif sub.lag > 0 and idle and first_due(w, sub, feed) >= 0:
        start_paced(w, index, feed_index, first_due(w, sub, feed))
    else:
        add_waiting(w, index, feed_index)
        if sub.kind == VIDEO:
            want_keyframe(w, feed)


@kernel
def beginning_of(w: Any, sub: Any, feed: Any) -> int:
    """Where somebody starts who has waited since before the media began: with all of it; -1: that is too long ago.

    Media begins, and control gives it to those who wait, in its own time; the log has what came meanwhile.
    """
    log = log_at(feed.log)
    if w.now - log.begun - sub.lag > OPENING:
        return -1
    return first_keyframe(w, sub, feed) if sub.kind == VIDEO else first_arrival(feed.log)


@kernel
def first_keyframe(w: Any, sub: Any, feed: Any) -> int:
    """Position of the first keyframe since the media began, or of the first that is near enough to replay from."""
    log = log_at(feed.log)
    found = int64(-1)
    for k in range(1, min(log.keyframe_count, KEYFRAMES) + 1):
        position = log.keyframes[(log.keyframe_count - k) & (KEYFRAMES - 1)]
        entry = entry_at(entry_address(feed.log, position))
        arrival, at = int64(entry.arrival), int64(entry.at)
        if position < log.epoch_start or not holds(feed.log, position):
            break
        if arrival < log.begun or (sub.lag == 0 and log.write_end - at > OPENING_BURSTS * w.burst):
            break
        found = position
    return found


@kernel
def first_arrival(base: int) -> int:
    """The lowest position among the packets that have come since the media began; -1: none is held."""
    log = log_at(base)
    count = load_acquire(base + JOURNAL_HEAD)
    oldest = max(count - log.packets + 1, int64(0))
    found = int64(-1)
    while count > oldest:
        count -= 1
        position = numbers_at(journal_address(base, count), 1)[0]
        arrival = int64(entry_at(entry_address(base, position)).arrival)
        if position < log.epoch_start or not holds(base, position) or arrival < log.begun:
            break
        found = position if found < 0 else min(found, position)
    return found


@kernel
def first_due(w: Any, sub: Any, feed: Any) -> int:
    """Where a lagged cursor begins when no keyframe is due yet: the oldest keyframe still to come; -1: none.

    For audio every packet is a keyframe, so this is the packet that is due next.
    """
    log = log_at(feed.log)
    found = int64(-1)
    if sub.kind == VIDEO:
        for k in range(1, min(log.keyframe_count, KEYFRAMES) + 1):
            position = log.keyframes[(log.keyframe_count - k) & (KEYFRAMES - 1)]
            if position < log.epoch_start or not holds(feed.log, position):
                break
            if entry_at(entry_address(feed.log, position)).arrival < w.now - sub.lag:
                break
            found = position
        return found
    position = log.highest
    while position >= log.epoch_start and holds(feed.log, position):
        if entry_at(entry_address(feed.log, position)).arrival < w.now - sub.lag:
            break
        found = position
        position -= 1
    return found


@kernel
def start_paced(w: Any, index: int, feed_index: int, position: int) -> None:
    """Begin a paced cursor at a position that the log holds."""
    sub, feed = subscription_of(w, index), feed_of(w, feed_index)
    timestamp = int64(entry_at(entry_address(feed.log, position)).timestamp)
    take_source(w, index, feed_index, position, timestamp)
    if sub.kind == VIDEO:
        squeeze(w, sub, feed, position, timestamp)
    sub.mode = PACED
    sub.cursor = position
    sub.budget, sub.budget_at = w.burst, w.now
    add_paced(w, index)


@kernel
def squeeze(w: Any, sub: Any, feed: Any, position: int, timestamp: int) -> None:
    """Pull the time stamps of what is replayed towards the edge, so that the player does not begin with a delay."""
    edge = timestamp
    top = log_at(feed.log).highest
    at = position
    while at <= top:
        if holds(feed.log, at):
            entry = entry_at(entry_address(feed.log, at))
            if entry.arrival > w.now - sub.lag:
                break
            edge = int64(entry.timestamp)
        at += 1
    behind = signed32(edge - timestamp)
    if behind > sub.clock_rate // 10:
        sub.squeeze_from, sub.squeeze_to = timestamp, edge
        # the first packet keeps the time stamp that take_source gave it
        sub.timestamp_offset = (sub.timestamp_offset - (behind - behind // SQUEEZE)) & MASK32


@kernel
def set_source(w: Any, index: int, feed_index: int, packed: int) -> None:
    """The command SET_SOURCE: FROM_START | codec << 17 | fresh << 16 | RTX payload type << 8 | payload type."""
    sub = subscription_of(w, index)
    remove_waiting(w, index)
    sub.next_type, sub.next_rtx_type = packed & 255, (packed >> 8) & 255
    sub.next_codec = (packed >> 17) & 127
    sub.from_start = packed & FROM_START != 0
    if feed_index == 0:
        detach(w, index)
        sub.feed = 0
        return
    if (packed >> 16) & 1:
        detach(w, index)
        sub.feed, sub.fresh = 0, 1
    if sub.feed == feed_index and (sub.mode == LIVE or sub.mode == PACED) and sub.payload_type == sub.next_type:
        return
    if sub.mode == PARKED:
        sub.mode = WAITING
    start_cursor(w, index, feed_index)
