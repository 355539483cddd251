"""Sampled clients decode what they got: order, holes, padding, rows used again; with real frames and the real ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from loadtest.clips.encode import AudioProfile, VideoProfile
from loadtest.clips.reel import Reel
from loadtest.engine.capture import CapturedPacket, CaptureRing
from loadtest.engine.layout import MS
from loadtest.results.figures import FIGURES
from loadtest.run.decoding import REORDER, Decoding
from mediacodecs.frame import H265, OPUS, VP8
from tests.unit.loadtest.engine.test_pair import Pair

PROFILE = VideoProfile(width=320, height=180, bitrate=300, duration=2, keyframe_interval=25)
FRAMES = 50


@pytest.fixture
def decoding() -> Decoding:
    return Decoding(CaptureRing(256), lambda number: 0)


def packets(
    frames: Sequence[int] = range(FRAMES), first: int = 70_000, client: int = 1 << 24 | 1, captured: int = 0
) -> list[CapturedPacket]:
    """Frames of a clip as the engine captures them."""
    reel = Reel.from_video(PROFILE)
    found: list[CapturedPacket] = []
    for number in frames:
        payloads = reel.payloads(number)
        for k, payload in enumerate(payloads):
            key = bool(reel.frame_rows[number].keyframe)
            sequence, last = first + len(found), k == len(payloads) - 1
            at = captured if k == 0 else 0
            found.append(CapturedPacket(client, 1, sequence, 3600 * number, VP8, last, key, k == 0, 1, at, payload))
    return found


def feed(decoding: Decoding, found: Sequence[CapturedPacket]) -> dict[str, int]:
    for packet in found:
        decoding.take(packet)
    return decoding.counts()


def padding(sequence: int) -> CapturedPacket:
    return CapturedPacket(1 << 24 | 1, 1, sequence, 0, VP8, False, False, False, 1, 0, b"")


def test_all_frames_are_decoded_and_their_numbers_read(decoding: Decoding) -> None:
    assert feed(decoding, packets()) == {"clients": 1, "frames": FRAMES, "errors": 0, "unread": 0}


def test_packets_in_any_order_give_the_same_pictures(decoding: Decoding) -> None:
    found = packets()
    mixed = [found[0]] + [found[k ^ 3] for k in range(4, len(found) & ~3)] + found[len(found) & ~3 :]
    missing = [one for one in found if one not in mixed]
    assert feed(decoding, mixed[:1] + missing + mixed[1:])["frames"] == FRAMES


def test_repeated_and_late_packets_change_nothing(decoding: Decoding) -> None:
    found = packets()
    twice = [one for packet in found for one in (packet, packet)]
    assert feed(decoding, twice + found[:20]) == {"clients": 1, "frames": FRAMES, "errors": 0, "unread": 0}


def test_nothing_is_decoded_between_a_hole_and_the_next_keyframe(decoding: Decoding) -> None:
    before, after = packets(range(10)), packets(range(11, FRAMES))
    gap = len(packets(range(11)))
    after = [replace(one, sequence=before[0].sequence + gap + k) for k, one in enumerate(after)]
    more = packets(range(FRAMES), first=after[-1].sequence + 1)
    counts = feed(decoding, before + after + more)
    assert len(after) > REORDER
    assert counts == {"clients": 1, "frames": 10 + 25 + FRAMES, "errors": 0, "unread": 0}


def test_a_hole_within_a_frame_takes_the_whole_frame(decoding: Decoding) -> None:
    found = packets()
    key = [k for k, one in enumerate(found) if one.keyframe and one.start][1]
    del found[key + 1]
    counts = feed(decoding, found + packets(first=found[-1].sequence + 1))
    assert counts == {"clients": 1, "frames": 25 + FRAMES, "errors": 0, "unread": 0}


def test_padding_is_no_hole(decoding: Decoding) -> None:
    found = packets()
    numbered: list[CapturedPacket] = []
    for one in found:
        numbered.append(replace(one, sequence=found[0].sequence + len(numbered)))
        if one.marker or len(numbered) % 7 == 0:
            numbered.append(padding(found[0].sequence + len(numbered)))
    counts = feed(decoding, numbered)
    assert counts["frames"] == FRAMES and counts["errors"] == 0


def test_frames_without_a_marker_end_with_the_next_time_stamp(decoding: Decoding) -> None:
    assert feed(decoding, [replace(one, marker=False) for one in packets()])["frames"] == FRAMES - 1


def test_who_comes_in_the_middle_sees_from_the_next_keyframe_on(decoding: Decoding) -> None:
    assert feed(decoding, packets(range(7, FRAMES)))["frames"] == 25


def test_a_row_that_is_used_again_is_another_client(decoding: Decoding) -> None:
    feed(decoding, packets(first=90_000))
    counts = feed(decoding, packets(first=70_000, client=2 << 24 | 1))
    assert counts == {"clients": 2, "frames": 2 * FRAMES, "errors": 0, "unread": 0}


def test_what_is_no_frame_is_counted_and_the_next_keyframe_is_decoded(decoding: Decoding) -> None:
    broken = [replace(one, payload=b"\x10" + bytes(30) if one.start else one.payload) for one in packets(range(25))]
    counts = feed(decoding, broken + packets(range(25, FRAMES), first=broken[-1].sequence + 1))
    assert counts["errors"] > 0 and counts["frames"] - counts["unread"] >= 25


def test_sound_is_decoded_but_not_counted_as_pictures(decoding: Decoding) -> None:
    reel = Reel.from_audio(AudioProfile())
    rows = range(int(reel.row.frames))
    sound = [CapturedPacket(9, 2, 100 + k, 960 * k, OPUS, k == 0, True, True, 1, 0, reel.payloads(k)[0]) for k in rows]
    assert feed(decoding, sound) == {"clients": 1, "frames": 0, "errors": 0, "unread": 0}
    (stream,) = decoding._streams.values()
    assert stream.decoder.frames >= len(sound) - 1 and stream.decoder.errors == 0


def test_a_codec_that_cannot_be_decoded_is_counted(decoding: Decoding) -> None:
    feed(decoding, [replace(one, codec=H265) for one in packets(range(3))])
    assert decoding.notes() == [f"{len(packets(range(3)))} packets were of codecs that can't be decoded here"]
    assert decoding.counts()["clients"] == 0 and decoding.figures() == {}


def test_latency_is_from_the_capture_time_in_the_packets_or_as_asked_for() -> None:
    asked: list[int] = []

    def capture_time(number: int) -> int:
        asked.append(number)
        return time.monotonic_ns() - 300 * MS if number == 1 else 0

    decoding = Decoding(CaptureRing(2), capture_time)
    feed(decoding, packets(range(1), captured=time.monotonic_ns() - 100 * MS))
    feed(decoding, packets(range(1, 3), first=decoding._streams[1 << 24 | 1, 1].next))
    assert asked == [1, 2] and decoding.tally.latency.total == 2
    assert (
        90 < (decoding.tally.latency.quantile(0.01) or 0) < 250
        and 270 < (decoding.tally.latency.quantile(0.99) or 0) < 600
    )


class Captured:
    """A publisher and a watcher of one engine, and the thread that decodes what the watcher gets."""

    def __init__(self, codec: str, loss: float = 0.0) -> None:
        profile = replace(PROFILE, codec=codec, duration=1.0, keyframe_interval=10)
        self.pair = Pair(Reel.from_video(profile))
        self.pair.watcher.capture = 1
        self.decoding = Decoding(self.pair.engine.captures, lambda number: 0)


@pytest.fixture
def captured() -> Iterator[list[Captured]]:
    made: list[Captured] = []
    yield made
    for one in made:
        one.decoding.stop()
        one.pair.engine.stop()


@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
def test_the_thread_decodes_what_the_engine_receives(captured: list[Captured], codec: str) -> None:
    captured.append(one := Captured(codec))
    one.pair.run(3)
    one.decoding.start()
    one.decoding.stop()
    counts = one.decoding.counts()
    assert counts["frames"] in range(int(one.pair.stream.frames) - 1, int(one.pair.stream.frames) + 1)
    assert counts["clients"] == 1 and counts["errors"] == counts["unread"] == 0 and one.pair.engine.captures.lost == 0


def test_a_full_ring_costs_frames_until_the_next_keyframe_and_no_errors(captured: list[Captured]) -> None:
    captured.append(one := Captured("vp8"))
    while one.pair.engine.captures.lost < 20:
        one.pair.run(1)
    one.decoding.start()
    until(lambda: int(one.pair.engine.captures.c.head) == int(one.pair.engine.captures.c.tail))
    one.pair.run(3)
    one.decoding.stop()
    counts = one.decoding.counts()
    assert counts["errors"] == counts["unread"] == 0
    assert 100 < counts["frames"] < int(one.pair.stream.frames)


def test_stopping_a_thread_that_never_ran_is_nothing(decoding: Decoding) -> None:
    decoding.stop()
    assert decoding.counts()["frames"] == 0


def test_what_is_counted_anew_is_of_the_time_since(decoding: Decoding) -> None:
    found = packets()
    half = next(k for k, one in enumerate(found) if one.timestamp == 3600 * 30)
    feed(decoding, found[:half])
    decoding.count_anew()
    assert decoding.figures() == {}
    assert feed(decoding, found[half:]) == {"clients": 1, "frames": FRAMES - 30, "errors": 0, "unread": 0}
    figures = decoding.figures()
    assert figures.keys() <= FIGURES.keys() and figures["decode.frames"] == FRAMES - 30


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_decoders_of_who_has_left_are_dropped_when_all_it_left_is_decoded(captured: list[Captured]) -> None:
    captured.append(one := Captured("vp8"))
    one.pair.run(2)
    one.decoding.forget(int(one.pair.watcher.token))
    one.decoding.forget(77)
    one.decoding.start()
    until(lambda: not one.decoding._gone and one.decoding.counts()["frames"] > 0 and not one.decoding._streams)
    assert one.decoding.counts()["clients"] == 1


def test_a_fault_of_ours_is_told_and_does_not_end_the_thread(captured: list[Captured]) -> None:
    captured.append(one := Captured("vp8"))
    take, asked = one.decoding.take, list[int]()

    def fragile(packet: CapturedPacket) -> None:
        asked.append(packet.sequence)
        if len(asked) < 3:
            raise KeyError("a row that has gone")
        take(packet)

    one.decoding.take = fragile  # type: ignore[method-assign]
    one.pair.run(3)
    one.decoding.start()
    one.decoding.stop()
    assert one.decoding.counts()["frames"] > 0 and len(asked) > 20
    assert one.decoding.notes() == ["decoding failed at 2 packets: KeyError: 'a row that has gone'"]
