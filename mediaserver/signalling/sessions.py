"""Joins: from an SDP offer to a peer in a room, and back out again. HTTP knows nothing of the engine but this."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from config.schema import Config
from mediacodecs.extensions import TWCC
from mediaserver.engine.engine import Engine, EngineFull, Need
from mediaserver.engine.layout import AUDIO, VIDEO
from mediaserver.logs import about, get_logger
from mediaserver.rooms.room import Publisher, Room, Viewer, stream_name
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.signalling.addresses import candidates
from mediaserver.signalling.admission import RETRY, Admission, Hold, weight_of
from mediaserver.signalling.answers import LocalTrack, LocalTransport, answer_publisher, answer_subscriber
from mediaserver.signalling.negotiation import NegotiationError, read_publisher_offer, read_subscriber_offer
from mediaserver.signalling.offers import Offer, PublishedMedia, PublisherOffer, SubscriberOffer
from mediaserver.signalling.problems import Problem
from mediaserver.transport.peer import WATCHFUL, Handshakes, HandshakesFull, Patience, Peer
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts

log = get_logger("weir.sessions")
KINDS = {"audio": AUDIO, "video": VIDEO}
HANDSHAKE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


def full(detail: str) -> Problem:
    """A join that a limit refuses."""
    return Problem(503, detail, headers=RETRY, reason="full")


@dataclass(eq=False)
class Session:
    """One WHIP or WHEP resource."""

    id: str
    room: Room
    identity: str
    participant: Publisher | Viewer
    peer: Peer
    share: Hold  # of the quotas, until it ends
    handshake: Hold  # of the quotas, until its keys are agreed
    etag: str = field(default_factory=lambda: secrets.token_hex(8))
    streams: dict[str, frozenset[str]] = field(default_factory=dict)  # event streams: id -> names wanted

    def publishes(self, room: Room, identity: str) -> bool:
        """Whether this identity publishes or is about to by this session."""
        return isinstance(self.participant, Publisher) and self.identity == identity and self.room is room

    def renew_etag(self) -> None:
        """The ICE session is another one now."""
        self.etag = secrets.token_hex(8)


@dataclass(eq=False)
class Joining:
    """What a join has taken so far, so that one that fails gives all of it back."""

    source: str | None
    share: Hold = field(default_factory=Hold)
    handshake: Hold = field(default_factory=Hold)
    peer: Peer | None = None


Join = Callable[[Room, Joining], tuple[Session, str]]


class Sessions:
    """All sessions and rooms of the node."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self.config, self.engine = config, engine
        self.rooms: dict[str, Room] = {}
        self.sessions: dict[str, Session] = {}
        self.joins: Counter[tuple[str, str]] = Counter()  # (whip or whep, result)
        self.handshake_times: Counter[float] = Counter()
        self.handshake_sum = 0.0
        limits = config.limits
        self.handshakes = Handshakes(limits.handshakes, self._observe)
        self.admission = Admission(limits)
        self._patience = Patience(limits.join_timeout, limits.handshake_timeout)
        self.closing = False
        self._contexts = DtlsContexts(Certificate.generate())
        self._closing: set[asyncio.Future[None]] = set()  # peers that the workers have not let go of yet
        self._candidates = candidates(config)

    def _observe(self, seconds: float) -> None:
        bucket = next((bound for bound in HANDSHAKE_BUCKETS if seconds <= bound), float("inf"))
        self.handshake_times[bucket] += 1
        self.handshake_sum += seconds

    def publish(self, room_name: str, identity: str, sdp: str, *, source: str | None = None) -> tuple[Session, str]:
        """Let a publisher in; returns its session and the answer. Raises Problem.

        `source`: the address that its share is counted for; None: it is not.
        """
        return self._join("whip", room_name, source, lambda room, joining: self._publish(room, identity, sdp, joining))

    def watch(
        self,
        room_name: str,
        target: str,
        identity: str,
        sdp: str,
        *,
        layer: str | None,
        lag: int,
        source: str | None = None,
    ) -> tuple[Session, str]:
        """Let a viewer of `target` in; returns its session and the answer. Raises Problem."""

        return self._join(
            "whep",
            room_name,
            source,
            lambda room, joining: self._watch(room, target, identity, sdp, layer, lag, joining),
        )

    def _join(self, kind: str, room_name: str, source: str | None, join: Join) -> tuple[Session, str]:
        joining = Joining(source)
        try:
            room = self._room(room_name)
            try:
                session, answer = join(room, joining)
            finally:
                self._forget_if_empty(room)
        except BaseException as error:
            self._undo(joining)
            if isinstance(error, NegotiationError):
                raise Problem(error.status, str(error), reason="offer") from error
            if isinstance(error, EngineFull | HandshakesFull):
                raise full(f"The node is full: {error}.") from error
            raise
        self.sessions[session.id] = session
        with about(**session.participant.about):
            watching = {"watching": session.participant.target} if isinstance(session.participant, Viewer) else {}
            worker = session.peer.transport.worker.index
            log.info("joined", kind=kind, session=session.id, worker=worker, **watching)
        return session, answer

    def _undo(self, joining: Joining) -> None:
        joining.share.release()
        joining.handshake.release()
        if joining.peer is not None:
            self._close_peer(joining.peer)

    def _room(self, name: str) -> Room:
        if self.closing:
            raise Problem(503, "The node is shutting down.", headers=RETRY, reason="closing")
        room = self.rooms.get(name)
        if room is None:
            if len(self.rooms) >= self.config.limits.rooms:
                raise full(f"The node has {len(self.rooms)} rooms, which is its limit.")
            room = self.rooms[name] = Room(name)
        if room.count >= self.config.limits.participants_per_room:
            raise full(f"The room has {room.count} participants, which is its limit.")
        return room

    def _forget_if_empty(self, room: Room) -> None:
        if room.count == 0 and self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            self.engine.forget_room(room.name)

    def _peer(self, room: Room, offer: Offer, need: Need, joining: Joining, *, publishing: bool) -> Peer:
        worker = self.engine.place(room.name, need, publishing=publishing)
        peer = joining.peer = Peer(self.engine, worker, self._contexts, self.handshakes, self._patience)
        peer.expect(
            server=offer.local_setup == "passive",
            fingerprints=[(fingerprint.algorithm, fingerprint.value) for fingerprint in offer.fingerprints],
        )
        peer.transport.know_peer(offer.ice_pwd, calls=offer.local_setup == "active")
        return peer

    def local(self, peer: Peer) -> LocalTransport:
        """Our end of a peer's transport, for an answer or for the reply to an ICE restart."""
        port = peer.transport.worker.port
        return LocalTransport(
            ufrag=peer.ufrag,
            pwd=peer.password,
            fingerprint=self._contexts.certificate.fingerprint,
            candidates=[(address, port) for address in self._candidates],
            session_id=secrets.randbits(62),
        )

    def _publish(self, room: Room, identity: str, sdp: str, joining: Joining) -> tuple[Session, str]:
        offer = read_publisher_offer(sdp)
        need = self.admission.publishing(offer)
        joining.handshake.take(self.admission.handshakes, joining.source, weight_of(need))
        self._make_way(room, identity)
        peer = self._peer(room, offer, need, joining, publishing=True)
        set_receiving(peer, offer)
        tracks = [add_track(peer, media) for media in offer.media]
        answer = answer_publisher(offer, self.local(peer))
        publisher = Publisher(room, identity, peer, tracks)
        room.join(publisher)
        return self._session(room, identity, publisher, joining), answer

    def _make_way(self, room: Room, identity: str) -> None:
        """End the oldest unfinished join of an identity that has all the sessions it may have: the newest counts."""
        held = [one for one in self.sessions.values() if one.publishes(room, identity)]
        unfinished = [one for one in held if one.participant in room.joining]
        if len(held) >= self.config.limits.sessions_per_identity and unfinished:
            self.end(unfinished[0], "a newer join of the identity took its place")

    def _watch(
        self, room: Room, target: str, identity: str, sdp: str, layer: str | None, lag: int, joining: Joining
    ) -> tuple[Session, str]:
        offer = read_subscriber_offer(sdp)
        need = self.admission.watching(offer)
        joining.share.take(self.admission.viewers, joining.source, weight_of(need))
        joining.handshake.take(self.admission.handshakes, joining.source, weight_of(need))
        peer = self._peer(room, offer, need, joining, publishing=False)
        name = stream_name(room.name, target)
        set_sending(peer, offer)
        subscriptions, tracks = [], []
        for media in offer.media:
            made = peer.transport.add_subscription(
                kind=KINDS[media.kind], mid=media.wire_mid, cname=name, clock_rate=media.codecs[0].clock_rate
            )
            if lag:
                made.set_lag(lag)
            subscription = Subscription(media, made)
            subscription.wanted = layer if media.kind == "video" else None
            subscriptions.append(subscription)
            rtx = made.rtx_ssrc if any(codec.rtx_payload_type is not None for codec in media.codecs) else None
            tracks.append(LocalTrack(media.mid, made.ssrc, rtx, name, name, f"{name}-{media.kind}-{media.mid}"))
        answer = answer_subscriber(offer, self.local(peer), tracks)
        viewer = Viewer(room, identity, peer, target, subscriptions)
        session = self._session(room, identity, viewer, joining)
        room.watch(viewer)
        return session, answer

    def _session(self, room: Room, identity: str, participant: Publisher | Viewer, joining: Joining) -> Session:
        peer = participant.peer
        session = Session(
            secrets.token_urlsafe(12), room, identity, participant, peer, joining.share, joining.handshake
        )
        peer.about = participant.about
        peer.on_end = lambda reason: self._ended(session, reason)
        peer.on_secured = lambda: self._secured(session)
        return session

    def _ended(self, session: Session, reason: str) -> None:
        self.end(session, reason)

    def _secured(self, session: Session) -> None:
        session.handshake.release()
        with about(**session.participant.about):
            log.info(
                "connected",
                session=session.id,
                remote=":".join(str(part) for part in session.peer.transport.remote or ()),
                seconds=round(time.monotonic() - session.peer.began, 4),
            )
        if isinstance(session.participant, Publisher):
            replaced = session.room.publish(session.participant)
            if replaced is not None:
                self._end_participant(replaced, "another publisher took the identity")

    def _end_participant(self, participant: Publisher | Viewer, reason: str) -> None:
        session = next((one for one in self.sessions.values() if one.participant is participant), None)
        if session is not None:
            self.end(session, reason)

    def end(self, session: Session, reason: str) -> asyncio.Future[None] | None:
        """End a session: its people leave the room at once, its peer is told goodbye in the background."""
        if self.sessions.pop(session.id, None) is None:
            return None
        session.share.release()
        session.handshake.release()
        with about(**session.participant.about):
            log.info("left", session=session.id, reason=reason)
        session.room.leave(session.participant)
        self._forget_if_empty(session.room)
        if isinstance(session.participant, Viewer):
            session.participant.tell()  # so that event streams end
        return self._close_peer(session.peer)

    def _close_peer(self, peer: Peer) -> asyncio.Future[None]:
        closing = peer.close()
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing

    def check(self) -> None:
        """Once a second: end the sessions whose peers have gone, and look at what the others send."""
        quiet = self.engine.quiet_transports(min(WATCHFUL, self.config.limits.ice_timeout))
        for session in [one for one in self.sessions.values() if one.peer.transport in quiet]:
            session.peer.check(self.config.limits.ice_timeout)
        for room in self.rooms.values():
            room.review()

    async def close(self, grace: float) -> None:
        """End every session, and wait at most `grace` seconds for that."""
        self.closing = True
        for session in list(self.sessions.values()):
            self.end(session, "the node is shutting down")
        if self._closing:
            await asyncio.wait(self._closing, timeout=grace)


