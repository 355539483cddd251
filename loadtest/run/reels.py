"""What the publishers of a scenario send, encoded before anybody joins: a reel for each media profile and layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from loadtest.clips.encode import AudioProfile, VideoProfile
from loadtest.clips.reel import Reel, make_layers
from loadtest.scenario.schema import Layer, Scenario, Video

SECONDS = 8.0  # of a clip: it begins again with a keyframe
RIDS: tuple[str, ...] = get_args(Layer)  # from low to high


class Reels:
    """Reels by media profile. `prepare` makes them; ValueError for what can't be encoded."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._video: dict[str, list[tuple[str, Reel]]] = {}
        self._audio: dict[str, Reel] = {}

    def prepare(self, goes_on: Callable[[str], bool] = lambda name: True) -> None:
        """Encode what the publishers' groups name; takes seconds, so call it in a thread.

        `goes_on` is asked before each media profile; no: the rest is not encoded.
        """
        for name in dict.fromkeys(group.media for group in self._scenario.publishers):
            if not goes_on(name):
                return
            media = self._scenario.media[name]
            self._video[name] = layers_of(media.video) if media.video else []
            if media.audio:
                self._audio[name] = Reel.from_audio(AudioProfile(bitrate=media.audio.bitrate))

    def video(self, media: str) -> list[tuple[str, Reel]]:
        """(rid, reel) of each layer, from low to high; one without simulcast, none without video."""
        return self._video[media]

    def audio(self, media: str) -> Reel | None:
        """The sound of a profile."""
        return self._audio.get(media)


def layers_of(video: Video) -> list[tuple[str, Reel]]:
    """The reels of a video track. ValueError."""
    if video.codec == "synthetic":
        return [("", Reel.synthetic(video.framerate, video.packets_per_frame, video.packet_size))]
    if video.pcap:
        try:
            return [("", Reel.from_pcap(video.pcap, video.codec))]
        except OSError as error:
            raise ValueError(f"{video.pcap}: {error.strerror}") from error
    profile = VideoProfile(
        codec=video.codec,
        width=video.width,
        height=video.height,
        framerate=video.framerate,
        bitrate=video.bitrate,
        keyframe_interval=round(video.keyframe_interval * video.framerate) if video.keyframe_interval else None,
        content=video.content,
        duration=SECONDS,
        packet_size=video.packet_size,
    )
    if video.layers == 1:
        return [("", Reel.from_video(profile))]
    return list(zip(RIDS, make_layers(profile), strict=True))
