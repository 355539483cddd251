"""Addresses as records and arrays: how kernels reach tables, logs and buffers through one state record.

A numpy record is a pointer to compiled code, so a table's address and an index are enough to hand down one record,
and a kernel needs no list of arrays. The same functions work on plain Python (NUMBA_DISABLE_JIT=1) through ctypes.
Whoever stores an address keeps the memory alive: `Region` owns a memfd mapping, which another process can attach to.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np

from mediacodecs.kernel import JIT

if JIT:
    from packetio.intrinsics import (
        array_of,
        copy_bytes,
        exchange,
        load_acquire,
        pointer_to,
        read_fence,
        set_bits,
        store_release,
        write_fence,
    )
else:
    from packetio.plain import (
        array_of,
        copy_bytes,
        exchange,
        load_acquire,
        pointer_to,
        read_fence,
        set_bits,
        store_release,
        write_fence,
    )

__all__ = [
    "PAGE",
    "Region",
    "Table",
    "array_of",
    "bytes_at",
    "copy_bytes",
    "exchange",
    "load_acquire",
    "numbers_at",
    "pointer_to",
    "read_fence",
    "set_bits",
    "store_release",
    "write_fence",
]

PAGE = 4096
MADV_POPULATE_WRITE = 23
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
bytes_at = array_of(np.uint8)
numbers_at = array_of(np.int64)


class Region:
    """A block of shared memory (memfd), mapped here and attachable from another process by its file descriptor.

    `address` is where it begins in this process. Pages that are never touched cost nothing; `populate` touches a range
    so that the packet path does not pay for it (0.75 µs a page).
    """

    def __init__(self, size: int, name: str = "weir", fd: int | None = None) -> None:
        self.size = -(-size // PAGE) * PAGE
        if fd is None:
            self.fd = os.memfd_create(name)
            os.ftruncate(self.fd, self.size)
        else:
            self.fd = os.dup(fd)
            self.size = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, self.size, flags=mmap.MAP_SHARED)
        self.bytes = np.frombuffer(self.map, np.uint8)
        self.address = int(self.bytes.ctypes.data)

    @classmethod
    def attach(cls, fd: int) -> Region:
        """Map the region that another process made; `fd` is that process's descriptor, passed over or via /proc."""
        return cls(0, fd=fd)

    def table(self, offset: int, dtype: np.dtype[Any], count: int) -> np.recarray[Any, Any]:
        """`count` records of `dtype` from `offset` bytes on, as a record array over the shared memory."""
        part = self.bytes[offset : offset + dtype.itemsize * count]
        return part.view(dtype).view(np.recarray)

    def populate(self, offset: int, size: int) -> None:
        """Touch the pages of a range by writing zeros."""
        self.bytes[offset : offset + size] = 0

    def prefault(self, offset: int, size: int) -> None:
        """Give a range its pages now, without touching what is in it (Linux 5.14; before that they come at first use).

        Runs without the interpreter lock, so it may be left to a thread while a log in the range is in use.
        """
        _madvise(self.address + offset, size, MADV_POPULATE_WRITE)

    def release(self, offset: int, size: int) -> None:
        """Give the pages of a range back to the system; they read as zeros from then on."""
        self.map.madvise(mmap.MADV_REMOVE, offset, size)

    def close(self) -> None:
        """Close the descriptor; the mapping lives on while arrays over it do."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Table:
    """Private, aligned, zeroed records that kernels reach by address; keeps the memory alive."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.dtype = dtype
        self.raw = np.zeros(dtype.itemsize * count + 64, np.uint8)
        shift = -int(self.raw.ctypes.data) % 64
        self.rows: np.recarray[Any, Any] = (
            self.raw[shift : shift + dtype.itemsize * count].view(dtype).view(np.recarray)
        )
        self.address = int(self.rows.ctypes.data)
        self.count = count

    def clear(self, index: int) -> Any:
        """Zero one record and return it."""
        start = index * self.dtype.itemsize
        self.rows.view(np.uint8)[start : start + self.dtype.itemsize] = 0
        return self.rows[index]
