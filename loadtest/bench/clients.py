"""The benchmark's clients: a fixed load of exact size on the load test's engine, which has them after the handshakes.

A publisher sends 250 video packets/s of 1,100 bytes in 25 frames/s and 50 Opus packets/s, all of it synthetic, and only
in windows. Of a room's many subscribers few open and compare what they get; the others' packets are only counted, so
that the clients' core is not what limits the server. Publishers have an engine of their own, whose thread goes before
the subscribers', so that their packets leave evenly however much comes. Offers ask for little and never for more.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from loadtest.clips.reel import Reel
from loadtest.drivers.base import Accepted
from loadtest.drivers.whip_whep import WhipWhep
from loadtest.engine.engine import ClientEngine
from loadtest.engine.layout import AUDIO, LATENCY_BUCKETS, MAX_STREAMS, VIDEO
from loadtest.engine.media import media_of
from loadtest.engine.sources import ENDLESS, begin_source
from loadtest.transport.offers import Features, PublishSpec, Remote, Ssrcs, publish_offer, read_answer, watch_offer
from loadtest.transport.peer import JoinError, Peer
from mediacodecs.extensions import AUDIO_LEVEL, MID, TWCC
from mediacodecs.frame import OPUS
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from packetio.srtp import CM80, GCM

GCM_ONLY, CM_ONLY = (GCM,), (CM80,)
SECOND = 1_000_000_000
FRAMERATE, AUDIO_RATE = 25, 50  # frames a second
PACKETS_A_FRAME, VIDEO_PAYLOAD, AUDIO_PAYLOAD = 10, 1100, 80  # payloads in bytes
PUBLISHED = Features(extensions=frozenset({AUDIO_LEVEL, MID, TWCC}))
WATCHED = Features(codecs=("vp8",), extensions=frozenset({AUDIO_LEVEL, MID}))
COMPARED = 3  # bits of CLIENT.opened: video and sound
SOON = 5_000_000  # ns after which a window begins: no publisher is late from the start
JOIN_TIMEOUT = 20.0  # seconds for ICE and DTLS
LEAVING_AT_ONCE = 16
POLL = 0.001  # seconds between looks at what has come


class Session:
    """What publishers and subscribers share: a transport, a session on the server, a client of an engine."""

    def __init__(self, engine: ClientEngine, peer: Peer, handle: str, index: int) -> None:
        self.engine, self.peer, self.handle, self.index = engine, peer, handle, index

    @property
    def row(self) -> Any:
        """The CLIENT record."""
        return self.engine.clients.rows[self.index]


class Publisher(Session):
    """A WHIP session. It sends in windows: see `begin`."""

    framerate = FRAMERATE

    @property
    def sources(self) -> list[Any]:
        """The SOURCE records."""
        return self.engine.sources_of(self.index)

    def begin(self, *, burst: bool, frames: int = ENDLESS, phase: int = 0) -> None:
        """Send from now on, `phase` ns later: so many frames and sound for as long, or without end."""
        at = time.monotonic_ns() + SOON + phase
        for source in self.sources:
            sound = int(source.kind) == AUDIO
            count = frames * AUDIO_RATE // self.framerate if sound and frames != ENDLESS else frames
            source.burst = int(burst)
            begin_source(source, at + sound * SECOND // AUDIO_RATE // 3, frames=count)

    @property
    def sent(self) -> int:
        """Packets sent, retransmissions left out."""
        return sum(int(source.packets) for source in self.sources)

    @property
    def running(self) -> bool:
        """Whether the window goes on."""
        return any(source.running for source in self.sources)

    @property
    def late(self) -> int:
        """How late a packet of this window left at most, in ns."""
        return max(int(source.late) for source in self.sources)

    def want_keyframe(self) -> None:
        """Let the next frame be a keyframe."""
        for source in self.sources:
            source.want_key = int(source.kind == VIDEO)


class Subscriber(Session):
    """A WHEP session."""

    async def wait(self, *, frame: bool, timeout: float) -> None:
        """Until the first packet has come, or, for one that opens them, the first whole keyframe.

        JoinError after `timeout` seconds.
        """
        until, times = time.monotonic() + timeout, self.peer.timings
        while not (self._first_frame() if frame else int(self.row.first_packet)):
            if time.monotonic() > until:
                raise JoinError(f"no {'keyframe' if frame else 'packet'} within {timeout:.0f} s", "media")
            await asyncio.sleep(POLL)
        times.first_packet, times.first_frame = int(self.row.first_packet), self._first_frame()

    def _first_frame(self) -> int:
        streams, row = self.engine.streams.rows, self.row
        return max((int(streams[int(n)].first_frame) for n in row.streams[: int(row.stream_count)]), default=0)


@dataclass(frozen=True)
class Counts:
    """What the subscribers have received until now; `latency` is a histogram of the engine's for each of them."""

    received: int  # packets, repetitions and retransmissions left out
    checked: int  # opened and found to be what was sent
    wrong: int  # opened and not what was sent, or not to be opened
    latency: Any


