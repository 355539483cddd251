"""Single packets from history entries: header, extensions, ids in the payload, RTX, synthetic bodies. No C calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from loadtest.engine.layout import AUDIO, HISTORY, SECOND
from loadtest.engine.packets import MOST_PAYLOAD, history_of, write_packet
from loadtest.engine.synthetic import OPUS_HEADER, WRONG, check_body
from mediacodecs.extensions import ABS_CAPTURE_TIME, ABS_SEND_TIME, AUDIO_LEVEL, MID, REPAIRED_RID, RID, TWCC
from mediacodecs.frame import OPUS
from tests.unit.loadtest.engine.bodies import OPUS_TOC, check_vp8, new_frame
from tests.unit.loadtest.engine.sending import (
    AUDIO_SSRC,
    AUDIO_TYPE,
    IDS,
    REALTIME,
    RTX_SSRC,
    RTX_TYPE,
    START,
    VIDEO_SSRC,
    VIDEO_TYPE,
    Clip,
    Packet,
    Stage,
    opus_clip,
    parse,
    vp8_clip,
)

NTP_1970 = 2_208_988_800
CAPTURED, SENT = START - 7_000_000, START - 2_000_000


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def note(row: Any, sequence: int, packet: int = 0, **fields: int) -> Any:
    """Put an entry into a source's history by hand."""
    entry = row.history[sequence % HISTORY]
    for name, value in ({"captured": CAPTURED, "sent": SENT, "timestamp": 123} | fields).items():
        entry[name] = value
    entry.sequence, entry.packet = sequence, packet
    return entry


def written(stage: Stage, row: Any, entry: Any, repair: int = 0) -> Packet:
    size = write_packet(stage.e, stage.c, row, entry, stage.slots.address, repair)
    return parse(stage.slots.rows[:size].tobytes())


def test_header_and_payload_are_what_the_history_says(stage: Stage) -> None:
    clip = vp8_clip(3)
    row = stage.video(clip)
    packet = written(stage, row, note(row, 0x12345, packet=3, timestamp=(1 << 32) + 77, marker=1))
    assert (packet.sequence, packet.timestamp, packet.marker) == (0x2345, 77, 1)
    assert (packet.ssrc, packet.payload_type, packet.payload) == (VIDEO_SSRC, VIDEO_TYPE, clip.frames[1][1])


