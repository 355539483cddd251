"""Letting go: a transport with all that belongs to it, a layer, a feed or a subscription, each in one step.

A removal can't be cut short: one command takes a whole tree, inside the worker and between two packets, and is
acknowledged once, by the record's state, which control reads in its own time (`engine.removals`). After it nothing of
the worker points to the record, so control may free what it held and use the index again. Until then the state is
ENDING: control reads at any time, and would take CLOSING in the middle of the work for its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import (
    FEED_SIZE,
    LAYER_SIZE,
    SUBSCRIPTION_SIZE,
    TRANSPORT_SIZE,
    feed_of,
    gone,
    layer_of,
    subscription_of,
    transport_of,
)
from mediaserver.engine.ended import note_ended
from mediaserver.engine.identify import settled
from mediaserver.engine.layout import CLOSING, ENDING, FEED, LAYER, OPEN, SUBSCRIPTION, TRANSPORT
from mediaserver.engine.lists import remove_waiting
from mediaserver.engine.paths import drop_paths
from mediaserver.engine.ring import wake
from mediaserver.engine.rtcp_out import goodbye
from mediaserver.engine.send import flush
from mediaserver.engine.sources import detach
from mediaserver.engine.tables import drop_ufrag
from packetio.log import log_at
from packetio.memory import numbers_at, store_release
from packetio.native import srtp_remove_stream

REFUSED = int64(-1)  # what an SSRC that no layer was found for refers to
for record in (TRANSPORT, LAYER, FEED, SUBSCRIPTION):
    assert record.fields is not None and record.fields["state"][1] == 0, "a record begins with its state"


@kernel
def acknowledge(w: Any, address: int) -> None:
    """Give the record at `address` back to control. The last touch: control may clear it at once."""
    store_release(address, CLOSING)
    wake(w, w.control_wake)


@kernel
def remove_transport(w: Any, index: int) -> None:
    """Say goodbye to a peer and let go of its subscriptions, its layers and their feeds."""
    t = transport_of(w, index)
    if t.secured:
        goodbye(w, index)
    flush(w)  # what is queued points into the record
    at = int64(t.first_subscription)
    while at:
        following = int64(subscription_of(w, at).next)
        let_go(w, at)
        at = following
    layers = int64(t.first_layer)
    at = layers
    while at:
        close_layer(w, at)
        at = int64(layer_of(w, at).next)
    if layers:
        release_readers(w)
    t.first_layer = t.first_subscription = 0
    drop_ufrag(w, t.ufrag)
    if t.old_ufrag:
        drop_ufrag(w, t.old_ufrag)
    note_ended(w, t)
    drop_paths(w, index, t)
    t.secured = 0
    acknowledge(w, w.transports + index * TRANSPORT_SIZE)


@kernel
def remove_layer(w: Any, index: int) -> None:
    """Let go of one layer and its own feed; the transport goes on without its SSRCs."""
    t = transport_of(w, layer_of(w, index).transport)
    unlink_layer(w, t, index)
    forget_ssrcs(t, index)
    close_layer(w, index)
    release_readers(w)
    acknowledge(w, w.layers + index * LAYER_SIZE)


@kernel
def remove_feed(w: Any, index: int) -> None:
    """Stop reading a log that another worker writes."""
    close_feed(w, index)
    release_readers(w)
    acknowledge(w, w.feeds + index * FEED_SIZE)


@kernel
def remove_subscription(w: Any, index: int) -> None:
    """Let go of one subscription; the transport goes on without it."""
    sub = subscription_of(w, index)
    t = transport_of(w, sub.transport)
    flush(w)
    let_go(w, index)
    unlink_subscription(w, t, index)
    if t.secured:
        srtp_remove_stream(t.outbound, network_order(sub.ssrc))
        srtp_remove_stream(t.outbound, network_order(sub.rtx_ssrc))
    acknowledge(w, w.subscriptions + index * SUBSCRIPTION_SIZE)


@kernel
def let_go(w: Any, index: int) -> None:
    """Take a subscription out of all lists but its transport's."""
    remove_waiting(w, index)
    detach(w, index)
    sub = subscription_of(w, index)
    sub.feed = 0
    sub.state = ENDING


