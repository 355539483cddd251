"""Packets that come out of order and are not for a subscription: their numbers leave without payload.

A number is kept for each packet that is missing. Were it left open because the packet turns out to be padding or of a
higher layer, the receiver would ask for it again and again, and then for a keyframe.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from aiortc.rtp import RtcpRtpfbPacket

from mediacodecs.extensions import ABS_CAPTURE_TIME, AUDIO_LEVEL
from mediacodecs.frame import VP8
from mediaserver.engine import layout as L
from mediaserver.engine.paced import paced_round
from packetio.log import END, KEYFRAME, PADDING_ONLY, START, append
from packetio.srtp import CM80, GCM
from tests.unit.engine.desk import Desk, FarEnd, Outgoing
from tests.unit.engine.peers import Rtp
from tests.unit.engine.test_cursors import Stream, Viewer


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


class Layered(Stream):
    """A track of temporal (or spatial) layers and padding."""

    @property
    def first(self) -> int:
        return self.track.first

    def add(self, at: int, *, key: bool = False, **kind: int) -> None:
        """Write the packet of a position and serve the live cursors."""
        self.log_packet(at, key=key, **kind)
        self.forward()

    def log_packet(
        self, at: int, *, temporal: int = 0, spatial: int = 0, key: bool = False, padding: bool = False
    ) -> None:
        """Write the packet of a position."""
        draft = self.track.draft.rows[0]
        payload = b"" if padding else b"\x90\x80" + bytes(2) + at.to_bytes(8)
        data = np.frombuffer(bytes(12) + payload, np.uint8).copy()
        draft.length, draft.payload_at, draft.arrival = data.size, 12, self.desk.w.now
        draft.marks = PADDING_ONLY if padding else (KEYFRAME if key else 0) | START | END
        draft.epoch, draft.timestamp = int(self.log.header.epoch), (3000 * at) & 0xFFFFFFFF
        draft.temporal, draft.spatial, draft.picture_id, draft.audio_level = temporal, spatial, -1, 20
        assert append(self.log.base, at, draft, int(data.ctypes.data)) == 1


class Limited(Viewer):
    """A viewer of the lowest layers, live on a stream whose keyframe it has got."""

    def __init__(self, desk: Desk, stream: Layered, profile: str = GCM) -> None:
        self.desk, self.end = desk, FarEnd(desk, profile)
        desk.ends.append(self.end)
        self.index = Outgoing(self.end, stream.track).index
        self.record = desk.worker.subscriptions.rows[self.index]
        self.record.mode, self.record.feed = L.PARKED, 0
        self.record.max_spatial = self.record.max_temporal = 0
        self.watch(stream)

    def ask_again(self, number: int) -> list[Rtp]:
        """NACK one sequence number; what comes."""
        self.end.rtcp(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(self.record.ssrc), lost=[number & 0xFFFF]))
        return self.packets()


def numbers(packets: list[Rtp]) -> list[int]:
    return [p.sequence - packets[0].sequence for p in packets]


@pytest.mark.parametrize("profile", [GCM, CM80])
@pytest.mark.parametrize("late", [{"temporal": 1}, {"spatial": 1}, {"padding": True}])
def test_number_kept_for_a_late_packet_that_is_left_out_leaves_as_padding(
    desk: Desk, profile: str, late: dict[str, int]
) -> None:
    stream = Layered(desk)
    viewer = Limited(desk, stream, profile)
    viewer.end.record.ids[AUDIO_LEVEL], viewer.end.record.ids[ABS_CAPTURE_TIME] = 3, 4
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 3)
    stream.add(first + 1, **late)
    stream.add(first + 2)
    stream.add(first + 4)
    packets = viewer.packets()
    assert numbers(packets) == [0, 3, 2, 1, 4] or numbers(packets) == [0, 3, 1, 2, 4]
    (empty,) = [p for p in packets if not p.payload]
    assert numbers(packets)[packets.index(empty)] == 1
    assert (empty.padding, empty.marker, empty.payload_type, empty.extensions) == (1, 0, 120, {})
    assert empty.ssrc == viewer.record.ssrc and empty.timestamp == (packets[0].timestamp + 3000) & 0xFFFFFFFF
    whole = [int.from_bytes(p.payload[-8:]) for p in packets if p.payload]
    assert sorted(whole) == [first, first + 2, first + 3, first + 4]


def test_late_packet_of_a_layer_that_is_sent_leaves_with_its_payload(desk: Desk) -> None:
    stream = Layered(desk)
    viewer = Limited(desk, stream)
    viewer.record.max_temporal = 1
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 3)
    stream.add(first + 2, temporal=1)
    stream.add(first + 1, temporal=2)
    packets = viewer.packets()
    assert numbers(packets) == [0, 3, 2, 1]
    assert [len(p.payload) > 0 for p in packets] == [True, True, True, False]


def test_packets_left_out_late_stand_in_one_run_with_others(desk: Desk) -> None:
    """One round brings all: what is sent is a train, and what is left out does not break into it."""
    stream = Layered(desk)
    viewer, all_layers = Limited(desk, stream), Limited(desk, stream)
    desk.w.gso = 1
    all_layers.record.max_temporal = all_layers.record.max_spatial = 255
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 9)
    for at in (1, 2, 3, 4, 5, 6, 7, 8, 10):
        stream.log_packet(first + at, temporal=at & 1)
    trains = int(desk.w.trains)
    stream.forward()
    assert desk.w.trains - trains == 2 + 4, "a train for each viewer, and the four numbers of one"
    got, every = viewer.packets(), all_layers.packets()
    assert sorted(numbers(got)) == list(range(11)) and sorted(numbers(every)) == list(range(11))
    assert [n for n, p in zip(numbers(got), got, strict=True) if not p.payload] == [1, 3, 5, 7]
    assert all(p.payload for p in every)
    assert viewer.record.dropped == 4


def test_number_that_left_without_payload_is_resent_without(desk: Desk) -> None:
    stream = Layered(desk)
    viewer = Limited(desk, stream)
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 2)
    stream.add(first + 1, temporal=1)
    (start, *_) = viewer.packets()
    viewer.record.max_temporal = viewer.record.temporal = 255
    (again,) = viewer.ask_again(start.sequence + 1)
    assert again.ssrc == viewer.record.rtx_ssrc
    assert again.payload == ((start.sequence + 1) & 0xFFFF).to_bytes(2) and again.padding == 0
    (again,) = viewer.ask_again(start.sequence + 2)
    assert int.from_bytes(again.payload[-8:]) == first + 2


def test_packet_that_came_behind_a_replay_and_is_left_out_is_answered_without_payload(desk: Desk) -> None:
    stream = Layered(desk)
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 3)
    viewer = Limited(desk, stream)
    desk.w.now += 5 * L.MS
    viewer.record.budget_at = desk.w.now
    paced_round(desk.w)
    start, last = viewer.packets()
    assert last.sequence == start.sequence + 3
    stream.log_packet(first + 1, temporal=1)
    stream.log_packet(first + 2, padding=True)
    for k in (1, 2):
        (again,) = viewer.ask_again(start.sequence + k)
        assert again.payload == ((start.sequence + k) & 0xFFFF).to_bytes(2)


def test_layer_that_was_given_up_is_still_resent_where_it_was_sent(desk: Desk) -> None:
    stream = Layered(desk)
    viewer = Limited(desk, stream)
    viewer.record.max_temporal = 255
    first = stream.first
    stream.add(first, key=True)
    stream.add(first + 1, temporal=1)
    start, upper = viewer.packets()
    viewer.record.max_temporal = viewer.record.temporal = 0
    (again,) = viewer.ask_again(upper.sequence)
    assert int.from_bytes(again.payload[-8:]) == first + 1


def test_publisher_is_not_asked_for_keyframes_by_numbers_left_out(desk: Desk) -> None:
    """The number space of a viewer of the base layer has no hole, whatever the order of arrival."""
    rng = np.random.default_rng(3)
    stream = Layered(desk)
    stream.log.header.codec = VP8
    viewer = Limited(desk, stream)
    stream.add(stream.first, key=True)
    packets = viewer.packets()
    for block in range(40):
        for k in rng.permutation(12):
            at = stream.first + 1 + 12 * block + int(k)
            kind = at % 4
            stream.add(at, temporal=kind & 1, padding=kind == 2)
        packets += viewer.packets()
    got = sorted(numbers(packets))
    assert got == list(range(len(got)))
    whole = sorted(int.from_bytes(p.payload[-8:]) for p in packets if p.payload)
    assert whole == [at for at in range(stream.first, stream.first + 481) if at % 4 == 0]
