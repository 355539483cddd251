"""What one worker reads of another's logs: every packet without being asked, nothing torn, nothing of a freed log."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from aiortc.rtp import RtcpRtpfbPacket

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID, RID
from mediacodecs.frame import VP8
from mediacodecs.kernel import kernel
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Layer
from mediaserver.engine.forward import load_packet, send_run
from mediaserver.engine.layout import layer_at
from mediaserver.engine.loop import forward_news
from mediaserver.engine.paced import paced_round
from mediaserver.engine.parameters import publish
from mediaserver.engine.ring import mark
from packetio.log import PARAMETERS, copy_parameters, holds
from packetio.memory import Table, bytes_at, load_acquire, numbers_at, store_release
from tests.unit.engine.desk import Desk, Track
from tests.unit.engine.peers import Peer, build, small_config, until
from tests.unit.engine.test_cursors import Stream, Viewer
from tests.unit.engine.test_forwarding import VP8_TYPE, vp8
from tests.unit.engine.test_sending import LONG, Slow, wait_for_full_socket

SET_CHANGES = 200_000


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(small_config(2))
    await made.start()
    yield made
    await made.stop()


async def test_each_packet_for_another_worker_is_forwarded_without_the_next_one(engine: Engine) -> None:
    """One packet at a time, on a random one of several feeds: a notice that is lost shows as a packet that waits."""
    rng = random.Random(4)
    publisher, viewer = Peer(engine, engine.workers[0]), Peer(engine, engine.workers[1])
    publisher.transport.set_receiving(kinds={1: MID, 2: RID}, codecs={VP8_TYPE: codecs.VP8}, repairs={}, twcc=False)
    rids = "abcdef"
    layers: list[Layer] = [
        publisher.transport.add_layer(kind=L.VIDEO, mid="1", rid=rid, ssrc=None, rtx_ssrc=None, clock_rate=90000)
        for rid in rids
    ]
    await publisher.connect()
    await viewer.connect()
    sent = dict.fromkeys(rids, 0)

    def send(rid: str, *, key: bool = False) -> None:
        sent[rid] += 1
        payload = vp8(sent[rid], key=key, size=60)
        ext = {1: b"1", 2: rid.encode()}
        number = sent[rid]
        publisher.send(build(payload, pt=VP8_TYPE, seq=number, ts=3000 * number, ssrc=ord(rid), marker=1, ext=ext))

    subscriptions = []
    for rid, layer in zip(rids, layers, strict=True):
        send(rid, key=True)
        await until(lambda layer=layer: layer.codec != 0)  # type: ignore[misc]
        subscription = viewer.transport.add_subscription(kind=L.VIDEO, mid=rid, cname="c", clock_rate=90000)
        subscription.set_source(layer, 120)
        subscriptions.append(subscription)
        await viewer.receive(1, subscription.ssrc)
    for _ in range(300):
        rid = rng.choice(rids)
        send(rid)
        await viewer.receive(sent[rid], subscriptions[rids.index(rid)].ssrc)
    await asyncio.wait_for(viewer.transport.close(), 8)
    assert [int(layer.log.header.readers[1]) > 0 for layer in layers] == [True] * len(layers)
    await asyncio.wait_for(publisher.transport.close(), 8)
    for peer in (publisher, viewer):
        peer.close()
    assert int(engine.workers[1].counters.foreign_feeds) == 0


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


class Foreign(Stream):
    """A track whose log another worker writes, as far as the one at the desk knows."""

    def __init__(self, desk: Desk, ssrc: int = 0x11110000) -> None:
        super().__init__(desk, ssrc)
        self.feed.layer = 0
        desk.w.foreign_feeds += 1

    def announce(self) -> None:
        """What the writer does beside appending; then the worker's round."""
        mark(self.desk.w.news, self.track.feed_index)
        forward_news(self.desk.w)

    def give_up(self) -> None:
        """The writer frees the log."""
        desk, log = self.desk, self.track.log
        desk.worker.logs.give(L.VIDEO, 1 + log.offset // desk.worker.logs.steps[L.VIDEO])


def live(desk: Desk, stream: Foreign) -> Viewer:
    """A viewer that gets the stream as it comes."""
    viewer = Viewer(desk, stream)
    viewer.watch(stream)
    stream.put(key=True)
    stream.announce()
    assert len(viewer.packets()) == 1 and viewer.record.mode == L.LIVE
    return viewer


def test_feeds_without_news_are_not_looked_at(desk: Desk) -> None:
    told, untold = Foreign(desk), Foreign(desk, 0x22220000)
    viewers = [live(desk, told), live(desk, untold)]
    told.put()
    untold.put()
    told.announce()
    assert [len(viewer.packets()) for viewer in viewers] == [1, 0]
    untold.announce()
    assert [len(viewer.packets()) for viewer in viewers] == [0, 1]


def test_worker_that_has_yet_to_look_is_not_woken_again(desk: Desk) -> None:
    stream = Foreign(desk)
    assert mark(desk.w.news, 3) and not mark(desk.w.news, 3) and mark(desk.w.news, 4)
    assert mark(desk.w.news, 63) and not mark(desk.w.news, 63)
    stream.announce()
    assert mark(desk.w.news, 3) and mark(desk.w.news, 63)


def test_news_that_come_while_the_log_is_being_read_are_looked_at_again(desk: Desk) -> None:
    """The reader is held up by a full socket in the middle of it; the writer must find it in want of a call."""
    stream, slow = Foreign(desk), Slow(desk)
    viewers = [Viewer(desk, stream) for _ in range(12)]
    for viewer in viewers:
        slow.direct(viewer.end)
        viewer.watch(stream)
    desk.w.send_wait, desk.w.out_size = LONG, 1  # flushed before each viewer's packet
    stream.put(key=True)
    mark(desk.w.news, stream.track.feed_index)
    working = threading.Thread(target=forward_news, args=(desk.w,))
    working.start()
    try:
        wait_for_full_socket(desk)
        assert mark(desk.w.news, stream.track.feed_index)
    finally:
        while working.is_alive():
            slow.waiting()
        working.join()
        slow.close()
    assert desk.worker.news.rows.any()


@pytest.mark.parametrize("used_again", [False, True])
def test_feed_whose_log_was_freed_sends_nothing_more(desk: Desk, used_again: bool) -> None:
    stream = Foreign(desk)
    viewer, lagging = live(desk, stream), Viewer(desk, stream, lag=20 * L.MS)
    stream.put(key=True)
    lagging.watch(stream)
    assert lagging.record.mode == L.PACED
    stream.announce()
    (last,) = viewer.packets()
    stream.log.header.keyframe_wanted = 0
    stream.give_up()
    if used_again:
        other = Stream(desk, 0x33330000)
        assert other.log.base == stream.log.base and other.log.generation != stream.log.generation
        other.next = stream.next - 2
        for _ in range(5):
            other.put(key=True)
    late = Viewer(desk, stream)
    late.watch(stream)
    for _ in range(20):
        desk.w.now += 5 * L.MS
        stream.announce()
        paced_round(desk.w)
    viewer.end.rtcp(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(viewer.record.ssrc), lost=[last.sequence]))
    assert viewer.packets() == lagging.packets() == late.packets() == []
    assert viewer.record.unanswered == 1 and int(stream.log.header.keyframe_wanted) == 0


@pytest.mark.parametrize("fate", ["kept", "freed", "used again"])
def test_packet_whose_log_goes_while_it_is_sealed_does_not_leave(desk: Desk, fate: str) -> None:
    """The look before a round is not enough: the log may go while the round is at work."""
    stream = Foreign(desk)
    viewer = live(desk, stream)
    position = stream.put()
    assert load_packet(desk.w, stream.log.base, position, desk.worker.packets.rows[0])
    if fate != "kept":
        stream.give_up()
    if fate == "used again":
        Stream(desk, 0x33330000).put(at=position)
        assert holds(stream.log.base, position)
    send_run(desk.w, viewer.record, viewer.end.record, 1, stream.feed)
    assert len(viewer.packets()) == (fate == "kept") and desk.w.drop_overrun == (fate != "kept")


@kernel
def change_sets(layer_address: int, words: int, count: int) -> None:
    """Write parameter sets whose bytes and sizes tell a number, again and again."""
    layer = layer_at(layer_address)
    for number in range(count):
        layer.sps_size, layer.pps_size = 20 + number % 300, 10 + number % 200
        for k in range(layer.sps_size):
            layer.sps[k] = number & 255
        for k in range(layer.pps_size):
            layer.pps[k] = number & 255
        publish(layer)
    store_release(words, 1)


@kernel
def read_sets(base: int, words: int, buffer: int, out: int) -> None:
    """Copy them meanwhile: out counts copies that are whole and those that are torn."""
    b = bytes_at(buffer, PARAMETERS)
    counts = numbers_at(out, 2)
    store_release(words + 8, 1)
    while load_acquire(words) == 0 or counts[0] + counts[1] == 0:
        size = copy_parameters(base, buffer)
        if size == 0:
            continue
        first = (b[1] << 8) | b[2]
        good = size == 5 + first + ((b[3 + first] << 8) | b[4 + first])
        for k in range(3, 3 + first):
            good = good and b[k] == b[3]
        for k in range(5 + first, size):
            good = good and b[k] == b[3]
        counts[0 if good else 1] += 1


def test_parameter_sets_that_change_while_another_worker_copies_them_are_copied_whole(desk: Desk) -> None:
    track = Track(desk.peer())
    words, out = Table(np.dtype("i8"), 2), Table(np.dtype("i8"), 2)
    buffer = Table(np.dtype("u1"), PARAMETERS)
    reader = threading.Thread(target=read_sets, args=(track.log.base, words.address, buffer.address, out.address))
    reader.start()
    while not words.rows[1]:
        pass  # compiling
    change_sets(int(track.record.sps.ctypes.data) - L.LAYER.fields["sps"][1], words.address, SET_CHANGES)  # type: ignore[index]
    reader.join()
    assert out.rows[0] > 0 and out.rows[1] == 0


def test_keyframe_before_which_the_sets_are_being_changed_leaves_without_them(desk: Desk) -> None:
    stream = Foreign(desk)
    stream.log.header.codec = VP8
    viewer = live(desk, stream)
    header = stream.log.header
    header.parameters_size = 30
    header.parameters_version += 1
    stream.put(key=True, bare=True)
    stream.announce()
    (alone,) = viewer.packets()
    header.parameters_version += 1
    stream.put(key=True, bare=True)
    stream.announce()
    sets, key = viewer.packets()
    assert sets.payload == bytes(30) and sets.sequence == alone.sequence + 1 and key.sequence == alone.sequence + 2
