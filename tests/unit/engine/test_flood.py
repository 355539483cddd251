"""A connected member floods a real engine over real UDP: control still turns, others' events and media are whole.

What is sent at once fits in the smallest socket buffer that a system gives, and waits for the worker to take it: what
is missing then was dropped by the node, not by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mediacodecs.extensions import MID
from mediacodecs.frame import OPUS, VP8
from mediaserver.engine import layout as L
from mediaserver.engine.buckets import CHECK_DEPTH, CHECK_PAUSE, EPOCH_DEPTH, EPOCH_PAUSE
from mediaserver.engine.engine import EVENTS_A_TURN, Engine
from mediaserver.engine.news import (
    DTLS_DEPTH,
    DTLS_PAUSE,
    LAYER_DEPTH,
    LAYER_PAUSE,
    PEER_DEPTH,
    PEER_PAUSE,
    SETTLED_DEPTH,
    SETTLED_PAUSE,
)
from mediaserver.engine.ring import emit
from tests.unit.engine.peers import Peer, build, small_config, until

VP8_TYPE, OPUS_TYPE = 96, 111
AT_ONCE = 100  # datagrams; 212 KB of buffer, as systems give by default, hold 277 small ones
PATIENT = 60.0  # seconds, on a busy machine


class Turns:
    """What control did: events that it handled, by transport and by turn, and how often the loop turned meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self.events: list[tuple[int, int]] = []  # (op, index)
        self.largest = 0
        self.beats = 0
        self._handle = engine._handle
        self._since = 0
        engine._handle = self._count  # type: ignore[method-assign]
        self._task = asyncio.create_task(self._beat())

    def _count(self, worker: Any, op: int, index: int, *rest: Any) -> None:
        self.events.append((op, index))
        self._since += 1
        self.largest = max(self.largest, self._since)
        self._handle(worker, op, index, *rest)

    async def _beat(self) -> None:
        while True:
            self._since = 0
            self.beats += 1
            await asyncio.sleep(0)

    def of(self, index: int) -> Counter[int]:
        """How many events of each kind concerned a record."""
        return Counter(op for op, of in self.events if of == index)

    def stop(self) -> None:
        self._task.cancel()


class Scene:
    """A flooder, a publisher with a viewer who has nothing to do with it, and a peer whose handshake is going on."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.worker = engine, engine.workers[0]
        self.w: Any = self.worker.counters
        self.turns = Turns(engine)
        self.peers: list[Peer] = []
        self.sockets: list[socket.socket] = []

    def peer(self) -> Peer:
        self.peers.append(Peer(self.engine, self.worker))
        return self.peers[-1]

    def socket(self) -> socket.socket:
        self.sockets.append(Peer.new_socket())
        return self.sockets[-1]

    async def publisher(self) -> tuple[Peer, Any]:
        peer = self.peer()
        peer.transport.set_receiving(
            kinds={1: MID}, codecs={VP8_TYPE: VP8, OPUS_TYPE: OPUS, 112: OPUS}, repairs={}, twcc=False
        )
        layer = peer.transport.add_layer(kind=L.AUDIO, mid="1", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=48000)
        await peer.connect()
        return peer, layer

    async def set_up(self) -> None:
        self.flooder, self.layer = await self.publisher()
        self.speaker, spoken = await self.publisher()
        self.speaker.send(self.sound(0))
        await until(lambda: spoken.codec != 0)
        self.viewer = self.peer()
        self.viewer.transport.set_sending(ids={}, allow_mixed=False)
        self.heard = self.viewer.transport.add_subscription(kind=L.AUDIO, mid="a", cname="c", clock_rate=48000)
        self.heard.set_source(spoken, 120)
        await self.viewer.connect()
        self.joiner = self.peer()
        self.flights: list[bytes] = []
        self.joiner.transport.on_datagram = self.flights.append
        self.joiner.check()
        await asyncio.wait_for(self.joiner.connected, PATIENT)
        self.speaker.send(self.sound(1))
        await self.viewer.receive(1, self.heard.ssrc)
        self.first = len(self.viewer.received)
        self.said = 2

    @staticmethod
    def sound(k: int) -> bytes:
        return build(b"sound" + k.to_bytes(4), pt=OPUS_TYPE, seq=k, ts=960 * k, ssrc=77, ext={1: b"1"})

    async def flood(self, count: int, send: Callable[[int], object]) -> float:
        """Call `send` with 0, 1 … count - 1, AT_ONCE at a time, with a packet of the speaker's after each; the seconds.

        What `send` sends is one datagram.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, count, AT_ONCE):
            until_then = int(self.w.received) + 1
            for k in range(first, min(first + AT_ONCE, count)):
                send(k)
                until_then += 1
            self.speaker.send(self.sound(self.said))
            self.said += 1
            await until(lambda all_of=until_then: int(self.w.received) >= all_of, PATIENT)  # type: ignore[misc]
        return loop.time() - began

    async def __aenter__(self) -> Scene:
        await self.engine.start()
        await self.set_up()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.turns.stop()
        for peer in self.peers:
            await asyncio.wait_for(peer.transport.close(), PATIENT)
            peer.close()
        for sock in self.sockets:
            sock.close()
        await self.engine.stop()

    async def others_are_whole(self) -> None:
        """All that the speaker said was heard, no event was lost, and control had its turns."""
        packets = await self.viewer.receive(self.first + self.said - 2, self.heard.ssrc)
        said = [int.from_bytes(packet.payload[5:]) for packet in packets]
        assert said == list(range(said[0], said[0] + len(said))) and said[-1] == self.said - 1
        assert self.w.drop_event == 0
        assert self.turns.largest <= EVENTS_A_TURN


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with Scene(Engine(small_config())) as made:
        yield made


