"""Linked lists through records: who reads a feed live, who waits for its keyframe, whose cursor is paced.

Links are indices, 0 is the end. Each list is its own pair of link fields, so a subscription can be live on one feed and
wait for another.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.kernel import kernel
from mediaserver.engine.access import feed_of, subscription_of


@kernel
def add_live(w: Any, index: int, feed_index: int) -> None:
    """Let a subscription's live cursor read a feed."""
    feed, sub = feed_of(w, feed_index), subscription_of(w, index)
    sub.live_previous = 0
    sub.live_next = feed.first_live
    if feed.first_live:
        subscription_of(w, feed.first_live).live_previous = index
    feed.first_live = index
    feed.live_count += 1


@kernel
def remove_live(w: Any, index: int) -> None:
    """Take a live cursor off its feed."""
    sub = subscription_of(w, index)
    feed = feed_of(w, sub.feed)
    if sub.live_previous:
        subscription_of(w, sub.live_previous).live_next = sub.live_next
    else:
        feed.first_live = sub.live_next
    if sub.live_next:
        subscription_of(w, sub.live_next).live_previous = sub.live_previous
    sub.live_next = sub.live_previous = 0
    feed.live_count -= 1


@kernel
def add_waiting(w: Any, index: int, feed_index: int) -> None:
    """Let a subscription wait for the next keyframe of a feed."""
    feed, sub = feed_of(w, feed_index), subscription_of(w, index)
    sub.target = feed_index
    sub.wait_previous = 0
    sub.wait_next = feed.first_waiting
    if feed.first_waiting:
        subscription_of(w, feed.first_waiting).wait_previous = index
    feed.first_waiting = index


@kernel
def remove_waiting(w: Any, index: int) -> None:
    """Stop waiting, if it does."""
    sub = subscription_of(w, index)
    if sub.target == 0:
        return
    if sub.wait_previous:
        subscription_of(w, sub.wait_previous).wait_next = sub.wait_next
    else:
        feed_of(w, sub.target).first_waiting = sub.wait_next
    if sub.wait_next:
        subscription_of(w, sub.wait_next).wait_previous = sub.wait_previous
    sub.wait_next = sub.wait_previous = sub.target = 0


@kernel
def add_paced(w: Any, index: int) -> None:
    """Put a subscription among the paced cursors."""
    sub = subscription_of(w, index)
    sub.paced_previous = 0
    sub.paced_next = w.first_paced
    if w.first_paced:
        subscription_of(w, w.first_paced).paced_previous = index
    w.first_paced = index


@kernel
def remove_paced(w: Any, index: int) -> None:
    """Take a subscription from among the paced cursors."""
    sub = subscription_of(w, index)
    if sub.paced_previous:
        subscription_of(w, sub.paced_previous).paced_next = sub.paced_next
    else:
        w.first_paced = sub.paced_next
    if sub.paced_next:
        subscription_of(w, sub.paced_next).paced_previous = sub.paced_previous
    sub.paced_next = sub.paced_previous = 0
