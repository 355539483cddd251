"""Synthetic media: real VP8 to a parser, and any change to a body noticed. No C calls."""

from __future__ import annotations

import random

import numpy as np
import pytest

from loadtest.engine.synthetic import BODY, WRONG, body_at, check_body, stamp, write_body
from mediacodecs.frame import OPUS, VP8, clear_frame
from mediacodecs.vp8 import parse_vp8
from tests.unit.loadtest.engine.bodies import HEIGHT, OPUS_TOC, WIDTH, check_vp8, new_frame, write_vp8

SENT, COUNTER, END = 123_456_789_012_345, 77_777, 1124


def packet(first: bool, keyframe: bool, picture_id: int = 300) -> np.ndarray:
    b = np.zeros(1500, np.uint8)
    write_vp8(b, 24, first, keyframe, picture_id)
    stamp(b, 24, END, VP8, SENT, COUNTER)
    return b


def test_a_keyframes_first_packet_is_one_to_the_vp8_parser() -> None:
    table = new_frame()
    frame = table.rows[0]
    clear_frame(frame)
    assert parse_vp8(packet(True, True), 24, END, frame) == 0
    assert (frame.keyframe, frame.start, frame.width, frame.height) == (1, 1, WIDTH, HEIGHT)
    assert (frame.picture_id, frame.picture_id_bits) == (300, 15)


def test_other_packets_are_no_keyframes() -> None:
    table = new_frame()
    for first, keyframe in ((True, False), (False, True), (False, False)):
        assert check_vp8(packet(first, keyframe), 24, END, table.rows[0]) == SENT
        assert (table.rows[0].keyframe, table.rows[0].start) == (0, int(first))


def test_any_changed_byte_of_the_filler_is_noticed() -> None:
    dice, table = random.Random(5), new_frame()
    for at in (24 + 14 + BODY, END - 1, *(dice.randrange(24 + 14 + BODY, END) for _ in range(20))):
        b = packet(True, True)
        b[at] ^= 1 + dice.randrange(255)
        assert check_vp8(b, 24, END, table.rows[0]) == WRONG


def test_a_shifted_or_cut_body_is_noticed() -> None:
    table = new_frame()
    assert check_vp8(packet(True, False), 25, END, table.rows[0]) == WRONG
    assert check_vp8(packet(True, False), 24, 24 + 14 + BODY - 1, table.rows[0]) == WRONG
    assert check_body(np.zeros(8, np.uint8), 0, 8) == WRONG


@pytest.mark.parametrize(("codec", "head"), [(VP8, 14), (OPUS, 1)])
def test_the_shortest_payload_is_stamped_and_a_shorter_one_left_alone(codec: int, head: int) -> None:
    for size in (head + BODY - 1, head + BODY):
        b = np.zeros(64, np.uint8)
        if codec == VP8:
            write_vp8(b, 0, True, False, 1)
        else:
            b[0] = OPUS_TOC
        before = b.copy()
        stamp(b, 0, size, codec, SENT, COUNTER)
        if size < head + BODY:
            assert body_at(b, 0, size, codec) == -1 and (b == before).all()
        else:
            assert body_at(b, 0, size, codec) == head and check_body(b, head, size) == SENT
            assert (b[:head] == before[:head]).all() and not b[size:].any()


@pytest.mark.parametrize("sent", [0, 1, (1 << 32) - 1, 1 << 32, (1 << 63) - 1])
@pytest.mark.parametrize("counter", [0, 255, (1 << 40) + 3])
def test_times_are_read_as_they_were_written(sent: int, counter: int) -> None:
    b = np.zeros(64, np.uint8)
    write_body(b, 3, 60, sent, counter)
    assert check_body(b, 3, 60) == sent


def test_noise_is_wrong_and_raises_nothing() -> None:
    dice = np.random.default_rng(3)
    for _ in range(300):
        assert check_body(dice.integers(128, 256, 64, np.uint8), 0, 64) == WRONG
