"""What is asked for: each lost video packet, when libwebrtc would, and a keyframe when nothing else helps."""

from __future__ import annotations

import random

import numpy as np
import pytest

from loadtest.engine.frames import GIVE_UP
from loadtest.engine.layout import AUDIO, ENDS, KEY, MS, PADDING, SECOND, STARTS
from loadtest.engine.repair import ACTIVE, GRACE, PATIENCE, PLI_INTERVAL, keyframe_due, note_gap
from mediacodecs.missing import MAX_MISSING, take_due
from tests.unit.loadtest.engine.test_frames import Packet, Receiver, counts, frames


def asked(r: Receiver) -> list[int]:
    """What a NACK would ask for now."""
    lost = np.zeros(MAX_MISSING, np.int64)
    count, _ = take_due(r.s, r.now, 100 * MS, lost)
    return [int(number) & 0xFFFF for number in lost[:count]]


def test_a_gap_is_asked_for_after_a_grace_and_not_if_it_fills_before() -> None:
    r = Receiver()
    packets = frames(100, 5)
    r.play(packets[:13], lost={105, 106, 111})
    assert asked(r) == [105, 106]  # each packet takes 1 ms
    r.now += GRACE
    r.put(packets[6])
    assert asked(r) == [111]
    r.now += 99 * MS
    assert asked(r) == [105]
    r.put(packets[5], repaired=True)
    r.now += SECOND
    assert asked(r) == [111]


def test_a_packet_is_asked_for_again_at_growing_pauses_until_it_is_given_up() -> None:
    r = Receiver()
    r.play(frames(100, 5), lost={105})
    r.play(frames(120, 1, keys=()))
    times = []
    begin = r.now
    while r.s.missing_count:
        r.pass_time(5 * MS)
        if asked(r):
            times.append((r.now - begin) // MS)
    assert 4 <= len(times) <= 5 and times[-1] < GIVE_UP // MS
    assert [b - a for a, b in zip(times, times[1:], strict=False)][:2] == [100, 100]
    assert r.s.given_up == 1


def test_numbers_are_asked_for_over_the_wrap() -> None:
    r = Receiver()
    r.play(frames(65530, 5), lost={65535, 65536})
    r.now += GRACE
    assert asked(r) == [65535, 0]


def test_audio_is_not_asked_for() -> None:
    r = Receiver(kind=AUDIO)
    r.play([Packet(k, 0, 960 * k) for k in (1, 5)])
    assert r.s.missing_count == 0


def test_what_a_keyframe_made_superfluous_is_not_asked_for() -> None:
    r = Receiver()
    r.play(frames(100, 12, keys=(0, 10)), lost={105})
    r.now += GRACE
    assert asked(r) == [] and r.s.frames == 3


@pytest.mark.parametrize("gap", [MAX_MISSING, MAX_MISSING + 1])
def test_only_so_many_packets_are_asked_for(gap: int) -> None:
    r = Receiver()
    r.play(frames(100, 2))
    r.put(Packet(108 + gap, STARTS | ENDS, 1_000_000))
    assert r.s.missing_count == (MAX_MISSING if gap == MAX_MISSING else 0)
    assert r.s.waiting == (0 if gap == MAX_MISSING else 1)


def test_the_oldest_make_room_when_too_many_are_missing() -> None:
    r = Receiver()
    packets = frames(100, 200)
    r.play(packets, lost=set(range(101, 600, 2)))
    r.now += GRACE
    wanted = asked(r)
    assert len(wanted) == MAX_MISSING and wanted[-1] == 599 and wanted == sorted(wanted)


def test_a_gap_that_was_passed_meanwhile_is_not_opened() -> None:
    r = Receiver()
    r.play(frames(100, 2))
    note_gap(r.s, 65536 + 90, 65536 + 100, r.now)
    assert r.s.missing_count == 0


def test_a_new_stream_gets_time_to_bring_a_keyframe() -> None:
    r = Receiver()
    r.s.next_pli = r.now + PATIENCE
    r.play(frames(100, 2, keys=()))
    r.s.last_packet = r.now
    assert not keyframe_due(r.s, r.now)
    r.now += PATIENCE
    assert keyframe_due(r.s, r.now)


def test_a_keyframe_is_asked_for_at_most_so_often_and_not_without_media() -> None:
    r = Receiver()
    packets = frames(100, 5)
    r.play(packets, lost={105})
    r.s.last_packet = r.now
    assert not keyframe_due(r.s, r.now)
    r.pass_time(GIVE_UP)
    begin, times = r.now, []
    while r.now - begin < 2 * ACTIVE:
        if keyframe_due(r.s, r.now):
            times.append(r.now - begin)
        r.now += 10 * MS
    assert times[:3] == [0, PLI_INTERVAL, 2 * PLI_INTERVAL]
    assert ACTIVE - GIVE_UP - PLI_INTERVAL <= times[-1] <= ACTIVE


def test_no_keyframe_is_asked_for_while_one_comes() -> None:
    r = Receiver()
    packets = frames(100, 1, packets=50)
    r.play(packets[:30])
    r.s.last_packet = r.now
    assert not keyframe_due(r.s, r.now)
    r.play(packets[30:])
    assert r.s.frames == 1 and not keyframe_due(r.s, r.now)


def test_audio_needs_no_keyframe() -> None:
    r = Receiver(kind=AUDIO)
    r.put(Packet(1, 0, 1))
    r.s.last_packet = r.now
    assert not keyframe_due(r.s, r.now)


@pytest.mark.parametrize("seed", range(6))
def test_only_missing_packets_are_asked_for_and_all_of_them(seed: int) -> None:
    rng = random.Random(seed)
    r = Receiver()
    lost: set[int] = set()
    wanted: list[int] = []
    late: list[tuple[int, Packet]] = []
    for packet in frames(65000, 300, packets=3):
        r.now += 2 * MS
        for due, old in [x for x in late if x[0] <= r.now]:
            r.put(old, repaired=True)
            lost.discard(old.sequence & 0xFFFF)
            late.remove((due, old))
        if rng.random() < 0.04 and r.s.frames:
            lost.add(packet.sequence & 0xFFFF)
            late.append((r.now + rng.randint(20, 300) * MS, packet))
        else:
            packet.marks |= PADDING if rng.random() < 0.01 and not packet.marks & (STARTS | KEY) else 0
            r.put(packet)
        new = asked(r)
        assert set(new) <= lost
        wanted += new
    assert counts(r, "given_up", "duplicates") == (0, 0)
    assert len(set(wanted)) == r.s.recovered + len(lost & set(wanted)) and len(wanted) >= len(set(wanted))
