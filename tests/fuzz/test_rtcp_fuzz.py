"""RTCP readers against their twins, on random, changed and truncated compounds, and NACKs written and read again."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from mediacodecs.rtcp import (
    REPORT_BLOCK,
    RTCP,
    SENDER_INFO,
    next_rtcp,
    read_bye,
    read_fir,
    read_nack,
    read_report_block,
    read_sender_info,
)
from mediacodecs.rtcp_write import write_nack
from tests.unit.mediacodecs.records import AROUND, BUDGET, array, cuts, fields, mutated, noisy, saved, written
from tests.unit.mediacodecs.rtcp_twin import Packet, compound, nack_entries

SEEDS = saved("rtcp")
ENTRIES = 40  # more than any packet here has


def agree(data: bytes) -> None:
    """Kernels and twins give the same for the bytes, whatever surrounds them."""
    expected = compound(data)
    for around in AROUND:
        b, at, end = array(around + data + around), len(around), len(around) + len(data)
        for packet in expected:
            item = noisy(RTCP)
            at = next_rtcp(b, at, end, item)
            found = fields(item)
            assert found | {"at": found["at"] - len(around), "end": found["end"] - len(around)} == packet.fields()
            agree_on_contents(b, item, packet)
        assert next_rtcp(b, at, end, noisy(RTCP)) == -1, data.hex()


def agree_on_contents(b: Any, item: Any, packet: Packet) -> None:
    info = noisy(SENDER_INFO)
    assert (fields(info) if read_sender_info(b, item, info) else None) == packet.sender_info()
    blocks = []
    for k in range(-1, ENTRIES):
        block = noisy(REPORT_BLOCK)
        if read_report_block(b, item, k, block):
            blocks.append(fields(block))
    assert blocks == packet.blocks()
    assert [ssrc for k in range(-1, ENTRIES) if (ssrc := read_bye(b, item, k)) != -1] == packet.left()
    assert [ssrc for k in range(-1, ENTRIES) if (ssrc := read_fir(b, item, k)) != -1] == packet.refreshed()
    for size in (400, 5):
        out = np.zeros(size, np.uint16)
        assert out[: read_nack(b, item, out)].tolist() == packet.asked()[:size]


@BUDGET
@given(st.binary(max_size=80))
@example(b"")
def test_random_bytes(data: bytes) -> None:
    agree(data)


@BUDGET
@given(st.integers(128, 191), st.integers(200, 207), st.integers(-1, 1), st.binary(max_size=60))
def test_random_packets(head: int, packet_type: int, more: int, body: bytes) -> None:
    agree(bytes([head, packet_type]) + max(0, len(body) // 4 + more).to_bytes(2, "big") + body)


@BUDGET
@given(mutated(SEEDS))
def test_changed_and_truncated_compounds(data: bytes) -> None:
    agree(data)


def test_saved_compounds_at_every_length() -> None:
    for data in cuts(SEEDS):
        agree(data)


@BUDGET
@given(st.integers(0, 1 << 40), st.lists(st.integers(0, 40), max_size=40))
def test_nacks_are_written_as_the_twin_does(first: int, steps: list[int]) -> None:
    lost = np.cumsum([first, *steps])
    data = written(lambda b: write_nack(b, 3, 1, 2, lost, lost.size), 12 + 4 * lost.size)
    (packet,) = compound(data)
    entries = [divmod(packet.word(at), 65536) for at in range(8, len(packet.body), 4)]
    assert entries == nack_entries(lost.tolist())
