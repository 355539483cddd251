"""Brings people in and out: signalling through the driver, ICE and DTLS in Python, then the engine has them.

A session that ends of itself (the server closes DTLS, or answers no check any more) is noted as a fault and stays
counted; nobody joins again by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable

from loadtest.drivers.base import Driver, DriverError
from loadtest.engine.engine import ClientEngine, LinkSettings
from loadtest.engine.layout import AUDIO, NO_TYPE, VIDEO
from loadtest.engine.media import media_of
from loadtest.results.schema import Fault
from loadtest.run.people import Person, Session, room_name
from loadtest.run.reels import Reels
from loadtest.run.steps import Step
from loadtest.scenario.schema import Link, Publishers, Scenario
from loadtest.transport.offers import PublishSpec, Remote, Ssrcs, publish_offer, read_answer, watch_offer
from loadtest.transport.peer import JoinError, Peer
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts

LEAVING_AT_ONCE = 32
LAST_ANSWER = 5.0  # seconds that a join which was given up waits for its answer, to end the session
KINDS_OF_FAULTS = 500  # that are told apart: messages of a server may differ for each client
LEFT, KILLED = "left", "killed"  # why a session has ended, besides what the server did


class Crowd:
    """Everybody of one run. `faults` is what they saw, `steps` what their joins took.

    `removed` is called with the engine's token of each client that has left.
    """

    def __init__(
        self, scenario: Scenario, driver: Driver, engine: ClientEngine, reels: Reels, host: str, allow_remote: bool
    ) -> None:
        self.scenario, self.driver, self.engine, self.reels = scenario, driver, engine, reels
        self.host, self.allow_remote = host, allow_remote
        self.groups = list(scenario.groups())
        self.attempted = self.done = self.failed = 0
        self.removed: Callable[[int], None] = lambda token: None
        self.steps: list[Step] = []
        self._faults: Counter[tuple[str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], str] = {}
        self._dtls = DtlsContexts(Certificate.generate())
        self._by_index: dict[int, Session] = {}
        self._sessions: set[Session] = set()  # all that have not been closed
        self._over = False  # nobody is to be here any more
        engine.on_datagram = self._on_datagram

    def note(self, person: Person, what: str) -> None:
        """Write down that a person saw something wrong."""
        key = person.group.name, room_name(self.scenario, person.room), what
        if key not in self._faults and len(self._faults) >= KINDS_OF_FAULTS:
            key = *key[:2], "something else went wrong"
        self._faults[key] += 1
        self._examples.setdefault(key, person.identity)

    def faults(self) -> list[Fault]:
        """What was seen, most often first."""
        return [
            Fault(client=self._examples[key], group=key[0], room=key[1], what=key[2], count=count)
            for key, count in self._faults.most_common()
        ]

    @property
    def sessions(self) -> int:
        """Sessions that the engine has now."""
        return len(self._by_index)

    @property
    def watching(self) -> int:
        """Of these, those that receive."""
        return sum(not session.ended and session.publisher is not None for session in self._by_index.values())

    async def join(self, person: Person) -> bool:
        """All sessions of a person, side by side. False: at least one failed; the others stay."""
        person.state = "joining"
        wanted: Iterable[str | None] = person.watches if not person.publishes else (None,)
        joined = False
        try:
            joined = all(await asyncio.gather(*(self._join(person, publisher) for publisher in wanted)))
        finally:
            if person.state == "joining":
                person.state = "here" if joined else "failed"
        return joined

    async def _join(self, person: Person, publisher: str | None) -> bool:
        session = Session(publisher)
        person.sessions.append(session)
        self._sessions.add(session)
        self.attempted += 1
        try:
            await self._connect(person, session)
        except (DriverError, JoinError, IndexError, OSError) as error:
            self.failed += 1
            self.note(person, f"join failed: {error}")
            return False
        except Exception as error:  # a fault of ours must not look like a join that nobody tried
            self.failed += 1
            self.note(person, f"join failed in the load test: {error!r}")
            return False
        self.done += 1
        return True

    async def _connect(self, person: Person, session: Session) -> None:
        index = self.engine.reserve(self.groups.index(person.group.name))
        try:
            self._set_network(person, session, index)
            session.peer = Peer(self._dtls, self.host, allow_remote=self.allow_remote, gate=self.engine.gate(index))
            remote, spec = await self._signal(person, session, session.peer)
            await session.peer.connect(remote, self.scenario.joins.timeout)
        except BaseException as error:
            if session.peer:
                session.peer.close()
            self.engine.give_back(index)
            if isinstance(error, JoinError):
                await self._say_goodbye(session)
            raise
        try:
            self._hand_over(person, session, index, remote, spec)
        except (ValueError, IndexError) as error:
            await self._leave(session)
            raise JoinError(f"the answer can't be used: {error}", "answer") from error

    def _set_network(self, person: Person, session: Session, index: int) -> None:
        network = self.scenario.networks.get(person.group.network or "")
        if network:
            seed = seed_of(self.scenario.seed, person.room, person.identity, session.publisher or "")
            self.engine.set_network(index, _link(network.down), _link(network.up), seed)

    async def _signal(self, person: Person, session: Session, peer: Peer) -> tuple[Remote, PublishSpec | None]:
        """Offer and answer. DriverError, JoinError.

        A join that is cancelled meanwhile leaves the question open: the server may have made a session by then, which
        `_say_goodbye` ends.
        """
        spec = self._spec(person)
        session.asking = asyncio.get_running_loop().create_task(self._ask(person, session, peer, spec))
        answer = await asyncio.shield(session.asking)
        try:
            return read_answer(answer, spec), spec
        except ValueError as error:
            raise JoinError(f"the answer can't be used: {error}", "answer") from error

    async def _ask(self, person: Person, session: Session, peer: Peer, spec: PublishSpec | None) -> str:
        """Offer; returns the answer. DriverError."""
        room = room_name(self.scenario, person.room)
        if spec:
            accepted = await self.driver.publish(room, person.identity, publish_offer(peer.local, spec))
        else:
            offer, publisher = watch_offer(peer.local), str(session.publisher)
            accepted = await self.driver.subscribe(room, person.identity, publisher, offer, person.layer)
        session.handle = accepted.session
        return accepted.answer

    def _spec(self, person: Person) -> PublishSpec | None:
        if not isinstance(person.group, Publishers):
            return None
        media = self.scenario.media[person.group.media]
        layers = self.reels.video(person.group.media)
        rids = tuple(rid for rid, _ in layers) if len(layers) > 1 else ()
        codec = None if media.video is None else "vp8" if media.video.codec == "synthetic" else media.video.codec
        return PublishSpec(codec, media.audio is not None, rids, Ssrcs.random(max(len(layers), 1)))

    def _hand_over(
        self, person: Person, session: Session, index: int, remote: Remote, spec: PublishSpec | None
    ) -> None:
        """The engine has the client from here on."""
        peer, engine = session.peer, self.engine
        assert peer is not None
        cname = spec.ssrcs.cname if spec else secrets.token_hex(8)
        sock, contexts, media = peer.detach(), peer.contexts, media_of(remote)
        session.index = index
        engine.hand_over(index, sock, contexts, media, ssrc=secrets.randbits(31) | 1, cname=cname, early=peer.early)
        row = engine.clients.rows[index]
        row.capture = int(person.decodes)
        row.opened = int(spec is None and self._synthetic())
        if spec:
            self._add_sources(person, index, remote, spec)
        self._by_index[index] = session
        peer.closed = lambda why: self._on_end(person, session, why)
        peer.lost = lambda why: self._on_end(person, session, why)
        engine.open(index)
        peer.keep_alive()
        if spec:
            engine.begin(index)

    def _synthetic(self) -> bool:
        """Whether all video that subscribers get is synthetic packets, whose bytes can be compared."""
        videos = [self.scenario.media[group.media].video for group in self.scenario.publishers]
        return all(video is None or video.codec == "synthetic" for video in videos)

    def _add_sources(self, person: Person, index: int, remote: Remote, spec: PublishSpec) -> None:
        assert isinstance(person.group, Publishers)
        profile = self.scenario.media[person.group.media]
        audio, video = remote.section("audio"), remote.section("video")
        reel = self.reels.audio(person.group.media)
        if audio and reel:
            self.engine.add_source(
                index, kind=AUDIO, ssrc=spec.ssrcs.audio, payload_type=audio.payload_type, mid=audio.mid, reel=reel
            )
        if not video or not profile.video:
            return
        rtx = NO_TYPE if video.rtx_type is None else video.rtx_type
        for k, (rid, layer) in enumerate(self.reels.video(person.group.media)):
            self.engine.add_source(
                index,
                kind=VIDEO,
                ssrc=spec.ssrcs.video[k],
                payload_type=video.payload_type,
                rtx_ssrc=spec.ssrcs.rtx[k] if rtx != NO_TYPE else -1,
                rtx_type=rtx,
                mid=video.mid,
                rid=rid if spec.rids else "",
                burst=profile.video.pacing == "burst",
                reel=layer,
            )

    def _on_datagram(self, index: int, data: bytes) -> None:
        session = self._by_index.get(index)
        if session and session.peer:
            session.peer.take(data)

    def _on_end(self, person: Person, session: Session, why: str) -> None:
        if not session.ended and not self._over:
            session.ended = why
            self.note(person, why)

    async def leave(self, person: Person) -> None:
        """End all sessions of a person as a client does that means it: DELETE and a DTLS alert.

        What a cancelled call has not ended, the next one does.
        """
        person.state = "away"
        await asyncio.gather(*(self._end(person, session) for session in person.sessions))

    async def _end(self, person: Person, session: Session) -> None:
        await (self._forget(session, polite=False) if session.ended == KILLED else self._leave(session))
        self._sessions.discard(session)
        if session in person.sessions:
            person.sessions.remove(session)

    async def _leave(self, session: Session) -> None:
        if session.ended in ("", LEFT):  # a goodbye that was cancelled is said again
            session.ended = LEFT  # that the server now closes DTLS is no news
            await self._say_goodbye(session)
        await self._forget(session, polite=True)

    async def _say_goodbye(self, session: Session) -> None:
        if session.asking:
            await asyncio.wait((session.asking,), timeout=LAST_ANSWER)
            session.asking.cancel()
        if not session.handle:
            return
        try:
            await self.driver.leave(session.handle)
        except DriverError:
            pass  # a server that is gone, or has ended the session already
        session.handle = ""

    async def _forget(self, session: Session, *, polite: bool) -> None:
        """Take the client out of the engine, its counters kept, and close everything of it."""
        if session.index:
            self.note_steps(session)
            self._by_index.pop(session.index, None)
        if session.peer:
            if not polite:
                session.peer.gate = lost
            session.peer.close()  # while the engine has not closed the socket: the alert has to leave
        token = int(self.engine.clients.rows[session.index].token) if session.index else 0
        await self.engine.remove(session.index)
        session.index = 0
        if token:
            self.removed(token)

    def kill(self, person: Person) -> None:
        """Let a person vanish: not a packet more, as when the power fails. `bury` closes its sockets."""
        person.state = "dead"
        for session in person.sessions:
            if session.index:
                self.engine.silence(session.index)
                session.ended = KILLED
                if session.peer:
                    session.peer.gate = lost

    async def bury(self, person: Person) -> None:
        """Close what a killed person has left."""
        await asyncio.gather(*(self._end(person, session) for session in person.sessions))

    async def everybody_out(self, people: Iterable[Person]) -> None:
        """All leave, a few at a time: those who watch first, so that nobody sees others leave. Nobody comes after."""
        self._over = True
        gate, people = asyncio.Semaphore(LEAVING_AT_ONCE), [person for person in people if person.sessions]

        async def one(person: Person) -> None:
            async with gate:
                await (self.bury(person) if person.state == "dead" else self.leave(person))

        for publish in (False, True):
            await asyncio.gather(*(one(person) for person in people if person.publishes == publish))

    def close(self) -> None:
        """Close at once what `everybody_out` had no time for; the engine closes the sockets."""
        self._over = True
        for session in self._sessions:
            if session.peer:
                session.peer.close()
            if session.asking:
                session.asking.cancel()

    def note_steps(self, session: Session) -> None:
        """Keep what a join took, before the client goes."""
        t = session.timings
        if session.publisher is None or session.noted or not t.secured:
            return
        session.noted = True
        first_packet, first_frame = self._firsts(session)
        self.steps.append(
            Step(
                http=(t.answered - t.begun) / 1e6,
                ice=(t.connected - t.answered) / 1e6,
                dtls=(t.secured - t.connected) / 1e6,
                packet=(first_packet - t.begun) / 1e6 if first_packet else None,
                frame=(first_frame - t.begun) / 1e6 if first_frame else None,
            )
        )

    def _firsts(self, session: Session) -> tuple[int, int]:
        row = self.engine.clients.rows[session.index]
        frames = [
            int(self.engine.streams.rows[int(number)].first_frame) for number in row.streams[: int(row.stream_count)]
        ]
        return int(row.first_packet), min((frame for frame in frames if frame), default=0)

    def note_all_steps(self) -> None:
        """Keep what the joins of all who are still here took."""
        for session in list(self._by_index.values()):
            self.note_steps(session)


def lost(outgoing: bool, size: int, now: int) -> int:
    """The gate of a client that is dead."""
    return -1


def seed_of(*parts: object) -> int:
    """A seed that depends on these alone, and not on who came before."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=5).digest())


def _link(link: Link | None) -> LinkSettings | None:
    """A scenario's link in the engine's words."""
    if link is None:
        return None
    return LinkSettings(
        loss=link.loss.model() if link.loss else None,
        delay_ms=link.delay,
        jitter_ms=link.jitter,
        reorder=link.reorder,
        reorder_delay_ms=link.reorder_delay,
        rate_kbit=link.rate or 0,
        queue_ms=link.queue,
    )
