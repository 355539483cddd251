"""From packets in any order to frames: which of them a decoder could show, and when; freezes; and what never came.

A stream's window remembers the newest WINDOW sequence numbers, widened to 64 bits; slot `number & MASK` says what came.
`advance` passes over them in order. A frame is complete when all of its packets were passed, from the one that starts
it to the marker or the next time stamp, and decodable when nothing is missing since a keyframe. The picture of a codec
with spatial layers ends at the marker, so all layers count as one frame.

A packet that is missing for GIVE_UP is given up; then nothing is decodable before the next keyframe. A keyframe that
is complete behind a gap, or that begins while one is waited for, ends the waiting for what lies before it, as in
libwebrtc's frame buffer.
"""

from __future__ import annotations

from typing import Any

from loadtest.engine.layout import ENDS, HAS, KEY, MS, PADDING, REPAIRED, STARTS, VIDEO, WINDOW
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.missing import remove
from mediacodecs.rtp import unwrap16

MASK = WINDOW - 1
GIVE_UP = 500 * MS  # ns that a packet may be missing
DROPOUT = 3000  # packets: a larger step ahead is another numbering (RFC 3550 A.1, MAX_DROPOUT)
BASE = 1 << 16  # the first sequence number of a stream lies above it, so that 0 means none
KEY_START = KEY | STARTS
LOST, UNKNOWN = 1, 2  # what a hole may be
AVERAGED = 30  # frames over which the time between frames is smoothed …
ENOUGH = 5  # … and times after which it can tell a freeze
FREEZE_FACTOR, FREEZE_MORE = 3, 150 * MS  # of freezeCount in W3C's webrtc-stats


@kernel
def begin_run(s: Any, position: int) -> None:
    """Watch sequence numbers from `position` on; nothing is known of those before."""
    s.next = position
    s.highest = position - 1
    s.missing_count = 0
    s.blocked_since = 0
    s.hole, s.waiting = UNKNOWN, 1
    s.frame_stamp = s.key_at = s.odd = -1
    s.frame_begun = s.frame_key = 0


@kernel
def position_of(s: Any, sequence: int, repaired: int, now: int) -> int:
    """The widened sequence number of a packet; -1: too far from the rest to be believed, or too old.

    A step ahead of up to DROPOUT is loss; a larger one, or one back, has to be confirmed by the next packet.
    """
    if s.first_position == 0:
        s.first_position = BASE + sequence
        begin_run(s, BASE + sequence)
        return BASE + sequence
    position = unwrap16(s.highest, sequence)
    ahead = position - s.highest
    if -WINDOW < ahead <= WINDOW:
        s.odd = -1
        return position
    if repaired:
        return -1
    if 0 < ahead <= DROPOUT:
        restart(s, position, ahead - 1, now)
        return position
    if s.odd != sequence:
        s.odd = (sequence + 1) & 0xFFFF
        return -1
    position = ((s.highest >> 16) + 2) << 16 | sequence
    restart(s, position, 0, now)
    return int64(position)


@kernel
def restart(s: Any, position: int, lost: int, now: int) -> None:
    """Go on at `position`, after `lost` packets besides those that are missing. Counts go on.

    `first_position` moves along, so that `highest - first_position + 1` stays the number of expected packets.
    """
    while s.next <= s.highest:
        pass_next(s, now)
    if s.frame_stamp >= 0:
        s.frame_begun = 0
        finish_frame(s, now)
    s.given_up += lost
    s.first_missing += lost
    s.first_position = position - (s.highest - s.first_position + 1 + lost)
    for k in range(WINDOW):
        s.marks[k] = 0
        s.arrivals[k] = 0
    begin_run(s, position)
    if lost:
        s.hole = LOST


@kernel
def note_packet(s: Any, position: int, marks: int, timestamp: int, arrival: int) -> bool:
    """Take note of a packet that `position_of` placed; False: it was there already.

    marks: STARTS, ENDS, KEY, REPAIRED, PADDING; for audio without the frames' marks. Frames that it completes count.
    """
    slot = position & MASK
    if position > s.highest:
        extend(s, position, arrival)
    elif s.marks[slot] & HAS:
        s.duplicates += 1
        return False
    elif position < s.first_position:
        s.first_position = position
    elif position < s.next:
        note_late(s, slot, marks, arrival)
    elif marks & REPAIRED or was_asked(s, position):
        s.recovered += 1
        s.first_missing += 1
    s.marks[slot] = HAS | marks
    s.stamps[slot] = timestamp
    s.arrivals[slot] = arrival
    if marks & KEY_START == KEY_START and position >= s.next:
        s.key_at = max(s.key_at, position)
    advance(s, arrival)
    return True


@kernel
def extend(s: Any, position: int, arrival: int) -> None:
    """Move the window up to a new highest position; those between are missing since `arrival`."""
    if s.next <= position - WINDOW:
        while s.next <= position - WINDOW:
            pass_next(s, arrival)
        drop_passed(s)
    for k in range(s.highest + 1, position + 1):
        s.marks[k & MASK] = 0
        s.arrivals[k & MASK] = arrival
    s.highest = position


