"""Every payload kernel against its plain twin: random, mutated and truncated payloads, and a saved corpus.

The payload lies between other bytes, and once alone in its array, so that a read outside it shows as a difference or,
with NUMBA_BOUNDSCHECK=1, as an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediacodecs.frame import FRAME
from mediacodecs.h264 import nal_span
from mediacodecs.payload import parse_payload
from tests.fuzz import payload_twins as twins

CORPUS = Path(__file__).parent / "corpus"
CODECS = {name: getattr(twins, name.upper()) for name in ("opus", "vp8", "vp9", "h264", "av1", "h265")}
SEEDS = {name: [file.read_bytes() for file in sorted((CORPUS / name).glob("*.bin"))] for name in CODECS}
BUDGET = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def kernel(codec: int, data: bytes, around: bytes) -> tuple[int, dict[str, Any]]:
    """parse_payload on the bytes with others before and after."""
    frame = np.recarray(1, FRAME)
    frame.view(np.uint8)[:] = 0xA5
    array = np.frombuffer(around + data + around, np.uint8)
    error = parse_payload(codec, array, len(around), len(around) + len(data), frame[0])
    return int(error), {name: int(frame[0][name]) for name in FRAME.names or ()}


def agree(codec: int, data: bytes) -> None:
    """Kernel and twin give the same for the bytes, whatever surrounds them."""
    expected = twins.payload(codec, data)
    for around in (b"", b"\xff" * 40, b"\0" * 40):
        assert kernel(codec, data, around) == expected, data.hex()


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """A corpus payload with some bytes changed and its end cut off."""
    changes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=6)
    return st.builds(mutate, st.sampled_from(SEEDS[name]), changes, st.integers(0, 1500))


def mutate(seed: bytes, changes: list[tuple[int, int]], size: int) -> bytes:
    data = bytearray(seed)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    return bytes(data[:size])


@pytest.mark.parametrize("name", CODECS)
def test_random_payloads_give_the_same_as_the_twin(name: str) -> None:
    @BUDGET
    @given(st.binary(max_size=80))
    @example(b"")
    def check(data: bytes) -> None:
        agree(CODECS[name], data)

    check()


@pytest.mark.parametrize("name", CODECS)
def test_mutated_and_truncated_payloads_give_the_same_as_the_twin(name: str) -> None:
    @BUDGET
    @given(mutated(name))
    def check(data: bytes) -> None:
        agree(CODECS[name], data)

    check()


@pytest.mark.parametrize("name", CODECS)
def test_saved_payloads_give_the_same_as_the_twin_at_every_length(name: str) -> None:
    assert SEEDS[name]
    for data in SEEDS[name]:
        agree(CODECS[name], data)
        for size in range(min(len(data), 64)):
            agree(CODECS[name], data[:size])


def spans(data: bytes, around: bytes) -> list[bytes]:
    """All NAL units that nal_span finds."""
    array = np.frombuffer(around + data + around, np.uint8)
    found: list[bytes] = []
    while (span := int(nal_span(array, len(around), len(around) + len(data), len(found)))) >= 0:
        found.append(array[span >> 20 : (span >> 20) + (span & 0xFFFFF)].tobytes())
    return found


@BUDGET
@given(st.binary(max_size=40) | mutated("h264"))
def test_nal_units_are_found_as_the_twin_finds_them(data: bytes) -> None:
    for around in (b"", b"\xff" * 40, b"\0" * 40):
        assert spans(data, around) == twins.nal_units(data)


@pytest.mark.parametrize("codec", [twins.RED, twins.OTHER])
def test_unknown_codecs_begin_anywhere(codec: int) -> None:
    agree(codec, b"")
    agree(codec, b"\x01\x02")
