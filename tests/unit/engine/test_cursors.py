"""Cursors where it is easy to go wrong: holes, new epochs, late keyframes, switches that are waited for, long lives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RtcpRtpfbPacket

from mediacodecs.extensions import ABS_CAPTURE_TIME
from mediacodecs.frame import VP8
from mediaserver.engine import layout as L
from mediaserver.engine.access import packet_of
from mediaserver.engine.forward import forward_feed, load_packet
from mediaserver.engine.numbering import insert, late_index, leave_out, next_index, start_at
from mediaserver.engine.paced import paced_round
from mediaserver.engine.rewrite import timestamp_of, write_head
from mediaserver.engine.sources import set_source
from mediaserver.engine.ticks import tick
from packetio.log import BARE_KEYFRAME, END, KEYFRAME, START, append, begin_epoch
from tests.unit.engine.desk import Desk, FarEnd, Outgoing, Track
from tests.unit.engine.peers import Rtp, parse

TYPES = 121 << 8 | 120


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


class Stream:
    """A track whose packets a test writes by hand."""

    def __init__(self, desk: Desk, ssrc: int = 0x11110000) -> None:
        self.desk, self.track = desk, Track(desk.peer(), ssrc=ssrc)
        self.log, self.feed = self.track.log, self.track.feed
        self.log.header.codec = VP8
        self.next = self.track.first

    def put(
        self,
        *,
        key: bool = False,
        bare: bool = False,
        at: int | None = None,
        stamp: int | None = None,
        picture: int = -1,
    ) -> int:
        """Write one packet, at the next position if none is given; returns its position."""
        position = self.next if at is None else at
        self.next = max(self.next, position + 1)
        draft = self.track.draft.rows[0]
        data = np.frombuffer(bytes(12) + b"\x90\x80" + bytes(2) + position.to_bytes(8), np.uint8).copy()
        draft.length, draft.payload_at, draft.arrival = data.size, 12, self.desk.w.now
        draft.marks = (KEYFRAME if key else 0) | (BARE_KEYFRAME if bare else 0) | START | END
        draft.epoch = int(self.log.header.epoch)
        draft.timestamp = (3000 * position if stamp is None else stamp) & 0xFFFFFFFF
        draft.picture_id_bits, draft.picture_id, draft.picture_id_at = (15, picture, 2) if picture >= 0 else (0, -1, 0)
        assert append(self.log.base, position, draft, int(data.ctypes.data)) == 1
        return position

    def renew(self) -> None:
        """The publisher's numbering begins anew."""
        self.next = begin_epoch(self.log.base, int(self.log.header.packets)) + 65536
        self.next += 7 * int(self.log.header.epoch)  # another place in the ring

    def forward(self) -> None:
        """Serve the live cursors."""
        forward_feed(self.desk.w, self.track.feed_index)


class Viewer:
    """A subscription that has no source yet, on a peer of its own."""

    def __init__(self, desk: Desk, stream: Stream, lag: int = 0) -> None:
        self.desk, self.end = desk, FarEnd(desk)
        desk.ends.append(self.end)
        self.index = Outgoing(self.end, stream.track).index
        self.record: Any = desk.worker.subscriptions.rows[self.index]
        self.record.mode, self.record.feed, self.record.lag = L.PARKED, 0, lag
        self.record.max_spatial = self.record.max_temporal = 255

    def watch(self, stream: Stream) -> None:
        """The command SET_SOURCE."""
        set_source(self.desk.w, self.index, stream.track.feed_index, VP8 << 17 | TYPES)

    def packets(self) -> list[Rtp]:
        """What came since the last call."""
        return [
            parse(self.end.opener.unprotect(data)) for data in self.end.datagrams() if not 192 <= data[1] & 255 <= 223
        ]

    def positions(self) -> list[int]:
        """The log positions of what came, as the payloads tell them."""
        return [int.from_bytes(p.payload[-8:]) for p in self.packets()]


def rounds(desk: Desk, ns: int) -> None:
    """Let paced cursors run for a while."""
    for _ in range(ns // (5 * L.MS)):
        desk.w.now += 5 * L.MS
        paced_round(desk.w)


@pytest.mark.parametrize("hole", [3, 200, 256, 257, 258, 700, 2900])
def test_lagged_cursor_steps_over_a_hole_of_any_size(desk: Desk, hole: int) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream, lag=500 * L.MS)
    first = stream.put(key=True)
    viewer.watch(stream)
    stream.next += hole
    after = [stream.put() for _ in range(3)]
    rounds(desk, 600 * L.MS)
    packets = viewer.packets()
    assert [int.from_bytes(p.payload[-8:]) for p in packets] == [first, *after]


def test_lagged_cursor_that_the_writer_overtook_goes_on(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream, lag=500 * L.MS)
    stream.put(key=True)
    viewer.watch(stream)
    for _ in range(2 * int(stream.log.header.packets)):
        stream.put()
    rounds(desk, 600 * L.MS)
    assert viewer.record.highest == stream.next - 1 and viewer.positions()


def test_lag_longer_than_the_log_is_as_long_as_the_log_allows(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream, lag=3600 * L.SECOND)
    first = stream.put(key=True)
    viewer.watch(stream)
    packets = int(stream.log.header.packets)
    got: list[int] = []
    for _ in range(packets // 2):
        for _ in range(4):
            stream.put()
        rounds(desk, 5 * L.MS)
        got += viewer.positions()
    assert got == list(range(first, first + len(got)))
    assert stream.next - got[-1] > packets * 3 // 4


def test_lagged_cursor_ends_the_old_epoch_before_it_begins_the_new_one(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream, lag=500 * L.MS)
    stamp = 0x7000_0000
    old = [stream.put(key=True)]
    viewer.watch(stream)
    for _ in range(20):
        old.append(stream.put())
        rounds(desk, 20 * L.MS)
    stream.renew()
    new = [stream.put(key=True, stamp=stamp)]
    stream.forward()
    for k in range(1, 60):
        rounds(desk, 20 * L.MS)
        new.append(stream.put(stamp=stamp + 1800 * k))
        stream.forward()
    packets = viewer.packets()
    got = [int.from_bytes(p.payload[-8:]) for p in packets]
    assert got == [*old, *new][: len(got)] and len(got) > len(old) + 20
    numbers = [p.sequence for p in packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    jump = packets[len(old)].timestamp - packets[len(old) - 1].timestamp
    assert 0 < jump < 9000, "time stamps go on as the clock does"


def test_replay_that_an_epoch_overtakes_begins_again_at_its_keyframe(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True)
    stream.put()
    stream.forward()
    viewer.watch(stream)
    assert viewer.record.mode == L.PACED
    stream.renew()
    stream.put()
    key = stream.put(key=True)
    stream.forward()
    rounds(desk, 20 * L.MS)
    assert viewer.record.mode == L.LIVE
    after = stream.put()
    stream.forward()
    assert viewer.positions() == [key, after]


def test_paced_cursor_that_waits_for_another_feed_is_in_one_list_after_a_new_epoch(desk: Desk) -> None:
    stream, other = Stream(desk), Stream(desk, 0x22220000)
    viewer, bystander = Viewer(desk, stream), Viewer(desk, stream)
    stream.put(key=True)
    stream.forward()
    viewer.watch(stream)
    viewer.watch(other)
    assert viewer.record.mode == L.PACED and viewer.record.target == other.track.feed_index
    stream.renew()
    stream.put()
    stream.forward()
    bystander.watch(stream)
    rounds(desk, 10 * L.MS)
    key = other.put(key=True)
    other.forward()
    assert viewer.positions() == [key] and bystander.positions() == []
    assert other.feed.first_waiting == 0 and other.feed.live_count == 1
    assert stream.feed.first_waiting == bystander.index and bystander.record.wait_next == 0


def test_waiting_cursor_that_is_given_its_source_again_still_waits(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    stream.renew()
    stream.put()
    stream.forward()
    viewer.positions()
    viewer.watch(stream)
    assert viewer.record.mode == L.WAITING and stream.feed.first_waiting == viewer.index
    key = stream.put(key=True)
    stream.forward()
    assert viewer.positions() == [key]


def test_two_epochs_in_one_round_are_both_begun(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    viewer.packets()
    stream.renew()
    stream.put(key=True, stamp=77)
    stream.renew()
    stream.put(key=True, stamp=0x9000_0000)
    stream.put(stamp=0x9000_0000 + 3000)
    stream.forward()
    packets = viewer.packets()
    assert len(packets) == 3
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(packets, packets[1:], strict=False)]
    assert 0 < steps[0] < 90000 and steps[1] == 3000


def test_keyframe_whose_first_packet_came_late_is_replayed_whole(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put()
    stream.forward()
    viewer.watch(stream)
    late = stream.next
    stream.next += 1
    rest = [stream.put() for _ in range(3)]
    stream.forward()
    stream.put(key=True, at=late)
    stream.forward()
    rounds(desk, 10 * L.MS)
    assert viewer.positions() == [late, *rest] and viewer.record.mode == L.LIVE


def test_keyframe_is_not_asked_for_when_a_new_epoch_begins_with_one(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    stream.renew()
    stream.put(key=True)
    stream.forward()
    assert viewer.record.mode == L.LIVE and stream.track.record.keyframe_pending == 0


def test_picture_ids_go_on_although_the_publishers_have_wrapped(desk: Desk) -> None:
    stream, other = Stream(desk), Stream(desk, 0x22220000)
    viewer = Viewer(desk, stream)
    viewer.record.last_picture, viewer.record.last_tl0 = 5, 0
    stream.put(key=True, picture=30000)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    for picture in (30001, 3):
        stream.put(picture=picture)
        stream.forward()
    viewer.watch(other)
    other.put(key=True, picture=9000)
    other.forward()
    got = [int.from_bytes(p.payload[2:4]) & 0x7FFF for p in viewer.packets()]
    assert got == [6, 7, (3 - 30000 + 6) & 0x7FFF, (3 - 30000 + 7) & 0x7FFF]


def test_time_stamps_are_those_of_the_stream_hours_after_a_replay(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True, stamp=0)
    for k in range(1, 10):
        desk.w.now += 100 * L.MS
        stream.put(stamp=9000 * k)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    sub = viewer.record
    assert sub.squeeze_from == 0 and sub.mode == L.LIVE
    stream.put(stamp=9000 * 10 + 40 * 90000)
    stream.forward()
    for _ in range(8):
        desk.w.tick += 1
        tick(desk.w)
    for hours in (1, 6, 7, 12, 13, 14):
        stamp = hours * 3600 * 90000
        assert timestamp_of(sub, stamp & 0xFFFFFFFF) == (stamp + sub.timestamp_offset) & 0xFFFFFFFF


def test_packet_that_came_behind_a_replay_is_answered_by_retransmission(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    stream.put(key=True)
    missing = stream.next
    stream.next += 1
    stream.put()
    stream.forward()
    viewer.watch(stream)
    stream.desk.w.now += 5 * L.MS
    viewer.record.budget_at = desk.w.now
    paced_round(desk.w)
    first, last = viewer.packets()
    assert last.sequence == first.sequence + 2
    stream.put(at=missing)
    nack = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(viewer.record.ssrc), lost=[first.sequence + 1])
    viewer.end.rtcp(nack)
    (again,) = viewer.packets()
    assert again.ssrc == viewer.record.rtx_ssrc and int.from_bytes(again.payload[-8:]) == missing


@pytest.mark.parametrize("size", [8, 16, 17, 200])
def test_only_elements_that_a_one_byte_header_can_hold_are_passed_on(desk: Desk, size: int) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    position = stream.put(key=True)
    p = packet_of(desk.w, 0)
    assert load_packet(desk.w, stream.log.base, position, p)
    p.entry.capture_size, p.entry.capture_at = size, 0
    p.entry.audio_level = p.entry.orientation = 255
    viewer.end.record.ids[ABS_CAPTURE_TIME] = 4
    head = write_head(desk.w, viewer.record, viewer.end.record, p, 1, int(desk.w.arena))
    got = parse(desk.worker.queue.arena.rows[:head].tobytes()).extensions
    assert {k: len(v) for k, v in got.items()} == ({4: size} if size <= 16 else {})


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_late_packets_are_found_among_inserted_and_left_out_ones(desk: Desk, seed: int) -> None:
    rng = random.Random(seed)
    sub = Viewer(desk, Stream(desk)).record
    sub.feed = 1
    start_at(sub, 5 << 16)
    kept: dict[int, int] = {}
    position, number = (5 << 16) - 1, int(sub.out_highest)
    for _ in range(3000):
        for _ in range(rng.choice([0, 0, 0, 1, 30])):
            position, number = position + 1, number + 1
            kept[position] = number
        position += 1
        what = rng.random()
        if what < 0.2:
            leave_out(sub, position)
            continue
        if what < 0.4:
            number += 1
            assert insert(sub, position) == number
        number += 1
        assert next_index(sub, position) == number
        late = rng.choice([*list(kept)[-40:], position, position - 1])
        expected = kept.pop(late, -1)
        assert late_index(sub, late) == (expected if expected > number - L.MAP_SIZE else -1)