def dtls(first: int, k: int = 0) -> bytes:
    return bytes([first, 0xFE, 0xFD]) + bytes(8) + b"\0\x20" + k.to_bytes(32)


@pytest.mark.parametrize("first", [20, 22, 23, 63])
async def test_member_that_sends_what_looks_like_dtls_reaches_control_at_a_rate(scene: Scene, first: int) -> None:
    took = await scene.flood(10_000, lambda k: scene.flooder.sock.sendto(dtls(first), scene.flooder.server))
    for k in range(3):
        scene.joiner.sock.sendto(dtls(22, k), scene.joiner.server)
        took += await scene.flood(1000, lambda k: scene.flooder.sock.sendto(dtls(first), scene.flooder.server))

    def told() -> int:
        return scene.turns.of(scene.flooder.transport.index)[L.DTLS]

    await until(lambda: told() + int(scene.w.drop_dtls) == 13_000 and len(scene.flights) == 3, PATIENT)
    assert scene.flights == [dtls(22, k) for k in range(3)]
    most = (SETTLED_DEPTH + int(took * 1e9)) // SETTLED_PAUSE + 1
    assert 1 <= told() <= most if first in (20, 22) else told() == 0
    await scene.others_are_whole()


async def test_stranger_with_an_answer_but_no_keys_reaches_control_at_a_rate(scene: Scene) -> None:
    stranger = scene.peer()
    stranger.check()
    await asyncio.wait_for(stranger.connected, PATIENT)
    took = await scene.flood(5000, lambda k: stranger.sock.sendto(dtls(22, k), stranger.server))
    most = (DTLS_DEPTH + int(took * 1e9)) // DTLS_PAUSE + 1
    await until(lambda: scene.turns.of(stranger.transport.index)[L.DTLS] + int(scene.w.drop_dtls) == 5000, PATIENT)
    assert scene.turns.of(stranger.transport.index)[L.DTLS] <= most
    await scene.others_are_whole()


async def test_member_that_moves_to_and_fro_is_told_at_a_rate_and_checks_of_others_are_answered(scene: Scene) -> None:
    places = [scene.socket() for _ in range(3)]
    told: list[Any] = []
    scene.flooder.transport.on_address_changed = told.append
    took = await scene.flood(2000, lambda k: scene.flooder.check(sock=places[k % 3]))
    refused = int(scene.w.drop_stun)
    assert refused >= 2000 - (CHECK_DEPTH + int(took * 1e9)) // CHECK_PAUSE - 1
    assert len(told) <= (PEER_DEPTH + int(took * 1e9)) // PEER_PAUSE + 1
    before = int(scene.speaker.transport.record.last_check)
    scene.speaker.check()
    await until(lambda: int(scene.speaker.transport.record.last_check) > before, PATIENT)
    await until(lambda: not told or told[-1] == scene.flooder.transport.remote, PATIENT)
    assert int(scene.w.drop_stun) == refused
    await scene.others_are_whole()


@pytest.mark.parametrize("kind", ["jumps", "payload types", "ssrcs"])
async def test_member_that_begins_anew_at_every_packet_costs_its_own_media_only(scene: Scene, kind: str) -> None:
    watcher = scene.peer()
    seen = watcher.transport.add_subscription(kind=L.AUDIO, mid="a", cname="c", clock_rate=48000)
    await watcher.connect()
    scene.flooder.send(build(b"x", pt=OPUS_TYPE, seq=0, ts=0, ssrc=5, ext={1: b"1"}))
    await until(lambda: scene.layer.codec != 0)
    seen.set_source(scene.layer, 120)
    sequence = 0

    def send(k: int) -> None:
        nonlocal sequence
        ssrc, payload_type = 5, OPUS_TYPE
        if kind == "jumps":
            sequence += 1 if k % 2 else 20_000
        elif kind == "payload types":
            sequence, payload_type = sequence + 1, (OPUS_TYPE, VP8_TYPE)[k % 2]
        else:
            sequence, ssrc = sequence + 1, 5 + k % 20
        packet = build(b"xxxx", pt=payload_type, seq=sequence, ts=k, ssrc=ssrc, ext={1: b"1"})
        try:
            scene.flooder.send(packet)
        except Exception:  # too far for our own libsrtp: as good as any other datagram
            scene.flooder.sock.sendto(packet, scene.flooder.server)

    took = await scene.flood(4000, send)
    assert int(scene.layer.log.header.epoch) <= (EPOCH_DEPTH + int(took * 1e9)) // EPOCH_PAUSE + 1
    told = scene.turns.of(scene.layer.index)
    assert told[L.LAYER_STARTED] + told[L.LAYER_PAUSED] <= (LAYER_DEPTH + int(took * 1e9)) // LAYER_PAUSE + 1
    await scene.others_are_whole()