@kernel
def note_late(s: Any, slot: int, marks: int, arrival: int) -> None:
    """A packet came that had been passed over: too late, or in time though a keyframe had made it superfluous."""
    if arrival - s.arrivals[slot] > GIVE_UP:
        return
    s.given_up -= 1
    if marks & REPAIRED:
        s.recovered += 1
    else:
        s.first_missing -= 1


@kernel
def was_asked(s: Any, position: int) -> bool:
    """Whether a NACK asked for a packet that is missing."""
    for k in range(s.missing_count):
        if s.missing[k] == position:
            return bool(s.missing_tries[k] > 0)
    return False


@kernel
def advance(s: Any, now: int) -> None:
    """Pass over all that is there in order; note since when the next one is missing."""
    s.blocked_since = 0
    while s.next <= s.highest:
        slot = s.next & MASK
        if s.marks[slot] & HAS:
            pass_packet(s, slot, now)
            s.next += 1
        elif may_leap(s):
            while s.next < s.key_at:
                pass_next(s, now)
            drop_passed(s)
        else:
            s.blocked_since = s.arrivals[slot]
            return


@kernel
def may_leap(s: Any) -> bool:
    """Whether to go on at the newest keyframe, though packets before it are missing."""
    if s.key_at <= s.next:
        return False
    gathering = s.frame_stamp >= 0 and s.frame_key == 1 and s.frame_begun == 1
    return (s.waiting == 1 and not gathering) or key_is_whole(s)


@kernel
def key_is_whole(s: Any) -> bool:
    """Whether all packets of the newest keyframe are there."""
    stamp = s.stamps[s.key_at & MASK]
    for position in range(s.key_at, s.highest + 1):
        slot = position & MASK
        marks = s.marks[slot]
        if not marks & HAS:
            return False
        if marks & PADDING:
            continue
        if s.stamps[slot] != stamp or marks & ENDS:
            return True
    return False


@kernel
def give_up(s: Any, now: int) -> None:
    """Give up the packets that have been missing for too long."""
    while s.blocked_since and now - s.blocked_since >= GIVE_UP:
        pass_next(s, now)
        advance(s, now)
    drop_passed(s)


@kernel
def abandon(s: Any, position: int, now: int) -> None:
    """Give up all that is missing before `position`, and go on there."""
    while s.next < position:
        pass_next(s, now)
    advance(s, now)
    drop_passed(s)


@kernel
def drop_passed(s: Any) -> None:
    """Ask no more for what was passed over."""
    passed = int64(0)
    while passed < s.missing_count and s.missing[passed] < s.next:
        passed += 1
    if passed:
        remove(s, 0, passed)


@kernel
def pass_next(s: Any, now: int) -> None:
    """Pass over the next position, whether its packet came or not."""
    slot = s.next & MASK
    if s.marks[slot] & HAS:
        pass_packet(s, slot, now)
    else:
        s.given_up += 1
        s.first_missing += 1
        s.hole, s.waiting = LOST, 1
        s.frame_begun = 0
    s.next += 1


@kernel
def pass_packet(s: Any, slot: int, now: int) -> None:
    """The next packet in order: it belongs to the frame being gathered, or begins another one."""
    marks = int64(s.marks[slot])
    if s.kind != VIDEO or marks & PADDING:
        return
    stamp = int64(s.stamps[slot])
    if stamp != s.frame_stamp:
        if s.frame_stamp >= 0:
            finish_frame(s, now)
        elif s.hole == LOST and marks & STARTS and s.first_frame:
            s.missed += 1  # at least one frame lay whole in the gap
        s.frame_stamp = stamp
        s.frame_begun = 1 if marks & STARTS or s.hole == 0 else 0
        s.frame_key = s.frame_arrival = 0
    elif s.hole:
        s.frame_begun = 0
    s.hole = 0
    if marks & KEY:
        s.frame_key = 1
    s.frame_arrival = max(s.frame_arrival, s.arrivals[slot])
    if marks & ENDS:
        finish_frame(s, now)


@kernel
def finish_frame(s: Any, now: int) -> None:
    """The frame being gathered is over: it counts as complete if it can be decoded, as missed if not.

    Frames before the first decodable one are not missed: the client has only just come.
    """
    if s.frame_begun and (s.frame_key or s.waiting == 0):
        complete_frame(s, now)
    else:
        s.waiting = 1
        if s.first_frame:
            s.missed += 1
    s.frame_stamp = -1
    s.frame_begun = s.frame_key = 0


@kernel
def complete_frame(s: Any, now: int) -> None:
    """A decodable frame is there at `now`."""
    if s.frame_key:
        s.keyframes += 1
        s.waiting = 0
    if s.first_frame == 0:
        s.first_frame = s.last_frame = now
    else:
        note_interval(s, max(int64(0), now - s.last_frame))
    s.last_frame = max(s.last_frame, now)
    s.frames += 1


@kernel
def note_interval(s: Any, interval: int) -> None:
    """The time since the frame before: a freeze, if it is far above the average of the newest frames."""
    if s.frames > ENOUGH and interval >= max(FREEZE_FACTOR * s.interval, s.interval + FREEZE_MORE):
        s.freezes += 1
        s.frozen += interval
        s.longest_freeze = max(s.longest_freeze, interval)
    s.interval += (interval - s.interval) // min(s.frames, AVERAGED)
