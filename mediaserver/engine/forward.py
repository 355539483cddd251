"""From a log to its live cursors: packets are taken in runs, and each subscription gets a run as one GSO train.

Subscription by subscription: its keys stay in the nearest cache, the run's payloads in the next, the arena is written
once, in order. A kernel call costs ten times what a packet costs, so everything here is about long trains: libwebrtc
splits a frame into sizes that differ by a byte or two, and padding makes them equal.

A number kept for a packet that came late and is not for this subscription leaves in a packet of one byte of padding.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import feed_of, gone, packet_of, subscription_of, transport_of
from mediaserver.engine.layout import LIVE, RUN
from mediaserver.engine.numbering import insert, late_index, leave_out, mark_empty, next_index
from mediaserver.engine.rewrite import seal, set_payload, timestamp_of, write_head
from mediaserver.engine.send import make_room, queue_message
from mediaserver.engine.sources import begin_feed_epoch, begins_keyframe, start_waiting
from packetio.log import (
    BARE_KEYFRAME,
    JOURNAL_HEAD,
    KEYFRAME,
    NO_LEVEL,
    PADDING_ONLY,
    START,
    SWITCH_UP,
    bytes_address,
    copy_parameters,
    entry_address,
    entry_at,
    fill,
    holds,
    journal_address,
    log_at,
)
from packetio.memory import load_acquire, numbers_at

PAD = 8  # bytes of RTP padding that a longer train is worth
TRAIN_BYTES = 63000  # a train must stay under 64 KB
PARAMETERS_SCRATCH = 4096  # offset in the worker's scratch of parameter sets copied from a log: nothing else is there
SPARE = RUN  # the packet slot behind the run in work, for packets made up beside it


@kernel
def load_packet(w: Any, base: int, position: int, p: Any) -> bool:
    """Copy what forwarding needs of a log entry; False when it is not held."""
    if not holds(base, position):
        return False
    entry = entry_at(entry_address(base, position))
    fill(p.entry, entry)
    p.position = position
    p.arrival = entry.arrival
    p.timestamp = int64(entry.timestamp)
    p.start = bytes_address(base, entry.at)
    p.payload = p.start + entry.payload_at
    p.length = int64(entry.length) - int64(entry.payload_at)
    p.want = p.length
    p.marks = int64(entry.marks)
    p.log = base
    return holds(base, position)


@kernel
def gather(w: Any, feed: Any, head: int) -> int:
    """Load the next run in arrival order; returns its packets. A run begins at a keyframe that somebody waits for."""
    n = 0
    while n < RUN and feed.read < head:
        position = numbers_at(journal_address(feed.log, feed.read), 1)[0]
        p = packet_of(w, n)
        if not load_packet(w, feed.log, position, p):
            w.drop_overrun += 1
            feed.overrun += 1
            feed.read += 1
            continue
        if n > 0 and ((feed.first_waiting and begins_keyframe(p)) or p.entry.epoch != packet_of(w, 0).entry.epoch):
            break
        feed.read += 1
        n += 1
    return n


@kernel
def forward_feed(w: Any, index: int) -> None:
    """Serve the live cursors of a feed up to the head of its journal."""
    feed = feed_of(w, index)
    if gone(feed):
        return
    head = load_acquire(feed.log + JOURNAL_HEAD)
    packets = log_at(feed.log).packets
    late = head - feed.read - (packets - min(packets >> 1, 64))
    if late > 0:
        feed.read += late
        feed.overrun += late
        w.drop_overrun += late
    while feed.read < head:
        n = gather(w, feed, head)
        if n == 0:
            continue
        first = packet_of(w, 0)
        if first.entry.epoch != feed.epoch & 0xFFFF:
            begin_feed_epoch(w, index, first)
        if feed.first_waiting and begins_keyframe(first):
            start_waiting(w, index, first)
        for k in range(n):
            feed.highest = max(feed.highest, packet_of(w, k).position)
        if feed.first_live:
            even_out(w, n)
            fan_out(w, feed, n)


@kernel
def even_out(w: Any, n: int) -> None:
    """Set `want` so that packets whose payloads differ by at most PAD bytes get the same size."""
    i = 0
    while i < n:
        low = high = packet_of(w, i).length
        j = i + 1
        while j < n:
            size = packet_of(w, j).length
            if max(high, size) - min(low, size) > PAD:
                break
            low, high = min(low, size), max(high, size)
            j += 1
        for k in range(i, j):
            packet_of(w, k).want = high
        i = j


@kernel
def fan_out(w: Any, feed: Any, n: int) -> None:
    """Send the run to every live cursor of the feed."""
    index = int64(feed.first_live)
    while index:
        sub = subscription_of(w, index)
        send_run(w, sub, transport_of(w, sub.transport), n, feed)
        index = int64(sub.live_next)


@kernel
def torn(feed: Any, p: Any) -> bool:
    """Whether another worker may have overwritten packet p, or its log be gone, while p was being sealed."""
    return bool(feed.layer == 0 and (not holds(p.log, p.position) or gone(feed)))


@kernel
def send_run(w: Any, sub: Any, t: Any, n: int, feed: Any) -> None:
    """Seal the run of a feed's packets for one subscription, as few messages as sizes allow."""
    make_room(w, 0)
    apart = w.gso == 0 or w.now < t.singly_until
    start = at = w.queued_bytes
    segment = int64(0)
    arrival = int64(0)
    for k in range(n):
        p = packet_of(w, k)
        if p.marks & BARE_KEYFRAME and at > start:
            queue_message(w, t, start, at, segment, arrival)
            start = at = w.queued_bytes
        index = place(w, sub, t, p)
        if index < 0:
            continue
        if at == start:
            start = at = w.queued_bytes
        size = seal_packet(w, sub, t, p, index, w.arena + at, segment if at > start and k < n - 1 else int64(0))
        if size == 0 or torn(feed, p):
            w.drop_overrun += 1
            continue
        if at > start and (size > segment or at + size - start > TRAIN_BYTES or apart):
            queue_message(w, t, start, at, segment, arrival)
            start = at
            segment = int64(0)
        if at == start:
            segment, arrival = size, p.arrival if sub.mode == LIVE else int64(0)  # only live media has a latency
        at += size
        if size < segment or apart:
            queue_message(w, t, start, at, segment, arrival)
            start = at = w.queued_bytes
    if at > start:
        queue_message(w, t, start, at, segment, arrival)
    if w.empty_count:
        send_empties(w, sub, t)