def set_receiving(peer: Peer, offer: PublisherOffer) -> None:
    """Tell the engine what the publisher may send."""
    kinds: dict[int, int] = {}
    codecs: dict[int, int] = {}
    repairs: dict[int, int] = {}
    for media in offer.media:
        kinds |= media.extensions
        for codec in media.codecs:
            codecs[codec.payload_type] = codec.codec
            if codec.rtx_payload_type is not None:
                repairs[codec.rtx_payload_type] = codec.payload_type
    peer.transport.set_receiving(kinds=kinds, codecs=codecs, repairs=repairs, twcc=TWCC in kinds.values())


def set_sending(peer: Peer, offer: SubscriberOffer) -> None:
    """Tell the engine which extensions the viewer takes."""
    ids: dict[int, int] = {}
    for media in offer.media:
        ids |= media.extensions
    peer.transport.set_sending(ids=ids, allow_mixed=all(media.allow_mixed for media in offer.media))


def add_track(peer: Peer, media: PublishedMedia) -> Track:
    """The layers of one published media section, in the offer's order."""
    layers = [
        peer.transport.add_layer(
            kind=KINDS[media.kind],
            mid=media.wire_mid,
            rid=encoding.rid,
            ssrc=encoding.ssrc,
            rtx_ssrc=encoding.rtx_ssrc,
            clock_rate=media.codecs[0].clock_rate,
        )
        for encoding in media.encodings
    ]
    return Track(media, layers)
