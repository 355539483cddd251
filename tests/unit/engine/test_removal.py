"""Removal always finishes: one command for a whole tree, acknowledged however late, and everything is free again."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from mediacodecs import frame as codecs
from mediaserver.engine import layout as L
from mediaserver.engine.commands import take_commands
from mediaserver.engine.engine import Engine, EngineFull, Layer, Need, Subscription
from mediaserver.engine.receive import handle_rtp
from mediaserver.engine.removal import close_feed, close_layer, let_go
from mediaserver.engine.ring import TAIL, emit
from mediaserver.engine.send import send_single
from mediaserver.engine.worker import COMMAND_SLOTS
from packetio.log import load_acquire_py
from packetio.memory import PAGE, Table
from tests.unit.engine.peers import KEY, Peer, build, small_config, until

VIDEO = {"kind": L.VIDEO, "rid": None, "ssrc": None, "rtx_ssrc": None, "clock_rate": 90000}
KEYFRAME = b"\x10\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(50)  # VP8 of 640x480
VP8_TYPE = 96


class Still:
    """An engine whose workers do not run: a test lets them take commands when it wants to."""

    def __init__(self, workers: int = 1) -> None:
        self.engine = Engine(small_config(workers))
        self.engine._loop = asyncio.get_running_loop()
        self.peers: list[Peer] = []

    def peer(self, worker: int = 0) -> Peer:
        made = Peer(self.engine, self.engine.workers[worker])
        made.transport.secure(made.contexts)
        self.peers.append(made)
        return made

    def run(self, worker: int = 0) -> int:
        """Let one worker take its commands, and control look at what has come back."""
        done = take_commands(self.engine.workers[worker].counters)
        self.engine._settle()
        return int(done)


@pytest.fixture
async def still() -> AsyncIterator[Still]:
    made = Still(2)
    yield made
    for peer in made.peers:
        peer.close()
    await made.engine.stop()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(small_config(2))
    await made.start()
    yield made
    await made.stop()


def used(engine: Engine) -> list[tuple[int, ...]]:
    """How many records of each table are taken, worker by worker."""
    return [
        (w.transport_used, w.layer_used, w.feed_slots.used, w.subscription_used, w.twcc_slots.used, w.logs_used)
        for w in engine.workers
    ]


def nothing(engine: Engine) -> bool:
    return used(engine) == [(0,) * 6] * len(engine.workers) and not any(len(w.removals) for w in engine.workers)


def known(engine: Engine) -> int:
    """Addresses and ICE names that the workers would still take for somebody's."""
    tables = [table for w in engine.workers for table in (w.addresses, w.ufrags)]
    return sum(int((table.rows["transport"] != 0).sum()) for table in tables)


def publish(peer: Peer, **more: Any) -> Layer:
    return peer.transport.add_layer(**VIDEO | {"mid": "1"} | more)


def subscribe(peer: Peer, layer: Layer | None = None) -> Subscription:
    made = peer.transport.add_subscription(kind=L.VIDEO, mid="v", cname="c", clock_rate=90000)
    made.set_source(layer, VP8_TYPE)
    return made


async def test_transport_with_four_thousand_subscriptions_goes_by_one_command() -> None:
    config = small_config()
    limits = config.limits.model_copy(update={"subscriptions": 4096})
    engine = Engine(config.model_copy(update={"limits": limits}))
    await engine.start()
    publisher, viewer = Peer(engine, engine.workers[0]), Peer(engine, engine.workers[0])
    await publisher.connect()
    await viewer.connect()
    layer = publish(publisher)
    for _ in range(4000):
        subscribe(viewer, layer)
    commands = viewer.transport.worker.commands
    await until(lambda: load_acquire_py(commands.address + TAIL) == commands.produced)
    before = commands.produced
    viewer.transport.close()
    publisher.transport.close()
    assert commands.produced == before + 2
    await until(lambda: nothing(engine))
    assert not engine.transports and not engine.layers and not engine.subscriptions
    for peer in (publisher, viewer):
        peer.close()
    await engine.stop()


async def test_nothing_is_free_before_the_worker_has_let_go_and_all_of_it_after(still: Still) -> None:
    peer = still.peer()
    peer.transport.twcc = peer.transport.worker.twcc_slots.take()
    layer = publish(peer)
    subscribe(peer, layer)
    still.run()
    taken = used(still.engine)
    closed = peer.transport.close()
    for _ in range(3):
        still.engine._settle()
    assert used(still.engine) == taken and not closed.done() and peer.transport.contexts is not None
    still.run()
    assert nothing(still.engine) and peer.transport.contexts is None
    await closed


async def test_closing_that_nobody_waits_for_any_more_is_finished(still: Still) -> None:
    peer = still.peer()
    publish(peer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.transport.close(), 0.01)
    again = peer.transport.close()
    still.run()
    assert nothing(still.engine)
    await again


async def test_commands_that_find_the_ring_full_are_carried_out_in_their_turn(still: Still) -> None:
    peer = still.peer()
    one = subscribe(peer)
    for lag in range(COMMAND_SLOTS + 100):
        one.set_lag(lag)
    peer.transport.close()
    assert still.run() == COMMAND_SLOTS
    assert still.run() > 100
    assert nothing(still.engine) and int(one.record.lag) == (COMMAND_SLOTS + 99) * L.MS


