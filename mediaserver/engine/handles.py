"""What control holds of the engine: a transport, the layers that it publishes, the subscriptions that it receives.

Each is an index into a worker's table. A record is filled here while it is FREE; later wishes are commands. All
calls are made on the control thread. Closing is one command whatever hangs below, and nobody has to wait for it: slots,
logs and contexts come back with the worker's acknowledgement.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from mediacodecs.extensions import DEPENDENCY_DESCRIPTOR
from mediacodecs.stun import username_hash
from mediaserver.engine import layout as L
from mediaserver.engine.send import AMPLIFICATION
from mediaserver.engine.shares import EngineFull
from packetio.batch import SOCKADDR, unpack_sockaddr
from packetio.log import PacketLog
from packetio.srtp import TAG_BYTES, SrtpContexts

if TYPE_CHECKING:
    from mediaserver.engine.engine import Engine
    from mediaserver.engine.worker import Worker

SERIALS = itertools.count(1)  # of transports
MAX_SSRCS_SENT = 1 << 14  # SSRCs that one peer is sent in its life: half of what a subscription's slot can number
START_LIMIT = 1 << 14  # outgoing numbers begin below 2^15: an early wrap with a loss would deafen the receiver


def put_text(field: Any, text: str | bytes) -> int:
    """Write a short text to a byte field; returns its size. Raises ValueError when it is too long."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) > field.size:
        raise ValueError(f"{text!r} is longer than {field.size} bytes")
    field[: len(data)] = np.frombuffer(data, np.uint8)
    return len(data)


def hmac_key(password: str) -> bytes:
    """An ICE password, up to 256 characters (RFC 8839 5.4), as a key of at most 64 bytes (RFC 2104 2)."""
    data = password.encode()
    return hashlib.sha1(data).digest() if len(data) > 64 else data


def hash_of(ufrag: str) -> int:
    """What the engine finds a transport by."""
    data = np.frombuffer(ufrag.encode(), np.uint8)
    return int(username_hash(data, 0, data.size))


def settle(future: asyncio.Future[None]) -> None:
    """Tell whoever waits that something is free again."""
    if not future.done():
        future.set_result(None)


