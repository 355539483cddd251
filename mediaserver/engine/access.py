"""From an index to a record: the only places that do address arithmetic on the engine's tables."""

from __future__ import annotations

from typing import Any

from mediacodecs.kernel import kernel
from mediaserver.engine.layout import (
    FEED,
    LAYER,
    PACKET,
    SUBSCRIPTION,
    TRANSPORT,
    feed_at,
    layer_at,
    packet_at,
    subscription_at,
    transport_at,
)
from packetio.log import GENERATION
from packetio.memory import load_acquire

TRANSPORT_SIZE, LAYER_SIZE, FEED_SIZE = TRANSPORT.itemsize, LAYER.itemsize, FEED.itemsize
SUBSCRIPTION_SIZE, PACKET_SIZE = SUBSCRIPTION.itemsize, PACKET.itemsize


@kernel
def transport_of(w: Any, index: int) -> Any:
    """The TRANSPORT record of an index."""
    return transport_at(w.transports + index * TRANSPORT_SIZE)


@kernel
def layer_of(w: Any, index: int) -> Any:
    """The LAYER record of an index."""
    return layer_at(w.layers + index * LAYER_SIZE)


@kernel
def feed_of(w: Any, index: int) -> Any:
    """The FEED record of an index."""
    return feed_at(w.feeds + index * FEED_SIZE)


@kernel
def gone(feed: Any) -> bool:
    """Whether the log that this feed was opened for is no more: its place may be empty or another's.

    Only another worker's can be: a worker's own feeds are closed before their log is freed.
    """
    return bool(feed.layer == 0 and load_acquire(feed.log + GENERATION) != feed.generation)


@kernel
def subscription_of(w: Any, index: int) -> Any:
    """The SUBSCRIPTION record of an index."""
    return subscription_at(w.subscriptions + index * SUBSCRIPTION_SIZE)


@kernel
def packet_of(w: Any, k: int) -> Any:
    """The k-th packet of the run being forwarded."""
    return packet_at(w.packets + k * PACKET_SIZE)