@kernel
def close_layer(w: Any, index: int) -> None:
    """Close a layer and its own feed; who reads it is released after."""
    layer = layer_of(w, index)
    layer.state = ENDING
    layer.active = 0
    close_feed(w, int64(layer.feed))


@kernel
def close_feed(w: Any, index: int) -> None:
    """Stop reading a log; what was listed of its news is not looked at any more."""
    feed = feed_of(w, index)
    feeds = numbers_at(w.dirty, w.feed_count)
    for k in range(w.dirty_count):
        if feeds[k] == index:
            feeds[k] = 0  # feed 0 is never open
    feed.dirty = 0
    if feed.layer == 0:
        if not gone(feed):
            log_at(feed.log).readers[w.index] = 0
        w.foreign_feeds -= 1
    feed.state = ENDING


@kernel
def release_readers(w: Any) -> None:
    """Park every subscription whose feed is closing, and end every wait for one."""
    for index in range(1, w.subscription_used):
        sub = subscription_of(w, index)
        if sub.state != OPEN:
            continue
        if sub.target and feed_of(w, sub.target).state == ENDING:
            remove_waiting(w, index)
        if sub.feed and feed_of(w, sub.feed).state == ENDING:
            detach(w, index)
            sub.feed = 0


@kernel
def unlink_layer(w: Any, t: Any, index: int) -> None:
    """Take a layer off its transport."""
    if t.first_layer == index:
        t.first_layer = layer_of(w, index).next
        return
    at = int64(t.first_layer)
    while at and layer_of(w, at).next != index:
        at = int64(layer_of(w, at).next)
    if at:
        layer_of(w, at).next = layer_of(w, index).next


@kernel
def unlink_subscription(w: Any, t: Any, index: int) -> None:
    """Take a subscription off its transport."""
    if t.first_subscription == index:
        t.first_subscription = subscription_of(w, index).next
        return
    at = int64(t.first_subscription)
    while at and subscription_of(w, at).next != index:
        at = int64(subscription_of(w, at).next)
    if at:
        subscription_of(w, at).next = subscription_of(w, index).next


@kernel
def forget_ssrcs(t: Any, layer_index: int) -> None:
    """Forget the SSRCs bound to a layer (REFUSED: those bound to none), libsrtp's streams of them included.

    So a peer may add and remove tracks for as long as it likes, and an SSRC that no layer was found for is looked at
    again when there is a new one.
    """
    k = int64(0)
    while k < t.ssrc_count:
        reference = settled(int64(t.ssrc_layers[k]))
        mine = reference == REFUSED if layer_index == REFUSED else reference >= 0 and reference >> 1 == layer_index
        if not mine:
            k += 1
            continue
        ssrc, last = int64(t.ssrcs[k]), t.ssrc_count - 1
        t.ssrcs[k], t.ssrc_layers[k], t.ssrc_looks[k] = t.ssrcs[last], t.ssrc_layers[last], t.ssrc_looks[last]
        t.ssrc_count = last
        forget_stream(t, ssrc)


@kernel
def forget_stream(t: Any, ssrc: int) -> None:
    """Let libsrtp forget an SSRC of the peer, and RTCP that came from it."""
    t.ssrc_total -= 1
    if t.secured:
        srtp_remove_stream(t.inbound, network_order(ssrc))
    for k in range(t.rtcp_ssrc_count):
        if int64(t.rtcp_ssrcs[k]) == ssrc:
            t.rtcp_ssrc_count -= 1
            t.rtcp_ssrcs[k] = t.rtcp_ssrcs[t.rtcp_ssrc_count]
            return


@kernel
def network_order(ssrc: int) -> Any:
    """An SSRC as libsrtp keeps it: its bytes the other way round."""
    return np.uint32((ssrc & 255) << 24 | (ssrc >> 8 & 255) << 16 | (ssrc >> 16 & 255) << 8 | ssrc >> 24)