async def test_what_a_worker_told_of_an_old_record_is_heard_before_its_index_is_used_again(still: Still) -> None:
    peer = still.peer()
    layer = publish(peer)
    still.run()
    worker = peer.transport.worker
    assert emit(worker.counters, L.LAYER_STARTED, layer.index, codecs.VP8, VP8_TYPE, 0, 0)
    layer.close()
    still.run()
    assert worker.layer_used == 1, "the event of the old layer is still in the ring"
    still.engine._on_events()
    assert worker.layer_used == 0
    told: list[int] = []
    successor = publish(peer)
    successor.on_started = lambda codec, payload_type: told.append(codec)
    still.engine._on_events()
    assert successor.index == layer.index and told == []


async def test_log_is_free_when_every_worker_that_reads_it_has_let_go(still: Still) -> None:
    publisher, viewer = still.peer(0), still.peer(1)
    layer = publish(publisher)
    one = subscribe(viewer, layer)
    still.run(0)
    still.run(1)
    assert int(one.record.target) > 0 and used(still.engine)[1][2] == 1
    publisher.transport.close()
    still.run(0)
    owner = still.engine.workers[0]
    assert owner.transport_used == 0 and owner.logs_used == owner.layer_used == 1
    still.run(1)
    assert owner.logs_used == owner.layer_used == 0 and used(still.engine)[1][2] == 0
    assert int(one.record.target) == int(one.record.feed) == 0 and one.layer is None
    assert int(owner.counters.foreign_feeds) == int(still.engine.workers[1].counters.foreign_feeds) == 0


@pytest.mark.parametrize("part", ["subscription", "layer", "feed"])
async def test_removal_that_control_sees_half_done_is_not_taken_for_done(still: Still, part: str) -> None:
    publisher, viewer = still.peer(0), still.peer(1)
    layer = publish(publisher)
    one = subscribe(viewer, None if part == "layer" else layer)
    still.run(0)
    still.run(1)
    before, here, there = used(still.engine), *(worker.counters for worker in still.engine.workers)
    if part == "subscription":
        one.close()
        let_go(there, one.index)
    else:
        layer.close()
        close_layer(here, layer.index) if part == "layer" else close_feed(there, int(one.record.target))
    still.engine._settle()
    assert used(still.engine) == before


async def test_subscription_that_is_closed_sends_no_commands(still: Still) -> None:
    peer = still.peer()
    one = subscribe(peer)
    one.close()
    before = peer.transport.worker.commands.produced
    for act in (lambda: one.set_lag(1), lambda: one.pause(True), one.request_keyframe, lambda: one.set_layers(0, 0)):
        act()
    assert peer.transport.worker.commands.produced == before


async def test_peer_that_never_connects_holds_no_memory(still: Still) -> None:
    peer = Peer(still.engine, still.engine.workers[0])
    still.peers.append(peer)
    region = still.engine.workers[0].logs.region
    before = os.fstat(region.fd).st_blocks
    layer = publish(peer)
    still.run()
    assert used(still.engine)[0] == (1, 1, 1, 0, 0, 1) and not layer.opened
    assert os.fstat(region.fd).st_blocks == before
    peer.transport.secure(peer.contexts)
    assert layer.opened and os.fstat(region.fd).st_blocks > before
    peer.transport.close()
    still.run()
    header = PAGE // 512  # blocks: a late reader still looks at it
    assert nothing(still.engine) and os.fstat(region.fd).st_blocks <= before + header


async def test_peer_adds_and_removes_tracks_all_day(engine: Engine) -> None:
    peer = Peer(engine, engine.workers[0])
    peer.transport.set_receiving(kinds={}, codecs={VP8_TYPE: codecs.VP8}, repairs={}, twcc=False)
    await peer.connect()
    row = peer.transport.record
    for k in range(L.SSRC_LIVES * int(row.ssrc_limit) + 10):
        layer = publish(peer)
        peer.send(build(KEYFRAME, pt=VP8_TYPE, seq=k, ts=9000, ssrc=1000 + k))
        await until(lambda layer=layer: int(layer.log.header.received_packets) == 1)
        await layer.close()
    assert int(row.ssrc_count) == int(row.ssrc_total) == 0 and int(row.rtcp_ssrc_count) == 0
    await peer.transport.close()
    peer.close()
    assert nothing(engine)


async def test_stream_of_a_layer_that_is_gone_is_as_new(engine: Engine) -> None:
    """Whoever holds an SSRC again begins anew: libsrtp would take the first packets of the next life for replays."""
    peer = Peer(engine, engine.workers[0])
    peer.transport.set_receiving(kinds={}, codecs={VP8_TYPE: codecs.VP8}, repairs={}, twcc=False)
    await peer.connect()
    sealed = peer.sender.protect(build(KEYFRAME, pt=VP8_TYPE, seq=1, ts=9000, ssrc=77))
    for _ in range(3):
        layer = publish(peer)
        peer.sock.sendto(sealed, peer.server)
        await until(lambda layer=layer: int(layer.log.header.received_packets) == 1)
        await layer.close()
    await peer.transport.close()
    peer.close()


