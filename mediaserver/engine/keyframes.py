"""Keyframe requests towards publishers: joined, throttled, and repeated until a keyframe comes.

Any number of readers may want a keyframe of a layer; one request is outstanding (PLI, RFC 4585 section 6.3.1). A reader
in another worker or process sets the log's keyframe_wanted word, which the layer's own worker takes. Chromium sends
about one keyframe in 12 s of its own accord, and a PLI may be lost, so the request is repeated while media flows.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp_write import write_pli
from mediaserver.engine.access import gone, layer_of, transport_of
from mediaserver.engine.layout import OPEN, SECOND, VIDEO
from mediaserver.engine.ring import wake
from mediaserver.engine.rtcp_out import ROOM, begin_compound, send_rtcp
from packetio.log import KEYFRAME_WANTED, log_at
from packetio.memory import bytes_at, load_acquire, store_release

PATIENCE = 30 * SECOND  # ns without media after which a request is not repeated


@kernel
def request_keyframe(w: Any, layer_index: int) -> None:
    """Ask the publisher of a video layer for a keyframe: at once, or as soon as the interval allows."""
    layer = layer_of(w, layer_index)
    if layer.state != OPEN or layer.kind != VIDEO:
        return
    layer.keyframe_pending = 1
    send_pli(w, layer)


@kernel
def send_pli(w: Any, layer: Any) -> None:
    """Send one PLI, unless one was sent within the interval or the SSRC is not known yet."""
    if layer.ssrc < 0 or w.now - layer.keyframe_asked < w.keyframe_interval:
        return
    t = transport_of(w, layer.transport)
    at = begin_compound(w, t, 0)
    if send_rtcp(w, t, write_pli(bytes_at(w.scratch, ROOM), at, t.rtcp_ssrc, layer.ssrc)):
        layer.keyframe_asked = w.now
        layer.plis_sent += 1
        w.pli_out += 1


@kernel
def keyframe_came(layer: Any) -> None:
    """A keyframe of the layer begins: the request is answered."""
    layer.keyframe_pending = 0


@kernel
def keyframe_tick(w: Any, layer_index: int) -> None:
    """Take what other readers asked for, and repeat a request that is not answered yet."""
    layer = layer_of(w, layer_index)
    if layer.kind != VIDEO:
        return
    if load_acquire(layer.log + KEYFRAME_WANTED):
        store_release(layer.log + KEYFRAME_WANTED, 0)
        request_keyframe(w, layer_index)
    elif layer.keyframe_pending and w.now - log_at(layer.log).last_arrival < PATIENCE:
        send_pli(w, layer)


@kernel
def want_keyframe(w: Any, feed: Any) -> None:
    """A reader of this feed needs a keyframe; a log of another worker is told so, once until that has taken it."""
    if feed.layer:
        request_keyframe(w, int64(feed.layer))
    elif not gone(feed) and load_acquire(feed.log + KEYFRAME_WANTED) == 0:
        store_release(feed.log + KEYFRAME_WANTED, 1)
        if feed.owner_wake > 0:
            wake(w, int64(feed.owner_wake))