@kernel
def place(w: Any, sub: Any, t: Any, p: Any) -> int:
    """The outgoing index of a packet; -1: it is not sent to this subscription."""
    if p.position <= sub.highest:
        return place_late(w, sub, p)
    if p.marks & PADDING_ONLY or left_out(sub, p):
        leave_out(sub, p.position)
        return -1
    if p.marks & BARE_KEYFRAME:
        size = copy_parameters(p.log, w.scratch + PARAMETERS_SCRATCH)
        if size:
            send_parameters(w, sub, t, p, insert(sub, p.position), size)
    return next_index(sub, p.position)


@kernel
def place_late(w: Any, sub: Any, p: Any) -> int:
    """The number kept for a packet that came late; -1: none, or it is not for this subscription.

    Then the number is noted, to leave without payload after the run: libwebrtc asks ten times for what is missing, then
    for a keyframe. A packet of padding alone on the media's SSRC counts as received for it (RFC 3550 section 5.1).
    """
    index = late_index(sub, p.position)
    if index < 0 or not unwanted(sub, p):
        return int64(index)
    mark_empty(sub, index)
    w.empties[2 * w.empty_count], w.empties[2 * w.empty_count + 1] = index, p.timestamp
    w.empty_count += 1
    sub.dropped += 1
    return -1


@kernel
def unwanted(sub: Any, p: Any) -> bool:
    """Whether a packet has no payload or belongs to a layer above those that are being sent."""
    return bool(p.marks & PADDING_ONLY or p.entry.spatial > sub.spatial or p.entry.temporal > sub.temporal)


