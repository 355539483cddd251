"""Sources on a fake clock: when packets leave, what goes on when a reel ends, is muted or jumps, and sender reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from loadtest.engine.layout import MS, SECOND, SOURCE
from loadtest.engine.links import fill_link
from loadtest.engine.sources import NEVER, begin_source, fill_source
from mediacodecs.extensions import MID, RID, TWCC
from mediacodecs.frame import OPUS, VP8
from mediacodecs.rtcp import RTCP, SDES, SENDER_INFO, SR, next_rtcp, read_sender_info
from packetio.memory import Table
from packetio.srtp import CM80, GCM
from tests.unit.loadtest.engine.sending import (
    AUDIO_SSRC,
    AUDIO_TYPE,
    FRAME_NS,
    REALTIME,
    START,
    VIDEO_SSRC,
    VIDEO_TYPE,
    Clip,
    Stage,
    opus_clip,
    vp8_clip,
)

NTP_1970 = 2_208_988_800


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def steps(numbers: list[int], bits: int) -> set[int]:
    return {(later - now) % (1 << bits) for now, later in zip(numbers, numbers[1:], strict=False)}


def test_a_burst_is_a_whole_frame_at_once(stage: Stage) -> None:
    stage.video(vp8_clip(5, packets=4), frames=3)
    media, _ = stage.run(START + 5 * FRAME_NS)
    assert [p.at for p in media] == [START + frame * FRAME_NS for frame in range(3) for _ in range(4)]
    assert [p.marker for p in media] == [0, 0, 0, 1] * 3


def test_even_packets_spread_over_the_frames_time(stage: Stage) -> None:
    stage.video(vp8_clip(5, packets=4), frames=3, burst=False)
    media, _ = stage.run(START + 5 * FRAME_NS)
    assert [p.at for p in media] == [START + k * FRAME_NS // 4 for k in range(12)]


def test_payloads_are_the_reels_and_numbers_run_on(stage: Stage) -> None:
    clip = vp8_clip(5)
    row = stage.video(clip, frames=5)
    media, _ = stage.run(START + 6 * FRAME_NS)
    assert [p.payload for p in media] == [payload for frame in clip.frames for payload in frame]
    assert steps([p.sequence for p in media], 16) == {1}
    assert steps([p.timestamp for p in media[::2]], 32) == {3600}
    assert steps([int.from_bytes(p.extensions[TWCC]) for p in media], 16) == {1}
    assert {(p.ssrc, p.payload_type, p.extensions[MID]) for p in media} == {(VIDEO_SSRC, VIDEO_TYPE, b"v")}
    assert (row.packets, row.octets, row.frames, row.keyframes) == (10, 2000, 5, 1)
    assert (row.running, row.late, stage.c.failures) == (0, 0, 0)


def test_a_stopped_source_and_a_killed_client_are_never_due(stage: Stage) -> None:
    row = stage.video(vp8_clip(2), frames=1)
    stage.run(START + 2 * FRAME_NS)
    assert stage.serve()[0] == NEVER
    begin_source(row, START + 9 * FRAME_NS)
    assert stage.serve()[0] == START + 9 * FRAME_NS
    stage.c.stopped = 1
    assert stage.serve()[0] == NEVER


def test_audio_and_video_keep_their_own_time(stage: Stage) -> None:
    stage.video(vp8_clip(3))
    stage.audio(opus_clip(7))
    media, _ = stage.run(START + SECOND)
    audio = [p for p in media if p.ssrc == AUDIO_SSRC]
    assert [p.at for p in audio] == [START + k * 20 * MS for k in range(50)]
    assert len(media) - len(audio) == 50
    assert {(p.payload_type, p.marker) for p in audio} == {(AUDIO_TYPE, 0)}
    assert steps([p.timestamp for p in audio], 32) == {960}
    assert steps([int.from_bytes(p.extensions[TWCC]) for p in media], 16) == {1}  # one numbering for both


def test_picture_ids_and_tl0_go_on_when_the_reel_turns(stage: Stage) -> None:
    row = stage.video(vp8_clip(6, tl0=True))
    media, _ = stage.run(START + 20 * FRAME_NS)
    firsts = media[::2]
    assert [p.vp8.picture_id for p in firsts] == [7 + k for k in range(20)]
    assert [p.vp8.tl0 for p in firsts] == [(250 + k) % 256 for k in range(20)]
    assert [p.vp8.picture_id for p in media[1::2]] == [7 + k for k in range(20)]
    assert steps([p.timestamp for p in firsts], 32) == {3600}
    assert (row.turn, [k for k, p in enumerate(firsts) if p.vp8.keyframe]) == (3, [0, 6, 12, 18])


def test_picture_ids_wrap_at_15_bits(stage: Stage) -> None:
    row = stage.video(vp8_clip(6))
    row.picture_offset = (1 << 15) - 10
    media, _ = stage.run(START + 20 * FRAME_NS)
    assert [p.vp8.picture_id for p in media[::2]] == [((1 << 15) - 3 + k) % (1 << 15) for k in range(20)]


def test_a_keyframe_request_goes_on_at_the_next_keyframe(stage: Stage) -> None:
    row = stage.video(vp8_clip(10, keyframes=(0, 6), tl0=True))
    media, _ = stage.run(START + 2 * FRAME_NS)
    row.want_key = 1
    media += stage.run(START + 6 * FRAME_NS)[0]
    row.want_key = 1  # the reel's first frame comes next
    media += stage.run(START + 8 * FRAME_NS)[0]
    row.want_key = 1
    media += stage.run(START + 9 * FRAME_NS)[0]
    firsts = media[::2]
    assert [p.vp8.keyframe for p in firsts] == [1, 0, 1, 0, 0, 0, 1, 0, 1]
    assert [p.vp8.picture_id for p in firsts] == list(range(7, 16))
    assert [p.vp8.tl0 for p in firsts] == [(250 + k) % 256 for k in range(9)]
    assert steps([p.timestamp for p in firsts], 32) == {3600} and steps([p.at for p in firsts], 64) == {FRAME_NS}
    assert (row.want_key, row.turn) == (0, 1)


def test_a_reel_with_one_keyframe_begins_anew_on_request(stage: Stage) -> None:
    row = stage.video(vp8_clip(10))
    stage.run(START + 3 * FRAME_NS)
    row.want_key = 1
    (first, *_), _ = stage.run(START + 4 * FRAME_NS)
    assert (first.vp8.keyframe, first.vp8.picture_id, row.turn) == (1, 10, 1)


@pytest.mark.parametrize("burst", [True, False])
def test_a_muted_source_lets_time_pass_and_leaves_no_picture_out(stage: Stage, burst: bool) -> None:
    row = stage.video(vp8_clip(10), burst=burst)
    before, _ = stage.run(START + 2 * FRAME_NS + 1)
    row.muted = 1
    before += stage.run(START + 3 * FRAME_NS)[0]  # a frame that has begun is sent to its end
    assert stage.run(START + 80 * FRAME_NS) == ([], [])
    row.muted = 0
    after, _ = stage.run(START + 82 * FRAME_NS)
    assert [p.vp8.picture_id for p in (before + after)[::2]] == [7, 8, 9, 10, 11]
    assert after[0].timestamp - before[-1].timestamp & 0xFFFFFFFF == 78 * 3600
    assert steps([p.sequence for p in before + after], 16) == {1}
    assert after[0].at == START + 80 * FRAME_NS


def test_muted_time_counts_for_the_end(stage: Stage) -> None:
    row = stage.video(vp8_clip(10), frames=5)
    stage.run(START + FRAME_NS)
    row.muted = 1
    stage.run(START + 10 * FRAME_NS)
    assert (row.running, row.frames) == (0, 1)


def test_lateness_is_noted_and_a_little_of_it_caught_up(stage: Stage) -> None:
    row = stage.video(vp8_clip(10))
    stage.at(START + 3 * FRAME_NS + 5 * MS)
    media = stage.serve()[1]
    assert [p.vp8.picture_id for p in media[::2]] == [7, 8, 9, 10]
    assert row.late == stage.e.late == 3 * FRAME_NS + 5 * MS and row.skipped == 0


def test_a_long_stall_is_skipped_in_time_but_no_picture_is(stage: Stage) -> None:
    row = stage.video(vp8_clip(10))
    (first, *_), _ = stage.run(START + FRAME_NS)
    stage.at(START + 100 * FRAME_NS + 5 * MS)
    due, media, _ = stage.serve()
    assert [p.vp8.picture_id for p in media] == [8, 8]
    assert media[0].timestamp - first.timestamp & 0xFFFFFFFF == 100 * 3600
    assert (row.skipped, due) == (99, START + 101 * FRAME_NS)


def test_a_stall_does_not_outlast_the_frames_that_are_left(stage: Stage) -> None:
    row = stage.video(vp8_clip(10), frames=5)
    stage.at(START + 100 * FRAME_NS)
    assert stage.serve()[1:] == ([], [])
    assert (row.running, row.frames_left, row.skipped) == (0, 0, 5)


def test_a_frame_without_length_does_not_stop_the_loop(stage: Stage) -> None:
    stage.video(vp8_clip(3, ticks=0))
    media, _ = stage.run(START + 10 * MS)
    assert len(media) == 20


def report(compound: bytes) -> tuple[int, int, int, int]:
    """(NTP in ns since 1970, RTP time stamp, packets, octets) of the sender report, which names alice."""
    b, item, info = np.frombuffer(compound, np.uint8), Table(RTCP, 1).rows[0], Table(SENDER_INFO, 1).rows[0]
    after = next_rtcp(b, 0, len(b), item)
    assert (item.packet_type, item.ssrc) == (SR, VIDEO_SSRC) and read_sender_info(b, item, info)
    assert next_rtcp(b, after, len(b), item) == len(b) and (item.packet_type, item.ssrc) == (SDES, VIDEO_SSRC)
    assert compound[after + 8 : after + 15] == b"\1\5alice"
    ntp = int(info.ntp)
    seconds = (ntp >> 32) - NTP_1970
    return seconds * SECOND + ((ntp & 0xFFFFFFFF) * SECOND >> 32), int(info.rtp), int(info.packets), int(info.octets)


def test_sender_reports_lie_on_the_line_of_the_frames(stage: Stage) -> None:
    stage.video(vp8_clip(10, packets=3), burst=False)
    media, control = stage.run(START + 3 * SECOND + 7 * MS)
    assert [at - START for at, _ in control] == [0, SECOND, 2 * SECOND, 3 * SECOND]
    for at, compound in control:
        ntp, timestamp, packets, octets = report(compound)
        assert abs(ntp - (at + REALTIME)) <= 1
        assert timestamp - media[0].timestamp & 0xFFFFFFFF == (at - START) * 90000 // SECOND
        assert (packets, octets) == (sum(p.at <= at for p in media), 200 * packets)


def test_a_report_between_frames_is_extrapolated(stage: Stage) -> None:
    row = stage.video(vp8_clip(10))
    (first, *_), _ = stage.run(START + FRAME_NS)
    row.next_report = START + FRAME_NS + 10 * MS
    _, control = stage.run(START + 2 * FRAME_NS)
    ((at, compound),) = control
    assert at == row.next_report - SECOND == START + FRAME_NS + 10 * MS
    assert report(compound)[1] == (first.timestamp + 3600 + 900) % (1 << 32)


def test_simulcast_layers_are_told_apart_by_rid(stage: Stage) -> None:
    for k, rid in enumerate(("l", "m", "h")):
        stage.video(vp8_clip(4), ssrc=100 + k, rtx_ssrc=200 + k, rid=rid)
    media, _ = stage.run(START + 4 * FRAME_NS)
    assert {(p.ssrc, p.extensions[RID], p.extensions[MID]) for p in media} == {
        (100, b"l", b"v"), (101, b"m", b"v"), (102, b"h", b"v")
    }  # fmt: skip
    assert len(media) == 24


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_libsrtp_opens_everything_over_a_turn_of_16_bits(profile: str) -> None:
    stage = Stage(profile)
    row = stage.video(vp8_clip(5), burst=True)
    row.sequence = (1 << 16) - 7
    media, _ = stage.run(START + 20 * FRAME_NS)
    assert [p.sequence for p in media] == [((1 << 16) - 7 + k) % (1 << 16) for k in range(40)]
    assert row.sequence == (1 << 16) + 33
    stage.close()


def test_nothing_leaves_in_the_clear(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    stage.c.outbound = 0
    assert stage.run(START + 2 * FRAME_NS) == ([], [])
    assert (row.packets, stage.c.failures, row.frames) == (0, 4, 2)


def test_a_network_that_loses_all_still_uses_up_the_numbers(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    begin = int(row.sequence)
    fill_link(stage.c.up, loss=(0.0, 1.0, 1.0, 1.0))
    assert stage.run(START + 2 * FRAME_NS) == ([], [])
    assert (row.sequence - begin, row.packets) == (4, 4)


def test_more_packets_than_send_slots_leave_in_one_burst(stage: Stage) -> None:
    stage.video(vp8_clip(2, packets=150), frames=1)
    media, _ = stage.run(START + FRAME_NS)
    assert len(media) == 150 and stage.e.filled == 0


def source(**fields: Any) -> Any:
    row = Table(SOURCE, 1).rows[0]
    given = {"kind": 1, "ssrc": 5, "payload_type": 96, "reel": 64, "mid": "0"} | fields
    fill_source(row, **given)
    return row


def test_a_source_begins_with_low_numbers_and_an_empty_history() -> None:
    rows = [source() for _ in range(20)]
    assert all(0 <= row.sequence < 1 << 14 and 0 <= row.rtx_sequence < 1 << 14 for row in rows)
    assert len({int(row.sequence) for row in rows}) > 10 and len({int(row.timestamp) for row in rows}) > 10
    assert (rows[0].history["sequence"] == -1).all() and rows[0].running == 0 and rows[0].frames_left == -1


def test_a_row_that_was_used_is_made_anew() -> None:
    row = source(rid="high", mid="video")
    row.packets, row.muted, row.counter = 5, 1, 9
    row.history["sequence"] = 7
    fill_source(row, kind=1, ssrc=5, payload_type=96, reel=64, mid="0")
    assert (row.packets, row.muted, row.counter, row.rid_size, row.mid_size) == (0, 0, 0, 0, 1)
    assert not row.rid.any() and bytes(row.mid).rstrip(b"\0") == b"0" and (row.history["sequence"] == -1).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"ssrc": 1 << 32},
        {"ssrc": -1},
        {"payload_type": 128},
        {"kind": 2},
        {"mid": "x" * 17},
        {"rid": "x" * 17},
        {"rtx_ssrc": 6},
        {"rtx_type": 97},
        {"rtx_ssrc": 5, "rtx_type": 97},
    ],
)
def test_a_source_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        source(**fields)


def test_a_clip_knows_its_codec() -> None:
    assert (vp8_clip(1).table.rows[0].codec, opus_clip(1).table.rows[0].codec) == (VP8, OPUS)
    assert Clip([[b"x"]], codec=OPUS).table.rows[0].packets == 1
