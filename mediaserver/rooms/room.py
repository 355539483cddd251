"""A room: who publishes, who watches whom. Pure control; the engine moves the media, signalling brings the people.

Viewers watch a publisher by identity, whether it is there or not: they may come before it, and stay when it leaves and
returns.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from mediaserver.logs import get_logger
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.transport.peer import Peer

log = get_logger("weir.rooms")


def stream_name(room: str, identity: str) -> str:
    """The CNAME and msid stream of a publisher: the same for audio and video, and after a return."""
    return hashlib.sha256(f"{room}\0{identity}".encode()).hexdigest()[:16]


class Participant:
    """Somebody with a peer in a room, from the join to the end."""

    def __init__(self, room: Room, identity: str, peer: Peer) -> None:
        self.room, self.identity, self.peer = room, identity, peer

    @property
    def about(self) -> dict[str, str]:
        """What a log line about this participant says."""
        return {"room": self.room.name, "participant": self.identity}


class Publisher(Participant):
    """A participant who publishes."""

    def __init__(self, room: Room, identity: str, peer: Peer, tracks: list[Track]) -> None:
        super().__init__(room, identity, peer)
        self.tracks = tracks
        for track in tracks:
            track.on_change = self._on_track

    def _on_track(self, track: Track) -> None:
        for viewer in self.room.viewers_of(self.identity):
            for subscription in viewer.subscriptions:
                if subscription.track is track:
                    subscription.update()
            viewer.tell()


class Viewer(Participant):
    """A participant who watches one publisher."""

    def __init__(self, room: Room, identity: str, peer: Peer, target: str, subscriptions: list[Subscription]) -> None:
        super().__init__(room, identity, peer)
        self.target, self.subscriptions = target, subscriptions
        self.listeners: set[asyncio.Event] = set()  # set when something about the subscriptions changes

    def tell(self) -> None:
        """Something changed: wake whoever listens."""
        for listener in self.listeners:
            listener.set()

    def attach(self, publisher: Publisher | None) -> None:
        """Take the publisher's tracks, the first of each kind for the first section of that kind, and so on."""
        tracks = list(publisher.tracks) if publisher is not None else []
        for subscription in self.subscriptions:
            track = next((track for track in tracks if track.kind == subscription.media.kind), None)
            if track is None:
                subscription.detach()
            else:
                tracks.remove(track)
                subscription.attach(track)
        self.tell()


class Room:
    """The people in one room."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.publishers: dict[str, Publisher] = {}
        self.viewers: set[Viewer] = set()

    def viewers_of(self, identity: str) -> list[Viewer]:
        """Who watches a publisher, present or not."""
        return [viewer for viewer in self.viewers if viewer.target == identity]

    def publish(self, publisher: Publisher) -> Publisher | None:
        """Let a publisher in; returns the one of the same identity whose place it takes."""
        replaced = self.publishers.get(publisher.identity)
        self.publishers[publisher.identity] = publisher
        for viewer in self.viewers_of(publisher.identity):
            viewer.attach(publisher)
        return replaced

    def watch(self, viewer: Viewer) -> None:
        """Let a viewer in."""
        self.viewers.add(viewer)
        viewer.attach(self.publishers.get(viewer.target))

    def leave(self, participant: Participant) -> None:
        """Somebody left; a publisher that was replaced does not take its successor along."""
        if isinstance(participant, Viewer):
            self.viewers.discard(participant)
        elif self.publishers.get(participant.identity) is participant:
            del self.publishers[participant.identity]
            for viewer in self.viewers_of(participant.identity):
                viewer.attach(None)

    @property
    def count(self) -> int:
        """People in the room."""
        return len(self.publishers) + len(self.viewers)

    def describe(self) -> dict[str, Any]:
        """The room as GET /api/rooms tells it."""
        return {"name": self.name, "participants": [self._describe(one) for one in self.publishers.values()]}

    def _describe(self, publisher: Publisher) -> dict[str, Any]:
        return {
            "identity": publisher.identity,
            "viewers": len(self.viewers_of(publisher.identity)),
            "tracks": [describe_track(track) for track in publisher.tracks],
        }


def describe_track(track: Track) -> dict[str, Any]:
    """A track as the HTTP API tells it."""
    return {
        "kind": track.kind,
        "codec": track.codec.name if track.codec is not None else None,
        "layers": [
            {
                "rid": layer.rid,
                "active": layer.active,
                "width": layer.width,
                "height": layer.height,
                "bitrate": track.meters[layer].bitrate(),
            }
            for layer in track.layers
        ],
    }
