"""Who waited for a stream gets it from its first packet on, however late control is; who comes later starts as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.handles import Layer
from mediaserver.engine.paced import HOLE
from mediaserver.engine.sources import OPENING
from tests.unit.engine.stage import Stage
from tests.unit.engine.theatre import Publisher, Viewer, leave, pass_time

MS = L.MS


class Show:
    """A publisher of sound and of a picture, and people who watch."""

    def __init__(self) -> None:
        self.stage = Stage(workers=2)
        self.publisher = Publisher(self.stage)
        self.sound = self.publisher.layer(L.AUDIO, "0")
        self.picture = self.publisher.layer(L.VIDEO, "1")
        self.publisher.guest.connect()
        self.viewers: list[Viewer] = []

    def viewer(self, kind: int = L.AUDIO, *, worker: int = 0, connected: bool = True, lag: int = 0) -> Viewer:
        made = Viewer(self.stage, worker=worker, kind=kind, connected=connected)
        if lag:
            made.made.set_lag(lag)
        self.viewers.append(made)
        self.stage.turn()
        return made

    def play(self, first: int, end: int, *, keys: tuple[int, ...] = (), ms: int = 20) -> None:
        """Numbers first … end - 1: of sound, or of pictures when some of them are keyframes."""
        for number in range(first, end):
            if keys:
                self.publisher.picture(number, key=number in keys, mid=b"1")
            else:
                self.publisher.sound(number, mid=b"0")
            pass_time(self.stage, ms * MS)

    def layer(self, kind: int) -> Layer:
        return self.sound if kind == L.AUDIO else self.picture


@pytest.fixture
async def show() -> AsyncIterator[Show]:
    made = Show()
    yield made
    await leave(made.stage, made.publisher, *made.viewers)


async def test_sound_begins_with_its_first_packet_for_all_who_waited(show: Show) -> None:
    viewers = [show.viewer(worker=k % 2) for k in range(6)]
    show.play(100, 120)  # control is 400 ms late
    for viewer in viewers:
        viewer.watch(show.sound)
    show.play(120, 125)
    for viewer in viewers:
        assert viewer.numbers() == list(range(100, 125))
        assert [p.timestamp for p in viewer.packets()] == [960 * k for k in range(100, 125)]
        assert viewer.made.record.mode == L.LIVE


async def test_pictures_begin_with_the_first_keyframe_and_not_with_the_newest(show: Show) -> None:
    viewers = [show.viewer(L.VIDEO, worker=k % 2) for k in range(4)]
    show.play(10, 40, keys=(10, 25))
    for viewer in viewers:
        viewer.watch(show.picture)
    show.play(40, 43, keys=(10, 25))
    for viewer in viewers:
        assert viewer.numbers() == list(range(10, 43))


async def test_late_joiner_starts_with_the_next_sound_and_the_newest_keyframe(show: Show) -> None:
    show.play(100, 105)
    show.play(10, 20, keys=(10, 15))
    sound, picture = show.viewer(L.AUDIO), show.viewer(L.VIDEO)
    sound.watch(show.sound)
    picture.watch(show.picture)
    show.play(105, 107)
    show.play(20, 22, keys=(10, 15))
    assert sound.numbers() == [105, 106]
    assert picture.numbers() == list(range(15, 22))


@pytest.mark.parametrize("kind", [L.AUDIO, L.VIDEO])
async def test_viewer_with_a_lag_misses_nothing_either(show: Show, kind: int) -> None:
    viewer = show.viewer(kind, lag=200)
    keys = (10, 20) if kind == L.VIDEO else ()
    show.play(10, 30, keys=keys)  # twice as late as the lag
    viewer.watch(show.layer(kind))
    pass_time(show.stage, 220 * MS)
    assert viewer.numbers() == list(range(10, 30))


async def test_who_is_still_shaking_hands_gets_what_began_meanwhile(show: Show) -> None:
    viewer = show.viewer(connected=False)
    show.play(100, 103)
    viewer.watch(show.sound)
    show.play(103, 106)
    assert viewer.numbers() == []
    viewer.guest.connect()
    show.play(106, 108)
    assert viewer.numbers() == list(range(100, 108))


async def test_beginning_that_is_long_ago_is_let_go(show: Show) -> None:
    viewer = show.viewer()
    count = OPENING // (20 * MS) + 1
    show.play(100, 100 + count)
    viewer.watch(show.sound)
    show.play(100 + count, 102 + count)
    assert viewer.numbers() == [100 + count, 101 + count]


async def test_stream_that_begins_again_begins_anew_for_who_came_in_the_pause(show: Show) -> None:
    before = show.viewer()
    show.play(100, 102)
    before.watch(show.sound)
    pass_time(show.stage, 2500 * MS)
    assert not show.sound.active
    viewer = show.viewer()
    show.play(102, 110)
    viewer.watch(show.sound)
    show.play(110, 112)
    assert viewer.numbers() == list(range(102, 112))
    assert before.numbers() == list(range(100, 112))


async def test_first_packets_that_were_swapped_on_the_way_both_come(show: Show) -> None:
    viewer = show.viewer()
    for number in (101, 100, 102):
        show.publisher.sound(number)
    pass_time(show.stage, 20 * MS)
    viewer.watch(show.sound)
    show.play(103, 105)
    assert viewer.numbers() == list(range(100, 105))


async def test_lost_packet_in_the_beginning_leaves_its_number_only(show: Show) -> None:
    viewer = show.viewer()
    show.play(100, 102)
    show.play(103, 105)
    viewer.watch(show.sound)
    show.publisher.sound(102)
    show.play(105, 107)
    assert [p.timestamp // 960 for p in viewer.packets()] == [100, 101, 102, 103, 104, 105, 106]
    first = viewer.packets()[0].sequence
    assert [p.sequence - first for p in viewer.packets()] == list(range(7))


async def test_publisher_that_starts_anew_meanwhile_is_followed_from_its_new_beginning(show: Show) -> None:
    viewer = show.viewer()
    show.play(100, 103)
    for number in range(5000, 5004):
        show.publisher.sound(number, ssrc=77)
        pass_time(show.stage, 20 * MS)
    viewer.watch(show.sound)
    show.play(5004, 5004)
    pass_time(show.stage, 20 * MS)
    assert viewer.numbers() == list(range(5000, 5004))


async def test_who_has_paused_the_stream_gets_it_from_now_on(show: Show) -> None:
    viewer = show.viewer()
    viewer.made.pause(True)
    show.play(100, 103)
    viewer.watch(show.sound)
    show.play(103, 105)
    viewer.made.pause(False)
    show.play(105, 107)
    assert viewer.numbers() == [105, 106]


async def test_switch_to_a_stream_that_has_just_begun_waits_for_its_next_keyframe(show: Show) -> None:
    other = show.publisher.layer(L.VIDEO, "2")
    show.stage.turn()
    viewer = show.viewer(L.VIDEO)
    show.play(10, 12, keys=(10,))
    viewer.watch(show.picture)
    pass_time(show.stage, 20 * MS)
    for number in range(500, 504):
        show.publisher.picture(number, key=number == 500, ssrc=9, mid=b"2")
        show.stage.turn()
    viewer.watch(other)
    show.play(12, 14, keys=(10,))
    assert viewer.numbers() == list(range(10, 14))
    show.publisher.picture(504, key=True, ssrc=9, mid=b"2")
    pass_time(show.stage, 20 * MS)
    assert viewer.numbers() == [*range(10, 14), 504]


async def test_many_keyframes_are_too_much_to_begin_with_then_a_nearer_one_is_taken(show: Show) -> None:
    viewer = show.viewer(L.VIDEO)
    show.stage.engine.workers[0].counters.burst = 500  # bytes; a picture has 75
    show.play(10, 60, keys=(10, 20, 30, 40, 50))
    viewer.watch(show.picture)
    pass_time(show.stage, 100 * MS)
    assert viewer.numbers()[0] in (40, 50)


async def test_numbers_that_jump_cost_the_burst_and_bind_nobody_for_longer(show: Show) -> None:
    """A few packets span millions of positions, which a cursor steps over: as bytes of its budget, so in turns."""
    count, step = 20, 2999
    burst = int(show.stage.engine.workers[0].counters.burst)
    assert count * step * HOLE > 2 * burst
    viewer = show.viewer()
    for k in range(count):
        show.publisher.sound(100 + k * step, mid=b"0")
    show.stage.turn()
    viewer.watch(show.sound)
    show.stage.turn()
    first = len(viewer.packets())
    assert 0 < first <= burst // (step * HOLE) + 2
    pass_time(show.stage, 20_000 * MS)
    assert len(viewer.packets()) == count


async def test_pictures_that_begin_again_begin_with_a_keyframe_of_now(show: Show) -> None:
    show.play(10, 15, keys=(10,))
    pass_time(show.stage, 2500 * MS)
    assert not show.picture.active
    viewer = show.viewer(L.VIDEO)
    show.play(15, 22, keys=(18,))
    viewer.watch(show.picture)
    show.play(22, 24, keys=(18,))
    assert viewer.numbers() == list(range(18, 24))
