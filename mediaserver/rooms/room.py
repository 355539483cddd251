"""A room: who publishes, who watches whom. Pure control; the engine moves the media, signalling brings the people.

Viewers watch a publisher by identity, whether it is there or not: they may come before it, and stay when it leaves and
returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from mediaserver.logs import get_logger
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.seldom import Seldom
from mediaserver.transport.peer import Peer

log = get_logger("weir.rooms")
MID_SHOWN = 16  # characters of a mid, which may have 255, in a log line


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
            viewer.tell()  # the layers on offer have changed, if not what it gets


class Viewer(Participant):
    """A participant who watches one publisher."""

    def __init__(self, room: Room, identity: str, peer: Peer, target: str, subscriptions: list[Subscription]) -> None:
        super().__init__(room, identity, peer)
        self.target, self.subscriptions = target, subscriptions
        for subscription in subscriptions:
            subscription.about = self.about
            subscription.on_change = lambda changed: self.tell()
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

    disordered = Seldom()  # of all rooms: who comes again and again, in one or in many, writes few lines

    def __init__(self, name: str) -> None:
        self.name = name
        self.publishers: dict[str, Publisher] = {}
        self.joining: set[Publisher] = set()  # not connected yet
        self.viewers: set[Viewer] = set()
        self._audiences: dict[str, set[Viewer]] = {}  # by the identity that they watch

    def viewers_of(self, identity: str) -> list[Viewer]:
        """Who watches a publisher, present or not."""
        return list(self._audiences.get(identity, ()))

    def viewer_count(self, identity: str) -> int:
        """How many watch a publisher."""
        return len(self._audiences.get(identity, ()))

    def join(self, publisher: Publisher) -> None:
        """A publisher is on its way: it holds a place, and takes nobody else's before it is connected."""
        self.joining.add(publisher)

    def publish(self, publisher: Publisher) -> Publisher | None:
        """Let a publisher in; returns the one of the same identity whose place it takes."""
        self.joining.discard(publisher)
        replaced = self.publishers.get(publisher.identity)
        self.publishers[publisher.identity] = publisher
        for viewer in self.viewers_of(publisher.identity):
            viewer.attach(publisher)
        return replaced

    def watch(self, viewer: Viewer) -> None:
        """Let a viewer in."""
        self.viewers.add(viewer)
        self._audiences.setdefault(viewer.target, set()).add(viewer)
        viewer.attach(self.publishers.get(viewer.target))

    def leave(self, participant: Participant) -> None:
        """Somebody left; a publisher that was replaced does not take its successor along."""
        if isinstance(participant, Viewer):
            self._unwatch(participant)
        elif isinstance(participant, Publisher) and participant in self.joining:
            self.joining.discard(participant)
        elif self.publishers.get(participant.identity) is participant:
            del self.publishers[participant.identity]
            for viewer in self.viewers_of(participant.identity):
                viewer.attach(None)

    def _unwatch(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        audience = self._audiences.get(viewer.target, set())
        audience.discard(viewer)
        if not audience:
            self._audiences.pop(viewer.target, None)

    def review(self) -> None:
        """Now and then: look again at what the publishers send, and whether there is room for who had none."""
        for publisher in self.publishers.values():
            for track in publisher.tracks:
                track.review()
            self._warn_of_order(publisher)
        for viewer in self.viewers:
            for subscription in viewer.subscriptions:
                if subscription.state == "full":
                    subscription.update()

    def _warn_of_order(self, publisher: Publisher) -> None:
        """A line when layers of a publisher are found whose time runs backwards; not for each of many returns."""
        found = [(track.mid[:MID_SHOWN], layer.rid) for track in publisher.tracks for layer in track.new_backwards()]
        unsaid = Room.disordered.due(f"{self.name}/{publisher.identity}", time.monotonic()) if found else None
        if unsaid is not None:
            (mid, rid), *more = found
            said = {"mid": mid, "rid": rid, "more_layers": len(more), "unsaid": unsaid} | publisher.about
            log.warning("RTP time runs backwards (B-frames): viewers drop most of the pictures", **said)

    @property
    def count(self) -> int:
        """People in the room, those included who are joining."""
        return len(self.publishers) + len(self.joining) + len(self.viewers)

    def describe(self) -> dict[str, Any]:
        """The room as GET /api/rooms tells it."""
        return {"name": self.name, "participants": [self._describe(one) for one in self.publishers.values()]}

    def _describe(self, publisher: Publisher) -> dict[str, Any]:
        return {
            "identity": publisher.identity,
            "viewers": self.viewer_count(publisher.identity),
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
                "time_runs_backwards": track.runs_backwards(layer),  # B-frames: viewers drop most of the pictures
            }
            for layer in track.layers
        ],
    }