@kernel
def left_out(sub: Any, p: Any) -> bool:
    """Whether a packet belongs to a spatial or temporal layer that this subscription does not get.

    A higher temporal layer is entered where the stream allows it, a higher spatial layer at a keyframe.
    """
    if sub.max_spatial == 255 and sub.max_temporal == 255 and sub.spatial == 255 and sub.temporal == 255:
        return False
    e = p.entry
    spatial, temporal = int64(e.spatial), int64(e.temporal)
    if p.marks & START and spatial == 0:
        if p.marks & KEYFRAME:
            sub.spatial, sub.temporal = sub.max_spatial, sub.max_temporal
        sub.spatial = min(sub.spatial, sub.max_spatial)
        sub.temporal = min(sub.temporal, sub.max_temporal)
        if sub.temporal < temporal <= sub.max_temporal and p.marks & SWITCH_UP:
            sub.temporal = temporal
    return bool(spatial > sub.spatial or temporal > sub.temporal)


@kernel
def seal_packet(w: Any, sub: Any, t: Any, p: Any, index: int, to: int, segment: int) -> int:
    """One packet ready to leave at address `to`; returns its size. `segment`: the train's size; 0: any."""
    head = write_head(w, sub, t, p, index, to)
    set_payload(w, sub, p)
    w.padding = p.want - p.length if w.gso else 0
    short = segment - (head + p.length + w.padding + t.tag)
    if 0 < short <= PAD:
        w.padding += short
    w.padded += w.padding > 0
    size = seal(w, t, sub.ssrc, index, to, head)
    sub.packets += 1
    sub.octets += p.length
    sub.last_sent = w.now
    if index == sub.out_highest:  # what goes on after a switch goes on from the newest, not from a late one
        sub.last_timestamp = timestamp_of(sub, p.timestamp)
        if p.entry.picture_id_bits:
            sub.last_picture = (int64(p.entry.picture_id) + sub.picture_offset) & 0x7FFF
            sub.last_tl0 = (int64(p.entry.tl0) + sub.tl0_offset) & 255
    w.forwarded += 1
    w.forwarded_bytes += size
    return size


@kernel
def send_parameters(w: Any, sub: Any, t: Any, p: Any, index: int, parameters: int) -> None:
    """Send H.264 parameter sets, so many bytes in scratch, as a packet before the keyframe p, which has none."""
    make_room(w, 0)
    to = w.arena + w.queued_bytes
    marks, p.marks = p.marks, int64(0)
    head = write_head(w, sub, t, p, index, to)
    p.marks = marks
    w.prefix_size, w.padding = 0, 0
    w.body, w.body_size = w.scratch + PARAMETERS_SCRATCH, parameters
    size = seal(w, t, sub.ssrc, index, to, head)
    if size:
        queue_message(w, t, w.queued_bytes, w.queued_bytes + size, size, p.arrival)
        sub.packets += 1
        w.forwarded += 1


@kernel
def send_empties(w: Any, sub: Any, t: Any) -> None:
    """Send the numbers that were noted for late packets that are left out, each as a packet of one byte of padding."""
    p = packet_of(w, SPARE)
    strip(p)
    for k in range(w.empty_count):
        make_room(w, 0)
        to = w.arena + w.queued_bytes
        index, p.timestamp = w.empties[2 * k], w.empties[2 * k + 1]
        head = write_head(w, sub, t, p, index, to)
        w.prefix_size, w.body_size, w.padding = 0, 0, 1
        size = seal(w, t, sub.ssrc, index, to, head)
        if size:
            queue_message(w, t, w.queued_bytes, w.queued_bytes + size, size, 0)
            sub.packets += 1
            w.forwarded += 1
            w.forwarded_bytes += size
    w.empty_count = 0


@kernel
def strip(p: Any) -> None:
    """Take off a packet what the publisher said about its payload."""
    p.marks = 0
    p.entry.audio_level = p.entry.orientation = NO_LEVEL
    p.entry.descriptor_size = p.entry.capture_size = 0