class Layer:
    """One SSRC of a published track, and its packet log, which it has once the peer has connected."""

    def __init__(
        self,
        transport: Transport,
        *,
        kind: int,
        mid: str,
        rid: str | None,
        ssrc: int | None,
        rtx_ssrc: int | None,
        clock_rate: int,
    ) -> None:
        self.transport, self.worker = transport, transport.worker
        self.kind, self.mid, self.rid, self.clock_rate = kind, mid, rid, clock_rate
        self.on_started: Callable[[int, int], None] = lambda codec, payload_type: None
        self.on_paused: Callable[[], None] = lambda: None
        self.readers: set[Subscription] = set()
        self.closed = False
        self._released = asyncio.get_running_loop().create_future()
        self._log: PacketLog | None = None
        self._holds = 0  # workers that have not let go of the log yet
        worker = self.worker
        with ExitStack() as taken:  # one that is missing gives back those before
            self.index = worker.layer_slots.take()
            taken.callback(worker.layer_slots.give, self.index)
            self.feed = worker.feed_slots.take()
            taken.callback(worker.feed_slots.give, self.feed)
            self.place = worker.logs.take(kind)
            taken.callback(worker.logs.give, kind, self.place)
            self._fill(-1 if ssrc is None else ssrc, -1 if rtx_ssrc is None else rtx_ssrc)
            taken.pop_all()

    def _fill(self, ssrc: int, rtx_ssrc: int) -> None:
        """Write the records, which the worker gets with `open`."""
        row: Any = self.worker.layers.clear(self.index)
        row.transport, row.kind, row.clock_rate = self.transport.index, self.kind, self.clock_rate
        row.mid_size, row.rid_size = put_text(row.mid, self.mid), put_text(row.rid, self.rid or "")
        row.declared_ssrc, row.declared_rtx = ssrc, rtx_ssrc
        row.ssrc = row.rtx_ssrc = row.odd = -1
        feed = self.worker.feeds.clear(self.feed)
        row.log = feed.log = self.worker.logs.address(self.kind, self.place)
        feed.layer = self.index
        self.record = row

    def open(self) -> None:
        """Lay the log out and hand the records to the worker: packets of the peer may come."""
        self._log = self.worker.logs.open(self.kind, self.place)
        self._log.header.clock_rate = self.clock_rate
        self.worker.feeds.rows[self.feed].generation = self._log.generation
        self.worker.command(L.ADD_LAYER, self.index, self.feed)

    @property
    def opened(self) -> bool:
        """Whether it has a log, which it keeps to its end."""
        return self._log is not None

    @property
    def log(self) -> PacketLog:
        """The packet log. ValueError before the peer has connected."""
        if self._log is None:
            raise ValueError("a layer has no log before its peer has connected")
        return self._log

    @property
    def active(self) -> bool:
        """Whether media is flowing."""
        return bool(self.record.active)

    @property
    def codec(self) -> int:
        """Codec constant of the newest packet; 0: nothing came yet."""
        return int(self.record.codec)

    @property
    def begun(self) -> int:
        """When media began, or began again after a pause (ns, CLOCK_MONOTONIC); 0: nothing came yet."""
        return int(self._log.header.begun) if self._log else 0

    @property
    def backwards(self) -> int:
        """Times that RTP time has run backwards from one packet to the next in sequence."""
        return int(self.record.backwards)

    @property
    def width(self) -> int:
        """Pixels, as far as the stream told; 0: unknown."""
        return int(self._log.header.width) if self._log else 0

    @property
    def height(self) -> int:
        """Pixels, as far as the stream told; 0: unknown."""
        return int(self._log.header.height) if self._log else 0

    def received_bytes(self) -> int:
        """Bytes logged since the layer began; callers make a bitrate of two readings."""
        return int(self._log.header.received_bytes) if self._log else 0

    def close(self) -> asyncio.Future[None]:
        """Let the workers go of it. What is returned is done once its slots and its log are free again."""
        if not self.closed:
            self.retire()
            if self._log is None:
                self.release()
            else:
                self.worker.remove(L.REMOVE_LAYER, self.worker.layers, self.index, self.release)
        return asyncio.shield(self._released)

    def retire(self) -> None:
        """It is no source any more: nobody reads it, and other workers close their feeds. `release` is to follow."""
        self.closed = True
        for subscription in self.readers:
            subscription.layer = None  # the workers park it when they close the feed
        self.readers.clear()
        self.transport.layers.pop(self, None)
        self.transport.engine.layers.pop((self.worker.index, self.index), None)
        self._holds = 1 + self.transport.engine.close_feeds(self, self.release)

    def release(self) -> None:
        """One more worker has let go of it; after the last one, records and log are free."""
        self._holds -= 1
        if self._holds:
            return
        self.worker.feed_slots.give(self.feed)
        self.worker.layer_slots.give(self.index)
        self.worker.logs.give(self.kind, self.place)
        settle(self._released)


