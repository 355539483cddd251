"""What tests of kernels share: records full of noise, their fields as a dict, bytes as arrays, changed bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
BUDGET = settings(max_examples=300, deadline=None, derandomize=True, database=None)
AROUND = (b"", b"\xff" * 40, b"\0" * 40)  # what may lie before and after the bytes that a kernel is given


def noisy(dtype: np.dtype[Any]) -> Any:
    """A record of no sensible value, so that a field that isn't written shows."""
    rows = np.recarray(1, dtype)
    rows.view(np.uint8)[:] = 0xA5
    return rows[0]


def zeroed(dtype: np.dtype[Any], count: int | None = None) -> Any:
    """A record of zeros, or an array of so many."""
    rows = np.zeros(count or 1, dtype).view(np.recarray)
    return rows if count else rows[0]


def fields(record: Any) -> dict[str, Any]:
    """Field name -> Python value, arrays as lists."""
    return {name: record[name].tolist() for name in record.dtype.names}


def array(data: bytes) -> Any:
    """The bytes as a read-only u1 array."""
    return np.frombuffer(data, np.uint8)


def written(write: Callable[[Any], int], size: int, at: int = 3) -> bytes:
    """What a writer puts at array[at:]; it may touch `size` bytes and nothing else."""
    b = np.full(at + size + 8, 0xEE, np.uint8)
    end = int(write(b))
    assert end <= at + size
    assert bytes(b[:at]) == b"\xee" * at and bytes(b[end:]) == b"\xee" * (b.size - end)
    return bytes(b[at:end])


def saved(folder: str) -> list[bytes]:
    """The corpus of that name."""
    seeds = [file.read_bytes() for file in sorted((CORPUS / folder).glob("*.bin"))]
    assert seeds
    return seeds


def cuts(seeds: list[bytes]) -> Iterator[bytes]:
    """Each seed at every length."""
    for data in seeds:
        for size in range(len(data) + 1):
            yield data[:size]


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with some bytes changed and maybe its end cut off."""
    changes = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6)
    return st.builds(mutate, st.sampled_from(seeds), changes, st.one_of(st.just(1500), st.integers(0, 120)))


def mutate(seed: bytes, changes: list[tuple[int, int]], size: int) -> bytes:
    data = bytearray(seed)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    return bytes(data[:size])
