"""What one peer can cost others, and records that are let go twice or asked for when they are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from mediacodecs.frame import VP8
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine
from mediaserver.engine.receive import handle_rtp
from mediaserver.engine.ring import emit
from mediaserver.engine.send import EINVAL, queue_message, refused
from tests.unit.engine.desk import Desk, Track
from tests.unit.engine.peers import Peer, small_config


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(small_config())
    await made.start()
    yield made
    await made.stop()


def test_malformed_packets_of_ever_new_ssrcs_are_bounded(desk: Desk) -> None:
    end = desk.peer()
    end.record.ssrc_limit = 4
    for k in range(100):
        packet = bytes([0xA0, 96, 0, k]) + bytes(4) + (1000 + k).to_bytes(4) + bytes(10)  # padding of no bytes
        data = end.sealer.protect(packet)
        desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
        handle_rtp(desk.w, end.index, 0, len(data), 0)
    assert end.record.packets_in == desk.w.drop_garbage == 4 * L.SSRC_LIVES
    assert desk.w.drop_ssrc == 100 - 4 * L.SSRC_LIVES


def test_late_packet_of_a_replaced_ssrc_does_not_take_the_layer_back(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end, ssrc=-1)
    end.record.ssrc_limit = 8
    end.record.codecs[96] = VP8
    track.record.started = track.record.active = 0

    def send(ssrc: int, sequence: int) -> int:
        packet = bytes([0x80, 96]) + sequence.to_bytes(2) + bytes(4) + ssrc.to_bytes(4) + bytes([0x10]) + bytes(20)
        data = end.sealer.protect(packet)
        desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
        handle_rtp(desk.w, end.index, 0, len(data), 0)
        return int(track.record.ssrc)

    assert [send(1, 10), send(1, 11), send(2, 500), send(1, 12), send(2, 501)] == [1, 1, 2, 2, 2]
    assert track.log.header.epoch == 1 and track.log.header.received_packets == 4
    desk.w.now += 2 * L.SECOND
    assert send(1, 13) == 1


@pytest.mark.parametrize("reachable", [True, False])
def test_segmentation_is_given_up_only_when_the_pieces_can_be_sent(desk: Desk, reachable: bool) -> None:
    end = desk.peer()
    desk.w.gso = 1
    queue_message(desk.w, end.record, 0, 300, 100, 0)
    if not reachable:
        desk.worker.queue.messages.rows[0].name_size = 0
    refused(desk.w, 0, EINVAL)
    desk.w.queued = desk.w.queued_bytes = 0
    assert (end.record.singly_until > desk.w.now, desk.w.drop_send) == ((True, 0) if reachable else (False, 3))
    assert desk.w.gso == 1


def test_event_that_found_no_room_says_so(desk: Desk) -> None:
    told = [int(emit(desk.w, L.ICE_CONNECTED, 1, 0, 0, 0, 0)) for _ in range(desk.w.event_slots + 2)]
    assert told == [*range(1, int(desk.w.event_slots) + 1), 0, 0] and desk.w.drop_event == 2


async def test_records_that_are_closed_twice_are_given_back_once(engine: Engine) -> None:
    worker = engine.workers[0]
    before = [sorted(s.free) for s in (worker.subscription_slots, worker.layer_slots, worker.feed_slots)]
    peer = Peer(engine, worker)
    layer = peer.transport.add_layer(kind=L.VIDEO, mid="1", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000)
    made = [peer.transport.add_subscription(kind=L.VIDEO, mid=str(k), cname="c", clock_rate=90000) for k in range(3)]
    for one in made:
        one.set_source(layer, 120)
    closing = peer.transport.close()
    await asyncio.wait_for(asyncio.gather(closing, layer.close(), *(one.close() for one in made)), 5)
    peer.close()
    after = [sorted(s.free) for s in (worker.subscription_slots, worker.layer_slots, worker.feed_slots)]
    assert after == before


async def test_closed_layer_is_no_source(engine: Engine) -> None:
    worker = engine.workers[0]
    peer = Peer(engine, worker)
    layer = peer.transport.add_layer(kind=L.VIDEO, mid="1", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000)
    subscription = peer.transport.add_subscription(kind=L.VIDEO, mid="v", cname="c", clock_rate=90000)
    await asyncio.wait_for(layer.close(), 5)
    subscription.set_source(layer, 120)
    assert subscription.layer is None and not layer.readers
    await asyncio.wait_for(peer.transport.close(), 5)
    peer.close()
    assert int(subscription.record.feed) == int(subscription.record.target) == 0