def test_extensions_carry_names_numbers_and_times(stage: Stage) -> None:
    row = stage.video(vp8_clip(3), rid="h")
    stage.c.twcc_next = 0x1FFFE
    found = written(stage, row, note(row, 5)).extensions
    assert found[MID] == b"v" and found[RID] == b"h" and found[TWCC] == b"\xff\xfe" and stage.c.twcc_next == 0x1FFFF
    assert AUDIO_LEVEL not in found and REPAIRED_RID not in found
    wall = START + REALTIME
    assert abs(int.from_bytes(found[ABS_SEND_TIME]) - (wall * (1 << 18) // SECOND) % (1 << 24)) <= 1
    captured = int.from_bytes(found[ABS_CAPTURE_TIME])
    assert len(found[ABS_CAPTURE_TIME]) == 8
    assert captured >> 32 == (CAPTURED + REALTIME) // SECOND + NTP_1970
    assert abs((captured & 0xFFFFFFFF) * SECOND / (1 << 32) - (CAPTURED + REALTIME) % SECOND) <= 1


def test_every_packet_of_a_frame_has_the_capture_time(stage: Stage) -> None:
    row = stage.video(vp8_clip(3))
    assert ABS_CAPTURE_TIME in written(stage, row, note(row, 5, packet=1)).extensions


def test_audio_has_a_level(stage: Stage) -> None:
    row = stage.audio(opus_clip(3))
    packet = written(stage, row, note(row, 5))
    assert packet.extensions[AUDIO_LEVEL] == bytes([0x80 | 30]) and ABS_CAPTURE_TIME in packet.extensions
    assert (packet.ssrc, packet.payload_type, packet.extensions[MID]) == (AUDIO_SSRC, AUDIO_TYPE, b"a")


def test_what_was_not_negotiated_is_not_sent() -> None:
    for ids in ({}, {MID: 15, TWCC: 200, RID: 15}):
        stage = Stage(ids=ids)
        row = stage.video(vp8_clip(3), rid="h")
        packet = written(stage, row, note(row, 5))
        assert (packet.extensions, packet.data[0], len(packet.data), stage.c.twcc_next) == ({}, 0x80, 212, 0)
        stage.close()
    for kind, identity in IDS.items():
        stage = Stage(ids={kind: identity})
        row = stage.add(opus_clip(2), kind=AUDIO, mid="a", rid="x")
        assert set(written(stage, row, note(row, 5)).extensions) == {kind} - {REPAIRED_RID}
        stage.close()


def test_the_longest_names_fit(stage: Stage) -> None:
    row = stage.video(vp8_clip(1), mid="m" * 16, rid="r" * 16)
    found = written(stage, row, note(row, 5)).extensions
    assert (found[MID], found[RID]) == (b"m" * 16, b"r" * 16)


def test_rtx_is_the_same_packet_under_another_name(stage: Stage) -> None:
    row = stage.video(vp8_clip(3), rid="h")
    row.rtx_sequence = 0x10009
    entry = note(row, 0x2BEEF, packet=2, marker=1)
    original, rtx = written(stage, row, entry), written(stage, row, entry, repair=1)
    assert (rtx.ssrc, rtx.payload_type, rtx.sequence) == (RTX_SSRC, RTX_TYPE, 9)
    assert (rtx.timestamp, rtx.marker) == (original.timestamp, original.marker)
    assert rtx.payload == b"\xbe\xef" + original.payload
    assert rtx.extensions[REPAIRED_RID] == b"h" and RID not in rtx.extensions
    assert rtx.extensions[ABS_CAPTURE_TIME] == original.extensions[ABS_CAPTURE_TIME]
    assert int.from_bytes(rtx.extensions[TWCC]) == int.from_bytes(original.extensions[TWCC]) + 1


@pytest.mark.parametrize(("offset", "picture"), [(0, 7), (20_000, 20_007), (32_761, 0), (32_767, 6)])
def test_picture_ids_are_shifted_by_15_bits(stage: Stage, offset: int, picture: int) -> None:
    row = stage.video(vp8_clip(3, tl0=True))
    packet = written(stage, row, note(row, 5, picture_offset=offset, tl0_offset=10))
    assert (packet.vp8.picture_id, packet.vp8.picture_id_bits, packet.vp8.tl0) == (picture, 15, 4)
    plain = written(stage, row, note(row, 5, picture_offset=0, tl0_offset=0))
    assert packet.payload[5:] == plain.payload[5:] and plain.vp8.tl0 == 250


def test_short_picture_ids_are_shifted_by_7_bits(stage: Stage) -> None:
    clip = Clip([[b"\x90\x80\x7d" + bytes(40)]])  # id 125
    row = stage.video(clip)
    packet = written(stage, row, note(row, 5, picture_offset=5))
    assert (packet.vp8.picture_id, packet.vp8.picture_id_bits, len(packet.payload)) == (2, 7, 43)


def test_payloads_without_ids_are_left_alone(stage: Stage) -> None:
    clip = Clip([[b"\x10" + bytes(40)]])
    row = stage.video(clip)
    assert written(stage, row, note(row, 5, picture_offset=5, tl0_offset=5)).payload == clip.frames[0][0]


def test_synthetic_video_is_stamped_and_passes_the_check(stage: Stage) -> None:
    row = stage.video(vp8_clip(3, synthetic=True))
    table, seen = new_frame(), set()
    for packet in range(6):
        entry = note(row, packet, packet=packet, counter=90 + packet, picture_offset=300)
        payload = written(stage, row, entry).payload
        b = np.frombuffer(payload, np.uint8)
        assert check_vp8(b, 0, len(b), table.rows[0]) == SENT
        assert table.rows[0].picture_id == 307 + packet // 2
        assert written(stage, row, entry, repair=1).payload[2:] == payload
        seen.add(payload)
    assert len(seen) == 6


def test_a_synthetic_keyframe_is_one_to_the_parser(stage: Stage) -> None:
    row = stage.video(vp8_clip(3, synthetic=True))
    found = written(stage, row, note(row, 5)).vp8
    assert (found.keyframe, found.start, found.width, found.height) == (1, 1, 1280, 720)


def test_synthetic_audio_is_stamped(stage: Stage) -> None:
    row = stage.audio(opus_clip(3, synthetic=True))
    b = np.frombuffer(written(stage, row, note(row, 5, counter=9)).payload, np.uint8)
    assert b[0] == OPUS_TOC and check_body(b, OPUS_HEADER, len(b)) == SENT
    b = b.copy()
    b[-1] ^= 1
    assert check_body(b, OPUS_HEADER, len(b)) == WRONG


def test_a_synthetic_payload_without_room_is_sent_as_it_is(stage: Stage) -> None:
    clip = Clip([[b"\x90\x80\x80\x01" + bytes(25)], [bytes(16)]], synthetic=True)
    row = stage.video(clip)
    assert [written(stage, row, note(row, k, packet=k)).payload for k in range(2)] == [f[0] for f in clip.frames]
    audio = Clip([[bytes(16)]], codec=OPUS, synthetic=True)
    row = stage.audio(audio)
    assert written(stage, row, note(row, 1)).payload == bytes(16)


def test_a_payload_that_is_too_large_is_not_written(stage: Stage) -> None:
    row = stage.audio(Clip([[bytes(MOST_PAYLOAD)], [bytes(MOST_PAYLOAD + 1)]], codec=OPUS))
    assert len(written(stage, row, note(row, 1)).payload) == MOST_PAYLOAD
    assert write_packet(stage.e, stage.c, row, note(row, 2, packet=1), stage.slots.address, 0) == 0


def test_an_entry_is_where_its_sequence_number_says(stage: Stage) -> None:
    row = stage.video(vp8_clip(1))
    note(row, (1 << 40) + 17)
    assert history_of(row, (1 << 40) + 17).sequence == (1 << 40) + 17
    assert history_of(row, 17 + HISTORY).sequence == (1 << 40) + 17