async def test_member_that_sends_too_much_media_is_cut_and_nobody_else(scene: Scene) -> None:
    packet = build(b"x" * 1000, pt=OPUS_TYPE, seq=1, ts=1, ssrc=5, ext={1: b"1"})
    sealed = scene.flooder.sender.protect(packet)
    took = await scene.flood(20_000, lambda k: scene.flooder.sock.sendto(sealed, scene.flooder.server))
    opened = int(scene.w.drop_srtp) + int(scene.flooder.transport.record.packets_in)
    limit = small_config().limits.uplink_packets_per_second
    assert opened <= limit * (1 + took) + 1
    policed = [int(peer.transport.record.policed) for peer in scene.peers]
    assert policed[0] == int(scene.w.drop_uplink) == 20_000 - opened and not any(policed[1:])
    await scene.others_are_whole()


@pytest.mark.parametrize(("changed", "size"), [("packets", 20), ("bits", 1200)])
async def test_limits_of_the_configuration_are_those_of_the_engine(changed: str, size: int) -> None:
    config = small_config()
    small = {"uplink_packets_per_second": 100} if changed == "packets" else {"uplink_bits_per_second": 1_000_000}
    async with Scene(Engine(config.model_copy(update={"limits": config.limits.model_copy(update=small)}))) as scene:
        datagram = bytes([0x80, OPUS_TYPE]) + bytes(size - 2)
        took = await scene.flood(2000, lambda k: scene.flooder.sock.sendto(datagram, scene.flooder.server))
        passed = 2000 - int(scene.flooder.transport.record.policed)
        at_once = 100 if changed == "packets" else 1_000_000 // 8 // size
        assert at_once <= passed <= at_once * (1 + took) + 1


async def test_events_of_all_workers_are_taken_in_turn_and_none_is_forgotten() -> None:
    engine = Engine(small_config(3))
    taken: list[list[tuple[int, int]]] = [[]]
    engine._handle = lambda worker, op, index, *rest: taken[-1].append((worker.index, index))  # type: ignore[method-assign]

    def turn() -> None:
        taken.append([])
        engine._on_events()

    loop = asyncio.get_running_loop()
    loop.add_reader(engine.wake_fd, turn)
    counts, dice = [600, 5, 90], random.Random(3)
    try:
        for worker, count in zip(engine.workers, counts, strict=True):
            for k in range(count):
                emit(worker.counters, L.SOURCE_STARTED, k, 0, 0, 0, 0)
        await until(lambda: sum(map(len, taken)) == sum(counts), PATIENT)
        assert max(map(len, taken)) <= EVENTS_A_TURN
        assert [worker for turn in taken for worker, _ in turn][:6] == [0, 1, 2, 0, 1, 2]
        for worker, count in enumerate(counts):
            assert [k for turn in taken for of, k in turn if of == worker] == list(range(count))
        for k in range(200):  # however they come: alone, in crowds, while control is at it
            for _ in range(dice.choice([1, 1, 2, 200])):
                emit(engine.workers[dice.randrange(3)].counters, L.SOURCE_STARTED, k, 0, 0, 0, 0)
            if dice.random() < 0.5:
                await asyncio.sleep(0)
            else:
                await until(lambda: all(w.events.taken == w.events.produced for w in engine.workers), PATIENT)
        await until(lambda: all(w.events.taken == w.events.produced for w in engine.workers), PATIENT)
    finally:
        loop.remove_reader(engine.wake_fd)
        for one in engine.workers:
            one.close()
        os.close(engine.wake_fd)


async def test_event_that_fails_keeps_no_other_waiting() -> None:
    engine = Engine(small_config(1))
    taken = []

    def handle(worker: Any, op: int, index: int, *rest: Any) -> None:
        taken.append(index)
        if index % 2:
            raise RuntimeError("a fault of ours")

    engine._handle = handle  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    loop.add_reader(engine.wake_fd, engine._on_events)
    try:
        for k in range(150):
            emit(engine.workers[0].counters, L.SOURCE_STARTED, k, 0, 0, 0, 0)
        await until(lambda: len(taken) == 150, PATIENT)
    finally:
        loop.remove_reader(engine.wake_fd)
        engine.workers[0].close()
        os.close(engine.wake_fd)
    assert taken == list(range(150))
