"""Frames from packets: in any order, with gaps, repairs, duplicates, wraps and restarts; and what a freeze is."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from loadtest.engine.frames import GIVE_UP, give_up, note_packet, position_of
from loadtest.engine.layout import AUDIO, ENDS, HAS, KEY, MS, PADDING, REPAIRED, SECOND, STARTS, STREAM, VIDEO, WINDOW
from loadtest.engine.repair import note_gap
from packetio.memory import Table

FRAME = 40 * MS
SPACING = 1 * MS


@dataclass
class Packet:
    sequence: int  # not cut to 16 bits
    marks: int
    stamp: int


@dataclass
class Receiver:
    """A stream's record, packets put into it as `receive` does, and a clock."""

    first: int = 100
    kind: int = VIDEO
    now: int = 10 * SECOND
    table: Table = field(default_factory=lambda: Table(STREAM, 1))

    def __post_init__(self) -> None:
        self.s: Any = self.table.rows[0]
        self.s.kind, self.s.rtx_ssrc = self.kind, -1

    def put(self, packet: Packet, repaired: bool = False) -> bool:
        """Whether the packet was new."""
        position = position_of(self.s, packet.sequence & 0xFFFF, int(repaired), self.now)
        if position < 0:
            return False
        before = int(self.s.highest)
        marks = packet.marks | (REPAIRED if repaired else 0)
        fresh = note_packet(self.s, position, marks, packet.stamp, self.now)
        if fresh:
            note_gap(self.s, before, position, self.now)
        assert self.s.highest - WINDOW < self.s.next <= self.s.highest + 1
        return bool(fresh)

    def play(self, packets: list[Packet], lost: set[int] | None = None) -> None:
        """Packets in order, a millisecond apart, those of these numbers left out."""
        for packet in packets:
            self.now += SPACING
            if packet.sequence not in (lost or set()):
                self.put(packet)

    def pass_time(self, ns: int) -> None:
        self.now += ns
        give_up(self.s, self.now)


def frames(first: int, count: int, packets: int = 4, keys: tuple[int, ...] = (0,), stamp: int = 7000) -> list[Packet]:
    """So many frames of so many packets from a sequence number on; those named in `keys` are keyframes."""
    made = []
    for frame in range(count):
        for k in range(packets):
            marks = (STARTS if k == 0 else 0) | (ENDS if k == packets - 1 else 0)
            marks |= KEY if k == 0 and frame in keys else 0
            made.append(Packet(first + frame * packets + k, marks, (stamp + 3600 * frame) & 0xFFFFFFFF))
    return made


def counts(r: Receiver, *names: str) -> tuple[int, ...]:
    return tuple(int(r.s[name]) for name in names)


@pytest.mark.parametrize("first", [1, 100, 65533, 65500])
def test_frames_in_order_are_complete_and_decodable(first: int) -> None:
    r = Receiver()
    r.play(frames(first, 50, keys=(0, 20)))
    assert counts(r, "frames", "keyframes", "missed", "waiting") == (50, 2, 0, 0)
    assert counts(r, "given_up", "first_missing", "duplicates", "blocked_since") == (0, 0, 0, 0)
    assert r.s.highest - r.s.first_position + 1 == 200
    assert r.s.first_frame == 10 * SECOND + 4 * SPACING


@pytest.mark.parametrize("seed", range(12))
def test_any_order_within_the_window_gives_the_same_frames(seed: int) -> None:
    rng = random.Random(seed)
    r = Receiver()
    packets = frames(65400, 60)
    head, rest = packets[:4], packets[4:]
    r.play(head)
    order = sorted(range(len(rest)), key=lambda k: k + rng.random() * 20)
    for k in order:
        r.now += SPACING
        assert r.put(rest[k])
        if rng.random() < 0.1:
            assert not r.put(rest[k])
    assert counts(r, "frames", "keyframes", "missed", "given_up", "first_missing") == (60, 1, 0, 0, 0)
    assert r.s.missing_count == 0 and r.s.duplicates > 0


