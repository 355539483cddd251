"""Addresses as records and arrays, and atomic words: what compiled code needs that numba does not offer.

The twins for plain Python are in `packetio.plain`; `packetio.memory` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np import arrayobj
from numba.np.numpy_support import from_dtype

arrays: Any = arrayobj
code: Any = cgutils


def intrinsic(build: Callable[..., Any]) -> Any:
    """numba's decorator, typed."""
    return numba.extending.intrinsic(build)


def pointer_to(dtype: np.dtype[Any]) -> Any:
    """A function address -> record of `dtype` at that address."""
    record = from_dtype(dtype)

    @intrinsic
    def at(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), generate

    return at


def array_of(dtype: type[np.generic]) -> Any:
    """A function (address, count) -> 1-D array of `dtype` over that memory."""
    item = np.dtype(dtype)
    array = types.Array(from_dtype(item), 1, "C")

    @intrinsic
    def view(typing_context: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            made = arrays.make_array(array)(context, builder)
            data = builder.inttoptr(args[0], context.get_data_type(array.dtype).as_pointer())
            stride = context.get_constant(types.intp, item.itemsize)
            arrays.populate_array(made, data=data, shape=[args[1]], strides=[stride], itemsize=stride, meminfo=None)
            return made._getvalue()

        return array(types.int64, types.int64), generate

    return view


@intrinsic
def load_acquire(typing_context: Any, address: Any) -> Any:
    """The 64-bit word at `address`, seen no earlier than anything read after it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def store_release(typing_context: Any, address: Any, value: Any) -> Any:
    """Store the 64-bit `value` at `address`, seen no earlier than anything written before it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store_atomic(args[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def read_modify_write(operation: str) -> Any:
    """A function (address, value) -> the 64-bit word before; one step, in one order for all threads."""

    @intrinsic
    def change(typing_context: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            return builder.atomic_rmw(operation, pointer, args[1], "seq_cst")

        return types.int64(types.int64, types.int64), generate

    return change


exchange = read_modify_write("xchg")  # puts the value there
set_bits = read_modify_write("or")  # adds the value's bits


@intrinsic
def write_fence(typing_context: Any) -> Any:
    """No write after it is seen before a write that stands before it (free on x86; it binds the compiler)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def read_fence(typing_context: Any) -> Any:
    """No read after it happens before a read that stands before it (free on x86; it binds the compiler)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def copy_bytes(typing_context: Any, to: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes between addresses that do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        code.raw_memcpy(builder, builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate
