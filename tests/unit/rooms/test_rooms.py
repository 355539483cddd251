"""Who is in a room: publishers and their audiences, replacement, departures. Peers of a real engine, not connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine
from mediaserver.rooms.room import Publisher, Room, Viewer, stream_name
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.signalling.codec_match import Codec
from mediaserver.signalling.offers import Encoding, PublishedMedia, SubscribedMedia
from mediaserver.transport.peer import Handshakes, Patience, Peer
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from tests.unit.engine.peers import small_config

KINDS = {"audio": L.AUDIO, "video": L.VIDEO}
RATES = {"audio": 48000, "video": 90000}


class People:
    """Makes participants of one room."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.room = engine, Room("lobby")
        self.contexts = DtlsContexts(Certificate.generate())
        self.handshakes = Handshakes(100, lambda seconds: None)
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        self.peers.append(Peer(self.engine, self.engine.workers[0], self.contexts, self.handshakes, Patience(60, 60)))
        return self.peers[-1]

    def publisher(self, identity: str, *kinds: str) -> Publisher:
        peer = self.peer()
        tracks = []
        for at, kind in enumerate(kinds):
            layer = peer.transport.add_layer(
                kind=KINDS[kind], mid=str(at), rid=None, ssrc=None, rtx_ssrc=None, clock_rate=RATES[kind]
            )
            codec = Codec(1, "x", 100 + at, RATES[kind])
            tracks.append(
                Track(PublishedMedia(str(at), kind, at, [codec], False, {}, [Encoding()], None, None), [layer])
            )
        publisher = Publisher(self.room, identity, peer, tracks)
        self.room.join(publisher)
        return publisher

    def viewer(self, target: str, *kinds: str) -> Viewer:
        peer = self.peer()
        subscriptions = []
        for at, kind in enumerate(kinds):
            made = peer.transport.add_subscription(kind=KINDS[kind], mid=str(at), cname="x", clock_rate=RATES[kind])
            subscriptions.append(Subscription(SubscribedMedia(str(at), kind, at, [], False, {}), made))
        viewer = Viewer(self.room, "somebody", peer, target, subscriptions)
        self.room.watch(viewer)
        return viewer


@pytest.fixture
async def people() -> AsyncIterator[People]:
    engine = Engine(small_config())
    await engine.start()
    made = People(engine)
    yield made
    await asyncio.wait_for(asyncio.gather(*(peer.close() for peer in made.peers)), 10)
    await engine.stop()


def sources(viewer: Viewer) -> list[str | None]:
    """The mids of the tracks that a viewer's sections have."""
    return [one.track.mid if one.track is not None else None for one in viewer.subscriptions]


async def test_sections_get_the_tracks_of_their_kind_in_order(people: People) -> None:
    viewer = people.viewer("alice", "video", "audio", "video", "video")
    assert sources(viewer) == [None] * 4
    people.room.publish(people.publisher("alice", "audio", "video", "video"))
    assert sources(viewer) == ["1", "0", "2", None]


async def test_publisher_counts_from_its_join_but_is_seen_once_connected(people: People) -> None:
    viewer = people.viewer("alice", "audio")
    publisher = people.publisher("alice", "audio")
    assert people.room.count == 2 and sources(viewer) == [None]
    assert people.room.describe()["participants"] == []
    assert people.room.publish(publisher) is None
    assert people.room.count == 2 and sources(viewer) == ["0"]


async def test_newer_publisher_takes_the_place_and_the_older_ones_leaving_changes_nothing(people: People) -> None:
    viewer = people.viewer("alice", "audio")
    old, new = people.publisher("alice", "audio"), people.publisher("alice", "audio")
    people.room.publish(old)
    assert people.room.publish(new) is old
    people.room.leave(old)
    assert viewer.subscriptions[0].track is new.tracks[0]
    people.room.leave(new)
    assert sources(viewer) == [None] and people.room.count == 1


async def test_failed_join_leaves_the_running_publisher_alone(people: People) -> None:
    viewer = people.viewer("alice", "audio")
    running, failed = people.publisher("alice", "audio"), people.publisher("alice", "audio")
    people.room.publish(running)
    people.room.leave(failed)
    assert viewer.subscriptions[0].track is running.tracks[0] and people.room.count == 2


async def test_audiences_are_counted_by_publisher(people: People) -> None:
    first, second = people.viewer("alice", "audio"), people.viewer("alice", "audio")
    people.viewer("bob", "audio")
    assert (people.room.viewer_count("alice"), people.room.viewer_count("bob"), people.room.viewer_count("x")) == (
        2,
        1,
        0,
    )
    for viewer in (first, second, second):
        people.room.leave(viewer)
    assert people.room.viewer_count("alice") == 0 and people.room.count == 1


async def test_listeners_hear_of_changes(people: People) -> None:
    viewer = people.viewer("alice", "audio")
    news = asyncio.Event()
    viewer.listeners.add(news)
    people.room.publish(people.publisher("alice", "audio"))
    assert news.is_set()


def test_stream_names_are_short_and_the_same_after_a_return_and_others_elsewhere() -> None:
    names = [stream_name("r", "alice"), stream_name("r", "alice"), stream_name("r", "bob"), stream_name("ra", "lice")]
    assert names[0] == names[1] and len(set(names)) == 3
    assert all(len(name) <= 32 and name.isalnum() for name in names)