def test_a_late_joiner_waits_for_the_keyframe_and_misses_nothing_before_it() -> None:
    r = Receiver()
    r.play(frames(100, 20, keys=(9,))[2:])
    assert counts(r, "frames", "keyframes", "missed", "waiting") == (11, 1, 0, 0)


def test_a_frame_may_end_without_a_marker() -> None:
    r = Receiver()
    packets = frames(100, 10)
    for packet in packets:
        packet.marks &= ~ENDS
    r.play(packets)
    assert r.s.frames == 9


def test_padding_belongs_to_no_frame() -> None:
    r = Receiver()
    packets = frames(100, 5)
    padding = [Packet(120, PADDING, packets[-1].stamp), Packet(121, PADDING, packets[-1].stamp)]
    r.play(packets + padding + frames(122, 5, keys=(), stamp=50_000))
    assert counts(r, "frames", "missed") == (10, 0)


def test_a_packet_that_never_comes_ends_decoding_until_the_next_keyframe() -> None:
    r = Receiver()
    packets = frames(100, 30, keys=(0, 20))
    r.play(packets[:60], lost={100 + 4 * 5 + 1})
    assert counts(r, "frames", "missed") == (5, 0) and r.s.blocked_since > 0
    r.pass_time(GIVE_UP)
    assert counts(r, "frames", "missed", "waiting", "given_up", "first_missing") == (5, 10, 1, 1, 1)
    r.play(packets[60:])
    assert counts(r, "frames", "missed", "keyframes", "waiting") == (5 + 10, 15, 2, 0)
    assert r.s.missing_count == 0


@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_lost_packet_anywhere_in_a_frame_is_one_broken_frame(place: int) -> None:
    r = Receiver()
    packets = frames(100, 8, keys=(0, 6))
    r.play(packets[:24], lost={100 + 4 * 5 + place})
    r.pass_time(GIVE_UP)
    r.play(packets[24:])
    assert counts(r, "frames", "missed") == (5 + 2, 1)


def test_a_frame_that_is_lost_whole_is_missed() -> None:
    r = Receiver()
    packets = frames(100, 8, keys=(0, 6))
    r.play(packets[:24], lost=set(range(116, 120)))
    r.pass_time(GIVE_UP)
    assert counts(r, "frames", "missed", "given_up") == (4, 2, 4)
    r.play(packets[24:])
    assert counts(r, "frames", "missed") == (4 + 2, 2)


def test_a_repaired_packet_completes_what_waited_for_it() -> None:
    r = Receiver()
    packets = frames(100, 20)
    r.play(packets, lost={121})
    assert r.s.frames == 5
    assert r.put(packets[21], repaired=True)
    assert counts(r, "frames", "missed", "recovered", "first_missing", "given_up") == (20, 0, 1, 1, 0)
    assert not r.put(packets[21], repaired=True)
    assert r.s.duplicates == 1


def test_a_late_packet_that_was_asked_for_is_recovered_and_one_that_was_not_is_reordered() -> None:
    r = Receiver()
    packets = frames(100, 20)
    r.play(packets, lost={121, 130})
    r.s.missing_tries[0] = 1
    r.put(packets[21])
    r.put(packets[30])
    assert counts(r, "frames", "recovered", "first_missing") == (20, 1, 1)


def test_a_packet_that_comes_after_it_was_given_up_is_not_counted_as_recovered() -> None:
    r = Receiver()
    packets = frames(100, 20)
    r.play(packets, lost={121})
    r.pass_time(GIVE_UP + 1)
    assert r.put(packets[21])
    assert not r.put(packets[21])
    assert counts(r, "given_up", "recovered", "duplicates") == (1, 0, 1)


