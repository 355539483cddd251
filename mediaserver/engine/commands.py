"""What control asks of a worker: records that it has filled come into force here, or are let go.

Control writes a record while it is FREE and never again until the worker has acknowledged its removal (`removal`).
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine import layout as L
from mediaserver.engine.access import feed_of, gone, layer_of, subscription_of, transport_of
from mediaserver.engine.keyframes import want_keyframe
from mediaserver.engine.layout import command_at, ring_at
from mediaserver.engine.lists import remove_waiting
from mediaserver.engine.paths import proven_by_handshake, restart_questions
from mediaserver.engine.removal import (
    REFUSED,
    forget_ssrcs,
    remove_feed,
    remove_layer,
    remove_subscription,
    remove_transport,
)
from mediaserver.engine.ring import COMMAND_SIZE, RING_SIZE, TAIL, mark
from mediaserver.engine.sources import detach, set_source, start_cursor, start_subscriptions
from mediaserver.engine.tables import drop_ufrag, put_ufrag
from packetio.log import JOURNAL_HEAD, log_at
from packetio.memory import copy_bytes, load_acquire, store_release


@kernel
def take_commands(w: Any) -> int:
    """Carry out what the command ring holds; returns how many."""
    ring = ring_at(w.commands)
    head = load_acquire(w.commands)
    done = 0
    while ring.tail < head:
        c = command_at(w.commands + RING_SIZE + (ring.tail & (w.command_slots - 1)) * COMMAND_SIZE)
        if c.op <= L.REMOVE_TRANSPORT or c.op == L.RESTART_ICE:
            transport_command(w, c.op, c.index)
        elif c.op <= L.REMOVE_FEED:
            log_command(w, c.op, c.index, c.a)
        else:
            subscription_command(w, c.op, c.index, c.a, c.b)
        store_release(w.commands + TAIL, ring.tail + 1)
        done += 1
    return done


@kernel
def transport_command(w: Any, op: int, index: int) -> None:
    """ADD_TRANSPORT, SECURE_TRANSPORT, RESTART_ICE, REMOVE_TRANSPORT."""
    t = transport_of(w, index)
    if op == L.ADD_TRANSPORT:
        t.state = L.OPEN
        put_ufrag(w, t.ufrag, index)
        w.transport_used = max(w.transport_used, index + 1)
    elif op == L.SECURE_TRANSPORT:
        t.secured = 1
        proven_by_handshake(t)
        t.next_report = t.next_twcc = w.now
        start_subscriptions(w, t)
    elif op == L.RESTART_ICE:
        if t.old_ufrag:
            drop_ufrag(w, t.old_ufrag)
        t.old_ufrag, t.old_password_size = t.ufrag, t.password_size
        copy_bytes(t.old_password.ctypes.data, t.password.ctypes.data, t.password.size)
        t.ufrag, t.password_size = t.next_ufrag, t.next_password_size
        copy_bytes(t.password.ctypes.data, t.next_password.ctypes.data, t.password.size)
        restart_questions(t)
        put_ufrag(w, t.ufrag, index)
    else:
        remove_transport(w, index)


@kernel
def log_command(w: Any, op: int, index: int, a: int) -> None:
    """ADD_LAYER, REMOVE_LAYER, ADD_FEED, REMOVE_FEED."""
    if op == L.ADD_LAYER:
        layer = layer_of(w, index)
        t = transport_of(w, layer.transport)
        layer.next = t.first_layer
        t.first_layer = index
        layer.feed = a
        layer.state = L.OPEN
        w.layer_used = max(w.layer_used, index + 1)
        open_feed(w, a)
        forget_ssrcs(t, REFUSED)
    elif op == L.REMOVE_LAYER:
        remove_layer(w, index)
    elif op == L.ADD_FEED:
        feed = feed_of(w, index)
        w.foreign_feeds += 1
        if not gone(feed):
            log_at(feed.log).readers[w.index] = index
        mark(w.news, index)  # what is appended from here on is marked by its writer; what was meanwhile is looked for
        open_feed(w, index)
    else:
        remove_feed(w, index)


@kernel
def open_feed(w: Any, index: int) -> None:
    """Begin to read a log at its live edge."""
    feed = feed_of(w, index)
    log = log_at(feed.log)
    feed.read = load_acquire(feed.log + JOURNAL_HEAD)
    feed.highest = log.highest
    feed.epoch = log.epoch
    feed.state = L.OPEN
    w.feed_used = max(w.feed_used, index + 1)


@kernel
def subscription_command(w: Any, op: int, index: int, a: int, b: int) -> None:
    """What concerns one subscription."""
    sub = subscription_of(w, index)
    if op == L.ADD_SUBSCRIPTION:
        t = transport_of(w, sub.transport)
        sub.next = t.first_subscription
        t.first_subscription = index
        sub.state = L.OPEN
        w.subscription_used = max(w.subscription_used, index + 1)
    elif op == L.SET_SOURCE:
        set_source(w, index, a, b)
    elif op == L.SET_LAYERS:
        sub.max_spatial, sub.max_temporal = a, b
        if sub.feed and (a > sub.spatial or b > sub.temporal):
            want_keyframe(w, feed_of(w, sub.feed))
    elif op == L.REQUEST_KEYFRAME:
        if sub.feed:
            want_keyframe(w, feed_of(w, sub.feed))
    elif op == L.REMOVE_SUBSCRIPTION:
        remove_subscription(w, index)
    else:
        change_cursor(w, index, op, a)


@kernel
def change_cursor(w: Any, index: int, op: int, a: int) -> None:
    """SET_PAUSED and SET_LAG: the cursor begins anew on the feed that it had or waited for."""
    sub = subscription_of(w, index)
    feed = int64(sub.target if sub.target else sub.feed)
    if op == L.SET_LAG:
        sub.lag = a
    else:
        sub.paused = a
    if op == L.SET_PAUSED:
        sub.from_start = 0  # whoever pauses has let the beginning go
    remove_waiting(w, index)
    detach(w, index)
    if feed and not sub.paused:
        sub.mode = L.WAITING
        start_cursor(w, index, feed)
    elif feed and feed != sub.feed:
        sub.feed, sub.fresh = feed, 1  # the time stamps sent so far are not this feed's
