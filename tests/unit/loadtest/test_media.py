"""The media of load clients: real VP8 to a parser, and any change to it noticed."""

from __future__ import annotations

import random

import numpy as np

from loadtest.media import (
    BODY,
    HEIGHT,
    WIDTH,
    WRONG,
    check_body,
    check_vp8,
    get_number,
    new_frame,
    payload_bounds,
    put_number,
    write_body,
    write_vp8,
)
from mediacodecs.frame import clear_frame
from mediacodecs.vp8 import parse_vp8

SENT, COUNTER, END = 123_456_789_012_345, 77_777, 1124


def packet(first: bool, keyframe: bool, picture_id: int = 300) -> np.ndarray:
    b = np.zeros(1500, np.uint8)
    write_body(b, write_vp8(b, 24, first, keyframe, picture_id), END, SENT, COUNTER)
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


def test_numbers_are_read_as_they_were_written() -> None:
    b = np.zeros(16, np.uint8)
    for size in range(1, 8):
        put_number(b, 3, (1 << 8 * size) - 2, size)
        assert get_number(b, 3, size) == (1 << 8 * size) - 2


def test_payload_bounds_leave_out_csrcs_extensions_and_padding() -> None:
    b, bounds = np.zeros(100, np.uint8), np.zeros(2, np.int64)
    b[0], b[99] = 0x80 | 0x20 | 0x10 | 2, 5
    b[23] = 3
    assert payload_bounds(b, 100, bounds)
    assert bounds.tolist() == [12 + 8 + 4 + 12, 95]


def test_more_header_than_packet_is_malformed() -> None:
    b, bounds = np.zeros(40, np.uint8), np.zeros(2, np.int64)
    b[0], b[15] = 0x90, 200
    assert not payload_bounds(b, 40, bounds)