def test_a_whole_keyframe_behind_a_gap_ends_the_waiting_at_once() -> None:
    r = Receiver()
    packets = frames(100, 30, keys=(0, 10))
    r.play(packets[:43], lost={121})
    assert counts(r, "frames", "missed") == (5, 0)
    r.play(packets[43:44])  # the keyframe's last packet
    assert counts(r, "frames", "missed", "keyframes", "given_up") == (6, 5, 2, 1)
    assert r.s.missing_count == 0
    r.put(packets[21], repaired=True)  # in time, though nobody needs it any more
    assert counts(r, "given_up", "first_missing", "recovered") == (0, 1, 1)
    r.play(packets[44:])
    assert counts(r, "frames", "missed") == (25, 5)


def test_who_waits_for_a_keyframe_goes_on_where_it_begins() -> None:
    r = Receiver()
    packets = frames(100, 10, keys=(3,))
    r.play(packets, lost={105})
    assert counts(r, "frames", "missed", "given_up", "first_missing") == (7, 0, 1, 1)


def test_a_broken_keyframe_is_replaced_by_the_next_one() -> None:
    r = Receiver()
    packets = frames(100, 10, keys=(0, 5))
    r.play(packets, lost={102})
    assert counts(r, "frames", "keyframes", "waiting") == (5, 1, 0)


def test_gaps_of_audio_are_given_up_each_in_its_own_time() -> None:
    r = Receiver(kind=AUDIO)
    lost = {110, 130, 131, 170}
    for k in range(100):
        r.now += 20 * MS
        give_up(r.s, r.now)
        if 100 + k not in lost:
            r.put(Packet(100 + k, 0, 960 * k))
    assert counts(r, "given_up", "first_missing", "frames", "missed", "missing_count") == (4, 4, 0, 0, 0)
    assert r.s.next == r.s.highest + 1


def test_a_gap_of_audio_that_fills_by_itself_is_no_loss() -> None:
    r = Receiver(kind=AUDIO)
    r.play([Packet(k, 0, 960 * k) for k in (100, 102, 101, 103)])
    assert counts(r, "given_up", "first_missing", "recovered", "blocked_since") == (0, 0, 0, 0)


def test_a_jump_has_to_be_confirmed_and_then_begins_anew() -> None:
    r = Receiver()
    r.play(frames(100, 10))
    assert not r.put(Packet(40_000, STARTS | ENDS | KEY, 1))
    assert r.s.frames == 10
    r.play(frames(100 + 40, 1, keys=()))  # the jump was nonsense
    assert r.s.frames == 11
    again = frames(40_000, 10, stamp=900_000)
    r.play([Packet(39_999, 0, 1), *again])
    assert counts(r, "frames", "keyframes", "missed", "given_up") == (21, 2, 0, 0)
    assert r.s.highest - r.s.first_position + 1 == 44 + 40
    assert r.s.highest & 0xFFFF == 40_039


def test_a_drop_out_longer_than_the_window_counts_as_loss() -> None:
    r = Receiver()
    r.play(frames(100, 10))
    r.play(frames(140 + WINDOW + 60, 5, stamp=900_000))
    assert counts(r, "frames", "given_up", "first_missing") == (15, WINDOW + 60, WINDOW + 60)
    assert r.s.highest - r.s.first_position + 1 == 40 + WINDOW + 60 + 20


@pytest.mark.parametrize("gap", [129, 500, WINDOW - 1, WINDOW])
def test_a_gap_too_large_to_repair_is_given_up_at_once(gap: int) -> None:
    r = Receiver()
    r.play(frames(100, 10))
    r.play(frames(140 + gap, 5, keys=(1,), stamp=900_000))
    assert counts(r, "frames", "given_up", "missing_count") == (14, gap, 0)
    assert r.s.highest - r.s.first_position + 1 == 40 + gap + 20


def test_a_very_old_repaired_packet_is_nothing() -> None:
    r = Receiver()
    r.play(frames(100, 600))
    assert not r.put(Packet(100, STARTS | KEY, 7000), repaired=True)
    assert counts(r, "duplicates", "frames", "odd") == (0, 600, -1)