class Subscription:
    """A track forwarded to a transport; its source may change, its numbering goes on."""

    def __init__(self, transport: Transport, kind: int, mid: str, cname: str, clock_rate: int) -> None:
        self.transport, self.worker = transport, transport.worker
        self.kind, self.mid, self.clock_rate = kind, mid, clock_rate
        self.on_started: Callable[[Layer], None] = lambda layer: None
        self.layer: Layer | None = None
        self.closed = False
        self._released = asyncio.get_running_loop().create_future()
        worker = self.worker
        self.since = worker.clock()  # it waits for whatever begins from now on
        self.ssrc = 0
        with ExitStack() as taken:
            self.index = worker.subscription_slots.take()
            taken.callback(worker.subscription_slots.give, self.index)
            self.ssrc = transport.new_ssrc(self.index)
            self._fill(cname)
            taken.pop_all()
        worker.command(L.ADD_SUBSCRIPTION, self.index)

    def _fill(self, cname: str) -> None:
        """Write the record, which the worker gets with ADD_SUBSCRIPTION."""
        worker, transport, kind, mid, clock_rate = self.worker, self.transport, self.kind, self.mid, self.clock_rate
        self.rtx_ssrc = self.ssrc | 1
        row = self.record = worker.subscriptions.clear(self.index)
        row.transport, row.kind, row.clock_rate = transport.index, kind, clock_rate
        row.ssrc, row.rtx_ssrc = self.ssrc, self.rtx_ssrc
        row.mid_size, row.cname_size = put_text(row.mid, mid), put_text(row.cname, cname)
        row.map = worker.maps.address + self.index * L.MAP_SIZE * 8
        row.out_first = row.out_start = 1 + secrets.randbelow(START_LIMIT)
        row.out_highest = row.out_first - 1
        row.rtx_index = secrets.randbelow(START_LIMIT)
        row.last_timestamp = row.last_picture = row.squeeze_from = -1
        row.max_spatial = row.max_temporal = 255
        row.rtx_type = row.next_rtx_type = L.NO_TYPE

    def set_source(
        self, layer: Layer | None, payload_type: int = 0, rtx_type: int | None = None, *, fresh: bool = False
    ) -> None:
        """Read another layer, from its next keyframe on (or a fresh one in its log); None parks the subscription.

        `payload_type` and `rtx_type` are the subscriber's for the layer's codec. `fresh`: it is another track, whose
        time stamps have nothing to do with those before. A layer that is closed is none, because its feed may be
        another's by the time the worker reads it; so is one whose peer has not connected, which has no log. Who was
        there before the media began, and has had nothing yet, gets it from its beginning. Raises EngineFull when the
        worker has no feed left.
        """
        if self.closed:
            return
        if layer is not None and (layer.closed or not layer.opened):
            layer = None
        feed = self.transport.engine.feed_for(self.worker, layer) if layer is not None else 0
        if self.layer is not None and self.layer is not layer:
            self.layer.readers.discard(self)
        self.layer = layer
        packed = payload_type | (L.NO_TYPE if rtx_type is None else rtx_type) << 8 | int(fresh) << 16
        if layer is not None:
            layer.readers.add(self)
            packed |= layer.codec << 17 | (L.FROM_START if layer.begun >= self.since else 0)
        self._command(L.SET_SOURCE, feed, packed)

    def set_layers(self, max_spatial: int, max_temporal: int) -> None:
        """Highest spatial and temporal layer within the SSRC (SVC); 255: all."""
        self._command(L.SET_LAYERS, max_spatial, max_temporal)

    def pause(self, paused: bool) -> None:
        """Stop or resume sending; video resumes at a keyframe."""
        self._command(L.SET_PAUSED, int(paused))

    def set_lag(self, milliseconds: int) -> None:
        """Send each packet this long after its arrival."""
        self._command(L.SET_LAG, milliseconds * L.MS)

    def request_keyframe(self) -> None:
        """Ask the publisher for a keyframe, joined and throttled with others' requests."""
        self._command(L.REQUEST_KEYFRAME)

    def _command(self, op: int, a: int = 0, b: int = 0) -> None:
        if not self.closed:  # else the record may be another's by the time the worker reads it
            self.worker.command(op, self.index, a, b)

    def close(self) -> asyncio.Future[None]:
        """Let the worker go of it. What is returned is done once its slot is free again."""
        if not self.closed:
            self.retire()
            self.worker.remove(L.REMOVE_SUBSCRIPTION, self.worker.subscriptions, self.index, self.release)
        return asyncio.shield(self._released)

    def retire(self) -> None:
        """It takes no source any more. `release` is to follow."""
        self.closed = True
        if self.layer is not None:
            self.layer.readers.discard(self)
            self.layer = None
        self.transport.subscriptions.pop(self, None)
        self.transport.engine.subscriptions.pop((self.worker.index, self.index), None)

    def release(self) -> None:
        """The worker has let go of it."""
        self.worker.subscription_slots.give(self.index)
        settle(self._released)