async def test_packet_that_comes_while_its_peer_is_let_go_touches_nothing_of_it(still: Still) -> None:
    """The command that removes the peer is taken in the middle of the packet, as one that adds its layer would be."""
    peer = still.peer()
    still.run()
    worker, row = peer.transport.worker, peer.transport.record
    told = worker.events.produced
    peer.transport.close()
    sealed = peer.sender.protect(build(KEYFRAME, pt=VP8_TYPE, seq=1, ts=9000, ssrc=77))
    worker.receive_slots.data.rows[: len(sealed)] = np.frombuffer(sealed, np.uint8)
    handle_rtp(worker.counters, peer.transport.index, 0, len(sealed), 0)
    assert row.packets_in == 1 and int(row.state) == L.CLOSING
    assert row.ssrc_count == 0 and worker.events.produced == told


async def test_nothing_that_is_queued_points_to_a_record_that_is_controls_again(still: Still) -> None:
    peer = still.peer()
    still.run()
    w, data = peer.transport.worker.counters, Table(np.dtype("u1"), 100)
    peer.transport.record.remote_size, w.fd = 16, -1
    send_single(w, peer.transport.record, data.address, 100)
    assert w.queued == 1
    peer.transport.close()
    take_commands(w)
    assert w.queued == 0


async def test_stream_that_was_refused_is_taken_when_a_layer_for_it_comes(engine: Engine) -> None:
    peer = Peer(engine, engine.workers[0])
    peer.transport.set_receiving(kinds={}, codecs={VP8_TYPE: codecs.VP8}, repairs={}, twcc=False)
    await peer.connect()
    peer.send(build(KEYFRAME, pt=VP8_TYPE, seq=1, ts=9000, ssrc=77))
    await until(lambda: int(engine.workers[0].counters.drop_ssrc) == 1)
    layer = publish(peer)
    await until(lambda: int(layer.record.state) == L.OPEN)
    peer.send(build(KEYFRAME, pt=VP8_TYPE, seq=2, ts=9000, ssrc=77))
    await until(lambda: int(layer.log.header.received_packets) == 1)
    await peer.transport.close()
    peer.close()


async def test_ssrcs_towards_a_peer_are_never_used_twice(still: Still) -> None:
    peer = still.peer()
    worker = peer.transport.worker
    seen = set()
    for _ in range(50):
        worker.generations[:] = 7  # as after a whole turn of the generations
        one = subscribe(peer)
        assert one.ssrc not in seen
        seen.add(one.ssrc)
        one.close()
        still.run()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_of_joins_and_leaves_every_count_is_what_it_was(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    gc.collect()  # sockets of tests before
    before, files = used(engine), descriptors()
    people: list[Peer] = []
    all_of_them: list[Peer] = []
    for _ in range(150):
        step = chance.random()
        if step < 0.5 and len(people) < 12:
            peer = Peer(engine, chance.choice(engine.workers), chance.choice(list(KEY)))
            people.append(peer)
            all_of_them.append(peer)
            if chance.random() < 0.8:
                await peer.connect()
            for _ in range(chance.randrange(3)):
                peer.transport.restart_ice(os.urandom(4).hex(), os.urandom(12).hex())
            try:
                for k in range(chance.randrange(3)):
                    publish(peer, mid=str(k))
                layers = list(engine.layers.values())
                for _ in range(chance.randrange(4) if layers else 0):
                    subscribe(peer, chance.choice(layers))
            except EngineFull:
                pass
        elif people and step < 0.8:
            leaving = people.pop(chance.randrange(len(people)))
            leaving.transport.close()
            leaving.close()
        elif people:
            one = chance.choice(people).transport
            for part in chance.sample([*one.layers, *one.subscriptions], k=min(1, len(one.layers))):
                part.close()
    assert known(engine) > 0
    for peer in people:
        peer.transport.close()
        peer.close()
    await until(lambda: nothing(engine))
    assert known(engine) == 0
    assert (used(engine), descriptors()) == (before, files)
    assert not engine.transports and not engine.layers and not engine.subscriptions and not engine.foreign
    assert all(peer.contexts.inbound == 0 for peer in all_of_them if int(peer.connected.done()))


async def test_worker_without_room_is_passed_over(still: Still) -> None:
    engine = still.engine
    home = engine.place("r", Need(video=1), publishing=True)
    other = next(worker for worker in engine.workers if worker is not home)
    taken = [home.logs.take(L.VIDEO) for _ in range(12)]
    assert engine.place("r", Need(video=1), publishing=True) is other
    assert engine.place("r", Need(audio=1), publishing=True) is home
    for _ in range(12):
        other.logs.take(L.VIDEO)
    with pytest.raises(EngineFull, match="video logs"):
        engine.place("r", Need(video=1), publishing=True)
    home.logs.give(L.VIDEO, taken[0])
    assert engine.place("r", Need(video=1), publishing=True) is home