class Clients:
    """All clients of this process; an asynchronous context."""

    def __init__(self, base: str, *, subscribers: int, publishers: int) -> None:
        self.sending = ClientEngine(publishers, publishers)
        self.watching = ClientEngine(subscribers, publishers=0, urgent=False)
        self.sessions: list[Session] = []
        self._driver = WhipWhep(base)
        self._by_index: dict[ClientEngine, dict[int, Session]] = {self.sending: {}, self.watching: {}}
        self._certificate = Certificate.generate()
        self._dtls: dict[tuple[str, ...], DtlsContexts] = {}
        self._sound = Reel.synthetic(AUDIO_RATE, 1, AUDIO_PAYLOAD, OPUS)

    async def __aenter__(self) -> Clients:
        for engine, sessions in self._by_index.items():
            engine.on_datagram = partial(take_up, sessions)
            engine.start()
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        for session in self.sessions:
            session.peer.close()
        for engine in self._by_index:
            engine.stop()
        await self._driver.close()

    async def publish(
        self, room: str, identity: str, profiles: Sequence[str] = GCM_ONLY, *, framerate: int = FRAMERATE
    ) -> Publisher:
        """Join as a publisher that does not send yet. DriverError, JoinError."""
        spec = PublishSpec(ssrcs=Ssrcs.random())
        peer = self._peer(profiles)
        accepted, remote = await self._connect(
            peer, self._driver.publish(room, identity, publish_offer(peer.local, spec, PUBLISHED)), spec
        )
        index = hand_over(self.sending, peer, remote, spec.ssrcs.cname)
        publisher = Publisher(self.sending, peer, accepted.session, index)
        publisher.framerate = framerate
        self._add_sources(publisher.index, remote, spec.ssrcs, framerate)
        self._begin(publisher)
        return publisher

    async def subscribe(
        self, room: str, publisher: str, profiles: Sequence[str] = GCM_ONLY, *, opened: bool = False
    ) -> Subscriber:
        """Join to watch the publisher of that identity; `opened`: all packets are opened and compared, else counted.

        DriverError, JoinError.
        """
        peer = self._peer(profiles)
        offer = watch_offer(peer.local, features=WATCHED)
        identity = f"viewer-{peer.local.ufrag}"
        accepted, remote = await self._connect(peer, self._driver.subscribe(room, identity, publisher, offer, None))
        index = hand_over(self.watching, peer, remote, secrets.token_hex(8))
        subscriber = Subscriber(self.watching, peer, accepted.session, index)
        row = subscriber.row
        row.opened, row.counted_only = COMPARED if opened else 0, int(not opened)
        self._begin(subscriber)
        return subscriber

    async def leave(self, sessions: Sequence[Session]) -> None:
        """DELETE the sessions, a few at a time, and close their transports."""
        gate = asyncio.Semaphore(LEAVING_AT_ONCE)

        async def one(session: Session) -> None:
            async with gate:
                await self._driver.leave(session.handle)
                session.peer.close()
                self._by_index[session.engine].pop(session.index, None)
                await session.engine.remove(session.index)

        await asyncio.gather(*(one(session) for session in sessions))
        gone = set(map(id, sessions))
        self.sessions = [session for session in self.sessions if id(session) not in gone]

    def counts(self) -> Counts:
        """What the present subscribers have received, in the order of their joins."""
        viewers, places, numbers = self._streams()
        streams = self.watching.streams.rows
        latency = np.zeros((len(viewers), LATENCY_BUCKETS), np.int64)
        np.add.at(latency, places, streams["latency"][numbers])
        refused = int(self.watching.clients.rows["refused"][viewers].sum())
        return Counts(
            received=self.received(),
            checked=int(streams["checked"][numbers].sum()),
            wrong=int(streams["wrong"][numbers].sum()) + refused,
            latency=latency,
        )

    def drops(self) -> int:
        """Datagrams that our own sockets had no room for."""
        return sum(engine.drops() for engine in self._by_index)

    def received(self) -> int:
        """Packets that the present subscribers have received."""
        return int(self.watching.streams.rows["received"][self._streams()[2]].sum())

    def _streams(self) -> tuple[Any, Any, Any]:
        """Rows of the subscribers; of each of their streams: whose it is (a place in the first array), and its row."""
        viewers = np.array([one.index for one in self.sessions if isinstance(one, Subscriber)], np.int64)
        clients = self.watching.clients.rows
        used = np.arange(MAX_STREAMS) < clients["stream_count"][viewers][:, None]
        return viewers, np.nonzero(used)[0], clients["streams"][viewers][used]

    def _peer(self, profiles: Sequence[str]) -> Peer:
        key = tuple(profiles)
        if key not in self._dtls:
            self._dtls[key] = DtlsContexts(self._certificate, key)
        return Peer(self._dtls[key])

    async def _connect(self, peer: Peer, answering: Any, spec: PublishSpec | None = None) -> tuple[Accepted, Remote]:
        """HTTP, ICE and DTLS."""
        try:
            accepted: Accepted = await answering
            try:
                remote = read_answer(accepted.answer, spec)
            except ValueError as error:
                raise JoinError(f"the answer can't be used: {error}", "answer") from error
            await peer.connect(remote, JOIN_TIMEOUT)
        except BaseException:
            peer.close()
            raise
        return accepted, remote

    def _add_sources(self, index: int, remote: Remote, ssrcs: Ssrcs, framerate: int) -> None:
        sound, video = remote.section("audio"), remote.section("video")
        assert sound and video  # read_answer has looked
        self.sending.add_source(
            index, self._sound, kind=AUDIO, ssrc=ssrcs.audio, payload_type=sound.payload_type, mid=sound.mid
        )
        repair = {} if video.rtx_type is None else {"rtx_ssrc": ssrcs.rtx[0], "rtx_type": video.rtx_type}
        self.sending.add_source(
            index,
            Reel.synthetic(framerate, PACKETS_A_FRAME, VIDEO_PAYLOAD),
            kind=VIDEO,
            ssrc=ssrcs.video[0],
            payload_type=video.payload_type,
            mid=video.mid,
            **repair,
        )

    def _begin(self, session: Session) -> None:
        """The engine has the client from here on."""
        self.sessions.append(session)
        self._by_index[session.engine][session.index] = session
        session.engine.open(session.index)
        session.peer.keep_alive()


def hand_over(engine: ClientEngine, peer: Peer, remote: Remote, cname: str) -> int:
    """Make a client of the engine's, not open yet, from a peer that is connected; returns its row."""
    index, ssrc = engine.reserve(), secrets.randbits(31) | 1
    engine.hand_over(index, peer.detach(), peer.contexts, media_of(remote), ssrc=ssrc, cname=cname)
    return index


def take_up(sessions: dict[int, Session], index: int, data: bytes) -> None:
    """STUN or DTLS that came to a client."""
    session = sessions.get(index)
    if session:
        session.peer.take(data)
