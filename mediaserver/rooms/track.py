"""A published track: its layers, its codec, and which layer is the best that is being sent."""

from __future__ import annotations

import time
from collections.abc import Callable

from mediaserver.engine.engine import Layer
from mediaserver.signalling.codec_match import Codec
from mediaserver.signalling.offers import PublishedMedia

BACKWARDS = 3  # steps back in time between three looks, a second apart, that are no chance: B-frames, at 2 pictures a s
RATE_SECONDS = 1.0  # seconds over which a layer's bitrate is measured, at least


class Meter:
    """The bitrate of one layer, from two readings of its byte counter."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.at, self.bytes, self.rate = time.monotonic(), 0, 0.0

    def bitrate(self) -> int:
        """Bits a second of late; 0 when nothing flows."""
        now, total = time.monotonic(), self.layer.received_bytes()
        if now - self.at >= RATE_SECONDS:
            self.rate = (total - self.bytes) * 8 / (now - self.at)
            self.at, self.bytes = now, total
        return int(self.rate) if self.layer.active else 0


class Order:
    """Whether the pictures of one layer are sent in another order than they are shown in: it has B-frames.

    WebRTC's receivers show none that is older than one shown before, so most of the pictures are lost there: of 348
    with two B-frames in a row, 46 were decoded.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.runs_backwards = self.told = False
        self._counts = (layer.backwards,) * 3  # at the newest looks

    def look(self) -> bool:
        """Look again; whether this is the first time that its RTP time runs backwards."""
        self._counts = (*self._counts[1:], self.layer.backwards)
        self.runs_backwards = self._counts[2] - self._counts[0] >= BACKWARDS
        first = self.runs_backwards and not self.told
        self.told |= first
        return first


class Track:
    """One media section of a publisher. `on_change` is called when what it sends has changed."""

    def __init__(self, media: PublishedMedia, layers: list[Layer]) -> None:
        self.mid, self.kind, self.layers = media.mid, media.kind, layers
        self.codecs: dict[int, Codec] = {codec.payload_type: codec for codec in media.codecs}
        self.codec: Codec | None = None
        self.on_change: Callable[[Track], None] = lambda track: None
        self.meters = {layer: Meter(layer) for layer in layers}
        self.orders = {layer: Order(layer) for layer in layers if media.kind == "video"}
        self._ladder: list[Layer] = []
        for layer in layers:
            layer.on_started = self._on_started
            layer.on_paused = self._on_paused

    def _on_started(self, codec: int, payload_type: int) -> None:
        self.codec = self.codecs.get(payload_type, self.codec)
        self._changed()

    def _on_paused(self) -> None:
        self._changed()

    def _changed(self) -> None:
        self._ladder = self.ladder()
        self.on_change(self)

    def review(self) -> None:
        """Now and then: sizes become known, or change, without a layer starting or pausing."""
        if self.ladder() != self._ladder:
            self._changed()

    def new_backwards(self) -> list[Layer]:
        """Once a second: the layers whose RTP time runs backwards, which has not been told yet."""
        return [layer for layer, order in self.orders.items() if order.look()]

    def runs_backwards(self, layer: Layer) -> bool:
        """Whether a layer's RTP time runs backwards from picture to picture."""
        return layer in self.orders and self.orders[layer].runs_backwards

    def ladder(self) -> list[Layer]:
        """The layers that are being sent, lowest first.

        By pixels and then bitrate (in octaves, so that neighbours do not change places all the time); in the offer's
        order as long as a stream has not told its size.
        """
        active = [layer for layer in self.layers if layer.active]
        if not all(layer.width * layer.height for layer in active):
            return active
        return sorted(active, key=lambda layer: (layer.width * layer.height, self.meters[layer].bitrate().bit_length()))

    def best(self, wanted: str | None) -> Layer | None:
        """The layer for somebody who wants a rid (None: the highest): that one while it is sent, else the next lower.

        When only higher ones are sent, the lowest of these. None: nothing is being sent.
        """
        ladder = self.ladder()
        if not ladder or wanted is None:
            return ladder[-1] if ladder else None
        target = next((layer for layer in self.layers if layer.rid == wanted), None)
        if target is None or target in ladder:
            return target or ladder[-1]
        lower = [layer for layer in ladder if self._is_lower(layer, target)]
        return lower[-1] if lower else ladder[0]

    def _is_lower(self, layer: Layer, target: Layer) -> bool:
        """By the sizes that both had when they were sent, else by the offer's order."""
        if layer.width and target.width:
            return layer.width * layer.height < target.width * target.height
        return self.layers.index(layer) < self.layers.index(target)

    def has_rid(self, rid: str) -> bool:
        """Whether a layer bears this rid."""
        return any(layer.rid == rid for layer in self.layers)
