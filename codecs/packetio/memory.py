"""Addresses as records and arrays: how kernels reach tables, logs and buffers through one state record.

A numpy record is a pointer to compiled code, so a table's address and an index are enough to hand down one record, and a
kernel needs no list of arrays. The same functions work on plain Python (NUMBA_DISABLE_JIT=1) through ctypes. Whoever
stores an address keeps the memory alive: `Region` owns a memfd mapping, which another process can attach to.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from mediacodecs.kernel import JIT
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

PAGE = 4096
MAP_POPULATE = 0x8000


def pointer_to(dtype: np.dtype[Any]) -> Callable[[int], Any]:
    """A function address -> record of `dtype` at that address, callable from kernels and from Python."""
    if not JIT:

        def plain(address: int) -> Any:
            raw = (ctypes.c_uint8 * dtype.itemsize).from_address(int(address))
            return np.frombuffer(raw, dtype).view(np.recarray)[0]

        return plain
    record = from_dtype(dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def at(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), generate

    return at  # type: ignore[no-any-return]


def array_of(dtype: type[np.generic]) -> Callable[[int, int], Any]:
    """A function (address, count) -> 1-D array of `dtype` over that memory, callable from kernels and from Python."""
    item = np.dtype(dtype)
    if not JIT:

        def plain(address: int, count: int) -> Any:
            raw = (ctypes.c_uint8 * (int(count) * item.itemsize)).from_address(int(address))
            return np.frombuffer(raw, item)

        return plain
    array = types.Array(from_dtype(item), 1, "C")

    @intrinsic  # type: ignore[untyped-decorator]
    def view(typing_context: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            made = make_array(array)(context, builder)
            data = builder.inttoptr(args[0], context.get_data_type(array.dtype).as_pointer())
            stride = context.get_constant(types.intp, item.itemsize)
            populate_array(made, data=data, shape=[args[1]], strides=[stride], itemsize=stride, meminfo=None)
            return made._getvalue()

        return array(types.int64, types.int64), generate

    return view  # type: ignore[no-any-return]


bytes_at = array_of(np.uint8)
numbers_at = array_of(np.int64)

if JIT:

    @intrinsic  # type: ignore[untyped-decorator]
    def load_acquire(typing_context: Any, address: Any) -> Any:
        """The 64-bit word at `address`, seen no earlier than anything read after it."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            return builder.load_atomic(pointer, "acquire", 8)

        return types.int64(types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def store_release(typing_context: Any, address: Any, value: Any) -> Any:
        """Store the 64-bit `value` at `address`, seen no earlier than anything written before it."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            builder.store_atomic(args[1], pointer, "release", 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def write_fence(typing_context: Any) -> Any:
        """No write after it is seen before a write that stands before it (free on x86; it binds the compiler)."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.fence("release")
            return context.get_dummy_value()

        return types.void(), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_bytes(typing_context: Any, to: Any, source: Any, count: Any) -> Any:
        """Copy `count` bytes between addresses that do not overlap."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            byte = ir.IntType(8).as_pointer()
            cgutils.raw_memcpy(builder, builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte), args[2], 1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

else:

    def load_acquire(address: int) -> int:
        """The 64-bit word at `address`."""
        return ctypes.c_int64.from_address(int(address)).value

    def store_release(address: int, value: int) -> None:
        """Store the 64-bit `value` at `address`."""
        ctypes.c_int64.from_address(int(address)).value = int(value)

    def write_fence() -> None:
        """Nothing to order in plain Python."""

    def copy_bytes(to: int, source: int, count: int) -> None:
        """Copy `count` bytes between addresses that do not overlap."""
        ctypes.memmove(int(to), int(source), int(count))


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
