"""What a worker tells control of a peer, within that peer's budget.

What is new is a state (media flows or not, which address, which source), so only the newest is worth telling: when the
budget is used up or the ring is full it stays marked in its record, and the tick tells it later. Nothing is lost for
good, and nobody can fill the ring for others. DTLS is repeated by its peers instead: a peer has a rate, and a few
datagrams at most in the ring that control has not taken yet, so that a stalled control wakes to everybody's flights.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import layer_of, subscription_of, transport_of
from mediaserver.engine.buckets import allow
from mediaserver.engine.layout import (
    ADDRESS_CHANGED,
    DTLS,
    DTLS_RECORDS,
    GOODBYE,
    ICE_CONNECTED,
    LAYER_NEWS,
    LAYER_PAUSED,
    LAYER_STARTED,
    MS,
    OPEN,
    PEER_NEWS,
    SOURCE_NEWS,
    SOURCE_STARTED,
    SSRC_REFUSED,
    TOLD_DTLS,
)
from mediaserver.engine.ring import emit, has_room, taken
from packetio.batch import SOCKADDR

DTLS_PAUSE = 50 * MS  # ns; a flight is 3 to 12 datagrams, repeated after 50 ms at first, then twice as long each time …
DTLS_DEPTH = 64 * DTLS_PAUSE  # … which is 60 datagrams within the 10 s of a handshake
SETTLED_PAUSE = 250 * MS  # ns; after the handshake: its last flight again, and an alert
SETTLED_DEPTH = 32 * SETTLED_PAUSE
SETTLED_SHARE = 2  # datagrams in the ring after the handshake; before: all of TOLD_DTLS
CHANGE_CIPHER_SPEC, HANDSHAKE = 20, 22  # DTLS record types (RFC 6347 4.1); an alert (21) lies between
PEER_PAUSE = 500 * MS  # ns; changes of address, goodbyes, refused SSRCs
PEER_DEPTH = 8 * PEER_PAUSE  # pairs that an aggressive agent nominates one after another
LAYER_PAUSE = 250 * MS  # ns; a layer that starts or pauses makes control look at all who watch it
LAYER_DEPTH = 64 * LAYER_PAUSE  # twice the layers that a publisher can have
SOURCE_PAUSE = 4 * MS  # ns; one word to a viewer's page
SOURCE_DEPTH = 256 * SOURCE_PAUSE
AGAIN = 5  # ticks between two looks for what could not be told
assert TOLD_DTLS & (TOLD_DTLS - 1) == 0


@kernel
def may_tell_dtls(w: Any, t: Any, first: int) -> bool:
    """Whether a DTLS datagram, whose first byte is `first`, may go up; counted if not.

    After the handshake only alerts and a repeated last flight are of use (no application data is spoken).
    """
    good = t.secured == 0 or CHANGE_CIPHER_SPEC <= first <= HANDSHAKE
    share = SETTLED_SHARE if t.secured else TOLD_DTLS
    good = good and taken(w, int64(t.dtls_told[(t.dtls_count - share) & (TOLD_DTLS - 1)]))
    pause, depth = (SETTLED_PAUSE, SETTLED_DEPTH) if t.secured else (DTLS_PAUSE, DTLS_DEPTH)
    if good and allow(t.buckets, DTLS_RECORDS, w.now, pause, depth):
        return True
    w.drop_dtls += 1
    return False


@kernel
def tell_dtls(w: Any, ti: int, t: Any, address: int, size: int) -> None:
    """Hand a DTLS datagram up, and note where in the ring it lies."""
    head = emit(w, DTLS, ti, 0, 0, address, size)
    if head:
        t.dtls_told[t.dtls_count & (TOLD_DTLS - 1)] = head
        t.dtls_count += 1


@kernel
def tell_peer(w: Any, ti: int, t: Any, op: int) -> None:
    """ICE_CONNECTED, ADDRESS_CHANGED or GOODBYE of a transport: now, or later by the tick."""
    t.untold |= 1 << op
    tell_peer_news(w, ti, t)


@kernel
def tell_peer_news(w: Any, ti: int, t: Any) -> None:
    """Tell what a transport's `untold` bits say, as far as its budget goes."""
    for op in (ICE_CONNECTED, ADDRESS_CHANGED, GOODBYE):
        if t.untold & 1 << op == 0 or not has_room(w, op):
            continue
        if op == ICE_CONNECTED or allow(t.buckets, PEER_NEWS, w.now, PEER_PAUSE, PEER_DEPTH):
            size = 0 if op == GOODBYE else SOCKADDR
            emit(w, op, ti, 0, 0, t.remote.ctypes.data, size)
            t.untold &= ~(1 << op)
    if t.untold:
        w.untold = 1


@kernel
def tell_refused(w: Any, ti: int, t: Any, ssrc: int, payload_type: int) -> None:
    """SSRC_REFUSED, which is a hint for people: not told again when there is no budget."""
    if has_room(w, SSRC_REFUSED) and allow(t.buckets, PEER_NEWS, w.now, PEER_PAUSE, PEER_DEPTH):
        emit(w, SSRC_REFUSED, ti, ssrc, payload_type, 0, 0)


@kernel
def tell_layer(w: Any, index: int, layer: Any) -> None:
    """LAYER_STARTED or LAYER_PAUSED, unless control knows: now, or later by the tick."""
    state = int64(layer.codec) << 8 | int64(layer.payload_type) if layer.active else int64(0)
    if layer.told == state:
        return
    op = LAYER_STARTED if layer.active else LAYER_PAUSED
    buckets = transport_of(w, layer.transport).buckets
    if has_room(w, op) and allow(buckets, LAYER_NEWS, w.now, LAYER_PAUSE, LAYER_DEPTH):
        emit(w, op, index, int64(layer.codec), int64(layer.payload_type), 0, 0)
        layer.told = state
    else:
        w.untold = 1


@kernel
def tell_source(w: Any, index: int, sub: Any) -> None:
    """SOURCE_STARTED of a subscription: now, or later by the tick."""
    sub.untold = 1
    buckets = transport_of(w, sub.transport).buckets
    if has_room(w, SOURCE_STARTED) and allow(buckets, SOURCE_NEWS, w.now, SOURCE_PAUSE, SOURCE_DEPTH):
        emit(w, SOURCE_STARTED, index, int64(sub.feed), 0, 0, 0)
        sub.untold = 0
    else:
        w.untold = 1


@kernel
def tell_again(w: Any) -> None:
    """Tell what could not be told when it happened; nothing is looked at when there is no such thing."""
    if w.untold == 0 or w.tick % AGAIN:
        return
    w.untold = 0
    for index in range(1, w.transport_used):
        t = transport_of(w, index)
        if t.state == OPEN and t.untold:
            tell_peer_news(w, index, t)
    for index in range(1, w.layer_used):
        layer = layer_of(w, index)
        if layer.state == OPEN:
            tell_layer(w, index, layer)
    for index in range(1, w.subscription_used):
        sub = subscription_of(w, index)
        if sub.state == OPEN and sub.untold and sub.feed:
            tell_source(w, index, sub)
