"""A track forwarded to a viewer: which layer it gets, under which payload type, or why it gets none.

The engine's subscription is made with the viewer's answer and lives as long as the viewer; sources come and go. It
follows the highest layer that is being sent, or a wanted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mediaserver.engine.engine import EngineFull, Layer
from mediaserver.engine.engine import Subscription as EngineSubscription
from mediaserver.logs import get_logger
from mediaserver.rooms.track import Track
from mediaserver.signalling.codec_match import Codec, describe_codec, is_fall_back, match_codec
from mediaserver.signalling.offers import SubscribedMedia

log = get_logger("weir.rooms")
State = Literal["waiting", "active", "no-media", "codec", "full"]
ALL = 255  # no limit to the spatial or temporal layers
MAX_NAMED = 4  # of the viewer's codecs, in a reason
REASONS: dict[State, str] = {
    "waiting": "The publisher is not here.",
    "active": "",
    "no-media": "The publisher is sending nothing on this track.",
    "full": "The node has no room for one more.",
}


@dataclass(frozen=True)
class Fit:
    """The codec that is published, which of the viewer's takes it, and what is to be said of it (empty: nothing)."""

    sent: Codec | None
    taken: Codec | None
    sentence: str = ""

    @classmethod
    def of(cls, sent: Codec | None, offered: Sequence[Codec]) -> Fit:
        """Match them."""
        taken = match_codec(sent, list(offered)) if sent is not None else None
        if sent is None or (taken is not None and not is_fall_back(sent, taken)):
            return cls(sent, taken)
        what, names = f"The publisher sends {describe_codec(sent)}", describe_codecs(offered, sent)
        if taken is None:
            return cls(sent, taken, f"{what}, which this viewer did not offer; it takes {names}.")
        return cls(sent, taken, f"{what}; this viewer promised to take {names} only, and may fail.")


def describe_codecs(codecs: Sequence[Codec], first: Codec) -> str:
    """Codecs as a sentence names them, those of the same kind as `first` first."""
    names = dict.fromkeys(map(describe_codec, sorted(codecs, key=lambda one: one.codec != first.codec)))
    more = ["others"] if len(names) > MAX_NAMED else []
    return ", ".join([*names][:MAX_NAMED] + more) or "nothing"


class Subscription:
    """One media section of a viewer. `on_change` is called when its state or its layer changes."""

    def __init__(self, media: SubscribedMedia, engine: EngineSubscription) -> None:
        self.media, self.engine = media, engine
        self.track: Track | None = None
        self.layer: Layer | None = None
        self.wanted: str | None = None
        self.limits = (ALL, ALL)
        self.state: State = "waiting"
        self.about: dict[str, str] = {}  # room and participant, for log lines
        self.on_change: Callable[[Subscription], None] = lambda subscription: None
        self._fresh = True
        self._payload_type = -1
        self._fit = Fit(None, None)

    @property
    def fit(self) -> Fit:
        """How the viewer's codecs fit the track's; worked out again when that changes."""
        codec = self.track.codec if self.track is not None else None
        if codec is not self._fit.sent:
            self._fit = Fit.of(codec, self.media.codecs)
        return self._fit

    @property
    def reason(self) -> str:
        """Why nothing is sent, in a sentence; empty while media flows."""
        return self.fit.sentence if self.state == "codec" else REASONS[self.state]

    @property
    def notice(self) -> str:
        """What may be amiss although media flows, in a sentence; empty: nothing."""
        return self.fit.sentence if self.state == "active" else ""

    def attach(self, track: Track) -> None:
        """Take a track as the source from now on."""
        self.track, self._fresh = track, True
        self.update()

    def detach(self) -> None:
        """The publisher left: wait for its return."""
        self.track = None
        self.update()

    def select(self, rid: str | None, max_spatial: int = ALL, max_temporal: int = ALL) -> None:
        """Want one layer, or None: the highest that is being sent; and within it no more than these SVC layers."""
        self.wanted = rid
        if (max_spatial, max_temporal) != self.limits:
            self.limits = (max_spatial, max_temporal)
            self.engine.set_layers(max_spatial, max_temporal)
        self.update()

    def update(self) -> None:
        """Look again at what the track sends, and act when that changes what we should read."""
        state, layer = self._decide()
        if state == "no-media":  # it goes on by itself when media comes back
            self._note(state, self.layer)
            return
        if layer is None:
            if self.layer is not None:
                self.engine.set_source(None)
                self._fresh = True
            self._note(state, None)
            return
        codec = self.fit.taken
        assert codec is not None
        if layer is self.layer and codec.payload_type == self._payload_type:
            self._note("active", layer)
            return
        try:
            self.engine.set_source(layer, codec.payload_type, codec.rtx_payload_type, fresh=self._fresh)
        except EngineFull:
            self._stay()
            return
        self._fresh = False
        self._payload_type = codec.payload_type
        self._note("active", layer)

    def _stay(self) -> None:
        """The worker has no room for one more source: keep the one there is, unless it is another track's."""
        if self.layer is not None and not self._fresh:
            self._note("active", self.layer)
            return
        if self.layer is not None:
            self.engine.set_source(None)
        self._note("full", None)

    def _decide(self) -> tuple[State, Layer | None]:
        if self.track is None:
            return "waiting", None
        layer = self.track.best(self.wanted)
        if self.track.codec is None or layer is None:
            return "no-media", None
        if self.fit.taken is None:
            return "codec", None
        return "active", layer

    def _note(self, state: State, layer: Layer | None) -> None:
        if state == self.state and layer is self.layer:
            return
        changed = state != self.state
        self.state, self.layer = state, layer
        if changed:
            paused = state in ("codec", "full")
            write = log.warning if paused else log.info if self.notice else log.debug
            message = "subscription paused" if paused else "subscription"
            said = {"state": state, "reason": self.reason or self.notice}
            write(message, mid=self.media.mid, kind=self.media.kind, **said, **self.about)
        self.on_change(self)