class Transport:
    """One ICE + DTLS peer in the engine."""

    def __init__(self, engine: Engine, worker: Worker, ufrag: str, password: str) -> None:
        self.engine, self.worker = engine, worker
        self.on_datagram: Callable[[bytes], None] = lambda data: None
        self.on_connected: Callable[[tuple[str, int]], None] = lambda address: None
        self.on_address_changed: Callable[[tuple[str, int]], None] = lambda address: None
        self.on_goodbye: Callable[[], None] = lambda: None
        self.layers: dict[Layer, None] = {}  # in the order of the offer
        self.subscriptions: dict[Subscription, None] = {}
        self.about: dict[str, str] = {}  # whose it is, for log lines
        self.contexts: SrtpContexts | None = None
        self.closed = False
        self._sent_to: set[int] = set()  # TRANSPORT.moves at each flight of the handshake: one, if one address got all
        self._ssrcs: set[int] = set()  # that its subscriptions have had: keys and numbers must not meet again
        self._released = asyncio.get_running_loop().create_future()
        self.index = worker.transport_slots.take()
        self.twcc = 0
        row = self.record = worker.transports.clear(self.index)
        row.ufrag, row.password_size = hash_of(ufrag), put_text(row.password, password)
        row.repairs[:] = L.NO_TYPE
        row.serial = self.serial = next(SERIALS)
        row.rtcp_ssrc = secrets.randbits(31) | 1
        row.ssrc_limit = min(worker.config.limits.ssrcs_per_publisher, L.MAX_SSRCS)
        row.twcc_next = secrets.randbelow(START_LIMIT)
        worker.command(L.ADD_TRANSPORT, self.index)

    def set_receiving(
        self, *, kinds: dict[int, int], codecs: dict[int, int], repairs: dict[int, int], twcc: bool
    ) -> None:
        """What the peer may send: extension id -> kind, payload type -> codec, RTX payload type -> its primary.

        Before `secure`. Raises EngineFull when `twcc` is asked for and the worker has no more publishers.
        """
        row = self.record
        for identity, kind in kinds.items():
            row.kinds[identity] = kind
        for payload_type, codec in codecs.items():
            row.codecs[payload_type] = codec
        for payload_type, primary in repairs.items():
            row.repairs[payload_type] = primary
        if twcc and self.twcc == 0:
            self.twcc = self.worker.twcc_slots.take()

    def set_sending(self, *, ids: dict[int, int], allow_mixed: bool) -> None:
        """Extension kind -> id that the peer wants. Before `secure`. Ids above 14 need two-byte headers: left out.

        Dependency descriptors need them too: the first holds the structure that all others refer to, and it is long.
        """
        for kind, identity in ids.items():
            if 1 <= identity <= 14 and (allow_mixed or kind != DEPENDENCY_DESCRIPTOR):
                self.record.ids[kind] = identity
        self.record.allow_mixed = int(allow_mixed)

    def set_reduced_size(self, reduced: bool) -> None:
        """Whether feedback may leave without the report and CNAME before it (RFC 5506 3.4.2): only if the peer asked
        for that. Before `secure`; without it all is compound (RFC 3550 6.1).
        """
        self.record.reduced_size = int(reduced)

    def secure(self, contexts: SrtpContexts) -> None:
        """Give the worker the SRTP contexts; media flows from now on. The transport owns them and closes them.

        What was only reserved so far takes its memory now: logs of layers, state of congestion feedback.
        """
        if self.closed:
            contexts.close()
            return
        row = self.record
        self.contexts = contexts
        if self.twcc:
            self.worker.twccs.clear(self.twcc)
            row.twcc = self.twcc
        for layer in self.layers:
            layer.open()
        row.proven = min(self._sent_to, default=row.moves) if len(self._sent_to) <= 1 else -1
        row.inbound, row.outbound, row.evp = contexts.inbound, contexts.outbound, contexts.evp
        row.salt_high, row.salt_low, row.tag = contexts.salt_high, contexts.salt_low, TAG_BYTES[contexts.profile]
        self.worker.command(L.SECURE_TRANSPORT, self.index)

    def know_peer(self, password: str, *, calls: bool) -> None:
        """The peer's ICE password, by which its answers to our requests are known, and whether we call it for DTLS.

        At once, before the peer can know our own. Without it an address is proven by the handshake alone.
        """
        self.record.peer_password_size = put_text(self.record.peer_password, hmac_key(password))
        self.record.calls = int(calls)

    def restart_ice(self, ufrag: str, password: str, peer_password: str = "") -> None:
        """Accept checks with new credentials (RFC 8445 9); the old ones stay good until the next restart.

        Not when it is closed: its record may be another peer's by now, who would get these credentials.
        """
        if self.closed:
            return
        row = self.record
        row.next_ufrag, row.next_password_size = hash_of(ufrag), put_text(row.next_password, password)
        row.next_peer_password_size = put_text(row.next_peer_password, hmac_key(peer_password))
        self.worker.command(L.RESTART_ICE, self.index)

    def send(self, datagram: bytes) -> None:
        """Send a DTLS datagram to the peer's address, from the address that it asked.

        Dropped before ICE connected, and beyond the limit of an address that has not shown that it is the peer's
        (`engine.paths`): as lost on the way, DTLS sends it again.
        """
        sock, moves = self.worker.socket, int(self.record.moves)
        if int(self.record.remote_size) == 0 or sock is None or self._released.done():
            return
        if not self._may_send(len(datagram)):
            return
        self._sent_to.add(moves)
        self._send_from(sock, datagram)
        self._sent_to.add(int(self.record.moves))  # the address may have changed in between

    def _may_send(self, size: int) -> bool:
        """Count what control sends against the address' limit. Control alone writes `gone_control`."""
        row = self.record
        if not row.limited:
            return True
        left = AMPLIFICATION * int(row.came) - int(row.gone) - (int(row.gone_control) - int(row.gone_before))
        if left < size:
            row.starved = 1
            return False
        row.gone_control += size
        return True

    def _send_from(self, sock: socket.socket, datagram: bytes) -> None:
        host, port = unpack_sockaddr(self.record.remote[:SOCKADDR])
        if sock.family == socket.AF_INET6 and ":" not in host:
            host = f"::ffff:{host}"
        try:
            sock.sendmsg([datagram], self._packet_info(), 0, (host, port))
        except OSError:
            return  # as lost on the way, too

    def _packet_info(self) -> list[tuple[int, int, bytes]]:
        size = int(self.record.packet_info_size)
        if size == 0:
            return []
        raw = self.record.packet_info[:size].tobytes()
        length, level, kind = np.frombuffer(raw[:16], np.int64)[0], *np.frombuffer(raw[8:16], np.int32)
        return [(int(level), int(kind), raw[16 : int(length)])]

    @property
    def last_check(self) -> int:
        """When the newest authenticated binding request came (ns, CLOCK_MONOTONIC); 0: none yet."""
        return int(self.record.last_check)

    @property
    def last_heard(self) -> int:
        """When the newest authentic check, SRTP or SRTCP came (ns, CLOCK_MONOTONIC); 0: nothing yet."""
        return int(self.record.last_heard)

    @property
    def idle(self) -> float:
        """Seconds since then in which the worker would have noticed; 0 before the first."""
        heard = self.last_heard
        return max(self.worker.clock() - max(heard, self.worker.awake_since), 0) / 1e9 if heard else 0.0

    @property
    def remote(self) -> tuple[str, int] | None:
        """The address that media goes to."""
        return unpack_sockaddr(self.record.remote[:SOCKADDR]) if self.record.remote_size else None

    def add_layer(
        self, *, kind: int, mid: str, rid: str | None, ssrc: int | None, rtx_ssrc: int | None, clock_rate: int
    ) -> Layer:
        """Expect a layer from the peer: by mid and rid, by SSRC, or the only one of its kind. Raises EngineFull."""
        layer = Layer(self, kind=kind, mid=mid, rid=rid, ssrc=ssrc, rtx_ssrc=rtx_ssrc, clock_rate=clock_rate)
        if self.contexts is not None:
            layer.open()
        self.layers[layer] = None
        self.engine.layers[(self.worker.index, layer.index)] = layer
        return layer

    def add_subscription(self, *, kind: int, mid: str, cname: str, clock_rate: int) -> Subscription:
        """A parked subscription with its SSRCs. Raises EngineFull."""
        subscription = Subscription(self, kind, mid, cname, clock_rate)
        self.subscriptions[subscription] = None
        self.engine.subscriptions[(self.worker.index, subscription.index)] = subscription
        return subscription

    def new_ssrc(self, index: int) -> int:
        """An SSRC for the subscription with this index that none of this transport has had. Raises EngineFull."""
        generations = self.worker.generations
        if len(self._ssrcs) >= MAX_SSRCS_SENT:
            raise EngineFull("SSRCs towards one peer", MAX_SSRCS_SENT)
        while True:
            generation = int(generations[index]) % (1 << 15) or 1
            generations[index] = generation + 1
            ssrc = generation << 17 | index << 1
            if ssrc not in self._ssrcs:
                self._ssrcs.add(ssrc)
                return ssrc

    def close(self, last_words: Callable[[], None] = lambda: None) -> asyncio.Future[None]:
        """Say BYE and let go of all that belongs to it: one command, which can't be cut short.

        `last_words` is called when the worker has let go, while the address is still this peer's. What is returned is
        done once everything is free again, however late that is; nobody needs to wait for it.
        """
        if not self.closed:
            self.closed = True
            members: list[Layer | Subscription] = [*self.layers, *self.subscriptions]
            for member in members:
                member.retire()

            def let_go() -> None:
                try:
                    last_words()
                finally:
                    for member in members:
                        member.release()
                    self.free()

            self.worker.remove(L.REMOVE_TRANSPORT, self.worker.transports, self.index, let_go)
        return asyncio.shield(self._released)

    def free(self) -> None:
        """The worker has let go of it, or has ended: contexts and slots are free."""
        self.engine.transports.pop((self.worker.index, self.index), None)
        self.engine.remember(self)
        if self.contexts is not None:
            self.contexts.close()
            self.contexts = None
        if self.twcc:
            self.worker.twcc_slots.give(self.twcc)
            self.twcc = 0
        self.worker.transport_slots.give(self.index)
        settle(self._released)