def test_a_packet_before_the_first_one_counts_as_expected() -> None:
    r = Receiver()
    packets = frames(100, 3)
    r.put(packets[1])
    r.put(packets[0])
    assert r.s.highest - r.s.first_position + 1 == 2
    assert r.s.marks[int(r.s.first_position) % WINDOW] & HAS


@pytest.mark.parametrize("seed", range(20))
def test_what_is_lost_repaired_and_given_up_adds_up(seed: int) -> None:
    """Random loss, half of it repaired within 200 ms: against a plain account of what came."""
    rng = random.Random(seed)
    r = Receiver()
    packets = frames(rng.choice([10, 64000, 65530]), 400, packets=3, keys=tuple(range(0, 400, 25)))
    later: list[tuple[int, Packet]] = []
    dead = set()
    for packet in packets:
        r.now += 4 * MS
        for due, old in [x for x in later if x[0] <= r.now]:
            assert r.put(old, repaired=True)
            later.remove((due, old))
        give_up(r.s, r.now)
        if packet is packets[0] or packet is packets[-1] or rng.random() > 0.05:
            r.put(packet)
        elif rng.random() < 0.5:
            later.append((r.now + rng.randint(10, 200) * MS, packet))
        else:
            dead.add(packet.sequence)
    for _, old in later:
        assert r.put(old, repaired=True)
    r.pass_time(GIVE_UP)
    assert r.s.highest - r.s.first_position + 1 == 1200
    assert r.s.given_up == len(dead)
    assert r.s.first_missing == r.s.recovered + len(dead)
    assert r.s.duplicates == 0
    assert r.s.next == r.s.highest + 1 and r.s.missing_count == 0
    whole = {n for n in range(400) if not dead & {packets[3 * n + k].sequence for k in range(3)}}
    decodable = chain = 0
    for n in range(400):
        chain = n in whole and (chain or n % 25 == 0)
        decodable += chain
    assert decodable * 0.7 <= r.s.frames <= decodable  # a keyframe behind a gap lets frames go that were repaired later
    assert r.s.frames + r.s.missed <= 400


def times(r: Receiver, *gaps: int) -> None:
    """Frames of one packet, each so many ms after the one before."""
    sequence = 100
    for k, gap in enumerate((0, *gaps)):
        r.now += gap * MS
        marks = STARTS | ENDS | (KEY if k == 0 else 0)
        r.put(Packet(sequence + k, marks, 3600 * k))


def test_a_freeze_is_three_times_the_average_or_150_ms_more() -> None:
    r = Receiver()
    times(r, *[40] * 30, 189, *[40] * 30)
    assert r.s.freezes == 0
    r = Receiver()
    times(r, *[40] * 30, 190, *[40] * 30)
    assert counts(r, "freezes", "frozen", "longest_freeze") == (1, 190 * MS, 190 * MS)


def test_at_low_frame_rates_three_times_the_average_counts() -> None:
    r = Receiver()
    times(r, *[200] * 10, 599)
    assert r.s.freezes == 0
    r = Receiver()
    times(r, *[200] * 10, 600, 200, 200, 1500)
    assert counts(r, "freezes", "frozen", "longest_freeze") == (2, 2100 * MS, 1500 * MS)


def test_the_first_few_frames_tell_no_freeze() -> None:
    r = Receiver()
    times(r, 40, 40, 3000, 40)
    assert r.s.freezes == 0


def test_the_average_forgets_what_is_long_ago() -> None:
    r = Receiver()
    times(r, *[200] * 10, *[20] * 200)
    assert 20 * MS <= r.s.interval + 1 * MS <= 22 * MS


def test_a_freeze_ends_with_the_keyframe_after_a_loss() -> None:
    r = Receiver()
    packets = frames(100, 60, keys=(0, 40))
    for k, packet in enumerate(packets):
        if k % 4 == 0:
            r.now += FRAME
            give_up(r.s, r.now)
        if packet.sequence != 100 + 4 * 20:
            r.put(packet)
    assert counts(r, "frames", "freezes", "keyframes") == (40, 1, 2)
    assert r.s.frozen == r.s.longest_freeze == 21 * FRAME
