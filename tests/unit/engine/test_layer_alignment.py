"""A switch to another layer keeps to the publisher's clock: its sender reports say how far two layers are apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.sources import timestamp_offset_for
from tests.unit.engine.desk import Desk, Outgoing, Track

RATE = 90_000
LATE = 700  # ms by which the new layer's packets come later than the old one's


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def reported(track: Track, *, ntp: int, timestamp: int) -> None:
    """Let a sender report of the layer have said that `timestamp` was sampled at `ntp` (ns)."""
    header = track.log.header
    header.sr_ntp, header.sr_timestamp, header.sr_arrival = ntp, timestamp, track.desk.w.now


def viewer_of(desk: Desk, old: Track, *, last: int, offset: int) -> Outgoing:
    """A viewer who got the old layer's time stamp `last - offset` as `last`, some time ago."""
    viewer = Outgoing(desk.peer(), old)
    viewer.record.last_timestamp, viewer.record.timestamp_offset = last, offset
    viewer.record.last_sent = desk.w.now - LATE * L.MS
    return viewer


@pytest.mark.parametrize("base", [1_000_000, (1 << 32) - 2000])
def test_picture_of_the_same_instant_gets_the_same_time_in_every_layer(desk: Desk, base: int) -> None:
    publisher = desk.peer()
    old, new = Track(publisher, ssrc=1), Track(publisher, ssrc=2)
    ntp, start = 10_000 * L.SECOND, 55_555
    reported(old, ntp=ntp, timestamp=start)
    reported(new, ntp=ntp + 2 * L.SECOND, timestamp=base)
    viewer = viewer_of(desk, old, last=7_000_000, offset=7_000_000 - start)
    picture = base - 2 * RATE + RATE // 2  # sampled half a second after the old layer's last picture
    offset = timestamp_offset_for(desk.w, viewer.record, new.feed, picture & 0xFFFFFFFF, int(desk.w.now))
    assert (picture + offset - 7_000_000) & 0xFFFFFFFF == RATE // 2


def test_without_reports_time_goes_on_by_the_clock(desk: Desk) -> None:
    publisher = desk.peer()
    old, new = Track(publisher, ssrc=1), Track(publisher, ssrc=2)
    viewer = viewer_of(desk, old, last=7_000_000, offset=0)
    offset = timestamp_offset_for(desk.w, viewer.record, new.feed, 123, int(desk.w.now))
    assert 123 + offset - 7_000_000 == RATE * LATE // 1000


def test_reports_of_another_publisher_are_not_compared(desk: Desk) -> None:
    old, new = Track(desk.peer(), ssrc=1), Track(desk.peer(), ssrc=2)
    reported(old, ntp=10_000 * L.SECOND, timestamp=55_555)
    reported(new, ntp=10_000 * L.SECOND, timestamp=100)
    viewer = viewer_of(desk, old, last=7_000_000, offset=7_000_000 - 55_555)
    viewer.record.fresh = 1
    offset = timestamp_offset_for(desk.w, viewer.record, new.feed, 100 + RATE, int(desk.w.now))
    assert 100 + RATE + offset - 7_000_000 == RATE * LATE // 1000


def test_time_never_goes_back_at_a_switch(desk: Desk) -> None:
    publisher = desk.peer()
    old, new = Track(publisher, ssrc=1), Track(publisher, ssrc=2)
    reported(old, ntp=10_000 * L.SECOND, timestamp=55_555)
    reported(new, ntp=10_000 * L.SECOND, timestamp=100)
    viewer = viewer_of(desk, old, last=7_000_000, offset=7_000_000 - 55_555)
    offset = timestamp_offset_for(
        desk.w, viewer.record, new.feed, 100 - 30, int(desk.w.now)
    )  # a picture before the last one
    assert 100 - 30 + offset == 7_000_001
