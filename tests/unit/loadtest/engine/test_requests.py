"""What a server asks of a client that sends: packets again, keyframes; and what it reports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from loadtest.engine.layout import HISTORY, MS, NO_TYPE
from loadtest.engine.requests import KEY_INTERVAL, MAX_NACKED
from mediacodecs.extensions import ABS_CAPTURE_TIME, MID, REPAIRED_RID, TWCC
from mediacodecs.rtcp import RR
from packetio.srtp import CM80, GCM
from tests.unit.loadtest.engine.bodies import check_vp8, new_frame
from tests.unit.loadtest.engine.sending import (
    AUDIO_SSRC,
    FRAME_NS,
    RTX_SSRC,
    RTX_TYPE,
    START,
    VIDEO_SSRC,
    Stage,
    opus_clip,
    vp8_clip,
)

SERVER = 0xABCD


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def rtcp(kind: int, form: int, *words: int) -> bytes:
    body = b"".join(word.to_bytes(4) for word in words)
    return bytes([0x80 | form, kind]) + (len(body) // 4).to_bytes(2) + body


def nack(ssrc: int, *numbers: int) -> bytes:
    return rtcp(205, 1, SERVER, ssrc, *[number << 16 for number in numbers])


def pli(ssrc: int) -> bytes:
    return rtcp(206, 1, SERVER, ssrc)


def fir(*ssrcs: int) -> bytes:
    return rtcp(206, 4, SERVER, 0, *[word for ssrc in ssrcs for word in (ssrc, 1 << 24)])


def report(ssrc: int, fraction: int) -> bytes:
    return rtcp(RR, 1, SERVER, ssrc, fraction << 24, 0, 0, 0, 0)


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_a_nacked_packet_comes_again_as_rtx(profile: str) -> None:
    stage = Stage(profile)
    row = stage.video(vp8_clip(5), rid="h")
    media, _ = stage.run(START + 12 * FRAME_NS)  # over the reel's turn
    wanted = [media[k] for k in (4, 9, 11, 23)]
    again = stage.ask(nack(VIDEO_SSRC, *[p.sequence for p in wanted]))
    assert [p.payload for p in again] == [p.sequence.to_bytes(2) + p.payload for p in wanted]
    assert [(p.timestamp, p.marker) for p in again] == [(p.timestamp, p.marker) for p in wanted]
    assert {(p.ssrc, p.payload_type) for p in again} == {(RTX_SSRC, RTX_TYPE)}
    assert [p.sequence - again[0].sequence & 0xFFFF for p in again] == [0, 1, 2, 3]
    assert all(p.extensions[MID] == b"v" and p.extensions[REPAIRED_RID] == b"h" for p in again)
    assert [p.extensions.get(ABS_CAPTURE_TIME) for p in again] == [p.extensions.get(ABS_CAPTURE_TIME) for p in wanted]
    numbers = [int.from_bytes(p.extensions[TWCC]) for p in media + again]
    assert numbers == list(range(28))
    assert (row.resent, row.unanswered, row.packets) == (4, 0, 24)
    stage.close()


def test_rtx_keeps_the_picture_id_that_a_jump_gave(stage: Stage) -> None:
    row = stage.video(vp8_clip(10, keyframes=(0, 6), tl0=True))
    media, _ = stage.run(START + 2 * FRAME_NS)
    row.want_key = 1
    media += stage.run(START + 9 * FRAME_NS)[0]
    again = stage.ask(nack(VIDEO_SSRC, *[p.sequence for p in media]))
    assert [p.payload[2:] for p in again] == [p.payload for p in media]


def test_rtx_of_a_synthetic_packet_has_its_first_send_time(stage: Stage) -> None:
    stage.video(vp8_clip(5, synthetic=True), burst=False)
    media, _ = stage.run(START + 3 * FRAME_NS)
    again, table = stage.ask(nack(VIDEO_SSRC, media[3].sequence)), new_frame()
    assert again[0].payload[2:] == media[3].payload
    b = np.frombuffer(again[0].payload[2:], np.uint8)
    assert check_vp8(b, 0, len(b), table.rows[0]) == media[3].at == START + FRAME_NS + FRAME_NS // 2


def test_each_request_for_a_packet_gets_a_new_number(stage: Stage) -> None:
    stage.video(vp8_clip(5))
    media, _ = stage.run(START + FRAME_NS)
    again = [packet for _ in range(3) for packet in stage.ask(nack(VIDEO_SSRC, media[0].sequence))]
    assert [p.sequence - again[0].sequence for p in again] == [0, 1, 2]
    assert {p.payload for p in again} == {media[0].sequence.to_bytes(2) + media[0].payload}


def test_a_mask_asks_for_more_than_one(stage: Stage) -> None:
    stage.video(vp8_clip(5))
    media, _ = stage.run(START + 9 * FRAME_NS)
    again = stage.ask(rtcp(205, 1, SERVER, VIDEO_SSRC, media[0].sequence << 16 | 0x8001))
    assert [p.payload[2:] for p in again] == [media[k].payload for k in (0, 1, 16)]


def test_packets_that_are_gone_or_never_were_count_as_unanswered(stage: Stage) -> None:
    row = stage.video(vp8_clip(5, packets=60))
    media, _ = stage.run(START + 10 * FRAME_NS)
    oldest, newest = media[0].sequence, media[-1].sequence
    assert stage.ask(nack(VIDEO_SSRC, oldest, newest + 1 & 0xFFFF, newest + 30000 & 0xFFFF)) == []
    kept = stage.ask(nack(VIDEO_SSRC, newest - HISTORY + 1, newest - HISTORY))
    assert [p.payload[:2] for p in kept] == [(newest - HISTORY + 1).to_bytes(2)]
    assert (row.resent, row.unanswered) == (1, 4)


def test_before_the_first_packet_nothing_is_known(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    row.sequence = 0
    assert stage.ask(nack(VIDEO_SSRC, 0xFFFF, 0, 1)) == []
    assert row.unanswered == 3


def test_without_rtx_nothing_is_sent_again(stage: Stage) -> None:
    row = stage.video(vp8_clip(5), rtx_ssrc=-1, rtx_type=NO_TYPE)
    media, _ = stage.run(START + FRAME_NS)
    assert stage.ask(nack(VIDEO_SSRC, media[0].sequence)) == []
    assert (row.resent, row.unanswered) == (0, 1)


def test_a_nack_asks_for_so_much_and_no_more(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    assert stage.ask(rtcp(205, 1, SERVER, VIDEO_SSRC, *[0xFFFF] * 300)) == []
    assert row.unanswered == MAX_NACKED < 300 * 17


def test_feedback_about_other_streams_changes_nothing(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    media, _ = stage.run(START + FRAME_NS)
    for ssrc in (RTX_SSRC, 0, 1234):
        compound = report(ssrc, 9) + nack(ssrc, media[0].sequence) + pli(ssrc) + fir(ssrc)
        assert stage.ask(compound) == []
    assert (row.requests, row.resent, row.unanswered, row.want_key) == (0, 0, 0, 0)


@pytest.mark.parametrize("request_", [pli(VIDEO_SSRC), fir(1, VIDEO_SSRC), report(VIDEO_SSRC, 3) + pli(VIDEO_SSRC)])
def test_a_keyframe_comes_on_request(stage: Stage, request_: bytes) -> None:
    row = stage.video(vp8_clip(10))
    media, _ = stage.run(START + 3 * FRAME_NS)
    stage.ask(request_)
    media += stage.run(START + 5 * FRAME_NS)[0]
    assert [p.vp8.keyframe for p in media[::2]] == [1, 0, 0, 1, 0]
    assert (row.requests, row.keyframes) == (1, 2)


def test_requests_in_quick_succession_give_one_keyframe(stage: Stage) -> None:
    row = stage.video(vp8_clip(100))
    media = []
    for _ in range(10):  # one every 40 ms
        stage.ask(pli(VIDEO_SSRC) + fir(VIDEO_SSRC))
        media += stage.run(int(stage.e.now) + FRAME_NS)[0]
    keys = [p.at - START for p in media[::2] if p.vp8.keyframe]
    assert keys == [0, KEY_INTERVAL] and row.requests == 20


def test_audio_counts_a_request_and_goes_on(stage: Stage) -> None:
    row = stage.audio(opus_clip(10))
    stage.run(START + 40 * MS)
    stage.ask(pli(AUDIO_SSRC))
    media, _ = stage.run(START + 60 * MS)
    assert (row.requests, row.want_key, media[0].payload[-1]) == (1, 0, 2)


def test_each_source_takes_its_own_feedback(stage: Stage) -> None:
    rows = [stage.video(vp8_clip(5), ssrc=100 + k, rtx_ssrc=200 + k, rid=str(k)) for k in range(3)]
    media, _ = stage.run(START + FRAME_NS)
    (wanted, *_) = [p for p in media if p.ssrc == 102]
    again = stage.ask(report(101, 77) + nack(102, wanted.sequence) + pli(100))
    assert [(p.ssrc, p.payload[2:]) for p in again] == [(202, wanted.payload)]
    assert [row.want_key for row in rows] == [1, 0, 0]


def test_a_killed_client_does_not_answer(stage: Stage) -> None:
    row = stage.video(vp8_clip(5))
    media, _ = stage.run(START + FRAME_NS)
    stage.c.stopped = 1
    assert stage.ask(nack(VIDEO_SSRC, media[0].sequence) + pli(VIDEO_SSRC)) == []
    assert (row.resent, row.unanswered, row.want_key) == (0, 0, 0)
