"""The plain twins of `packetio.intrinsics`, through ctypes: kernels run as ordinary Python with NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


def memory(address: int, size: int) -> memoryview:
    """Bytes at an address. Whoever gives the address keeps them alive."""
    return memoryview((ctypes.c_uint8 * int(size)).from_address(int(address))).cast("B")


def pointer_to(dtype: np.dtype[Any]) -> Any:
    """A function address -> record of `dtype` at that address."""

    def at(address: int) -> Any:
        return np.frombuffer(memory(address, dtype.itemsize), dtype).view(np.recarray)[0]

    return at


def array_of(dtype: type[np.generic]) -> Any:
    """A function (address, count) -> 1-D array of `dtype` over that memory."""
    item = np.dtype(dtype)

    def view(address: int, count: int) -> Any:
        return np.frombuffer(memory(address, int(count) * item.itemsize), item)

    return view


def load_acquire(address: int) -> int:
    """The 64-bit word at `address`."""
    return ctypes.c_int64.from_address(int(address)).value


def store_release(address: int, value: int) -> None:
    """Store the 64-bit `value` at `address`."""
    ctypes.c_int64.from_address(int(address)).value = int(value)


def exchange(address: int, value: int) -> int:
    """Put `value` at `address`; returns the word before."""
    before = load_acquire(address)
    store_release(address, value)
    return before


def set_bits(address: int, value: int) -> int:
    """Add the bits of `value` to the word at `address`; returns the word before."""
    return exchange(address, load_acquire(address) | int(value))


def write_fence() -> None:
    """Nothing to order in plain Python."""


def read_fence() -> None:
    """Nothing to order in plain Python."""


def copy_bytes(to: int, source: int, count: int) -> None:
    """Copy `count` bytes between addresses that do not overlap."""
    ctypes.memmove(int(to), int(source), int(count))
