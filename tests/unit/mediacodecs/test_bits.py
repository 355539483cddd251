"""Big endian numbers against int.from_bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mediacodecs.bits import be16, be24, be32, put8, put16, put24, put32
from tests.unit.mediacodecs.records import array, written

DATA = bytes(np.random.default_rng(5).integers(0, 256, 64, dtype=np.uint8))


@pytest.mark.parametrize(("read", "size"), [(be16, 2), (be24, 3), (be32, 4)])
def test_numbers_are_read_big_endian(read: Callable[..., int], size: int) -> None:
    for at in range(len(DATA) - size + 1):
        assert read(array(DATA), at) == int.from_bytes(DATA[at : at + size], "big")
    assert read(array(b"\xff" * size), 0) == (1 << 8 * size) - 1


@pytest.mark.parametrize(("put", "size"), [(put8, 1), (put16, 2), (put24, 3), (put32, 4)])
@pytest.mark.parametrize("value", [0, 1, -1, 0x123456789ABCDEF0, -(1 << 63), np.uint32(0xFFFFFFFE), np.uint64(1 << 63)])
def test_low_bits_are_written_big_endian(put: Callable[..., None], size: int, value: Any) -> None:
    def write(b: Any) -> int:
        put(b, 3, value)
        return 3 + size

    assert written(write, size) == (int(value) % (1 << 8 * size)).to_bytes(size, "big")
