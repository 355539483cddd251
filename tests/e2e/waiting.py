"""Waiting for what other processes do: read a value until it is accepted, within a bound that fails with a sentence.

End-to-end tests have no clock of their own to turn, so they look again and again; they never sleep for a fixed time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
EVERY = 0.1  # seconds between two looks


async def eventually(
    read: Callable[[], Awaitable[T]],
    accept: Callable[[T], object],
    what: str,
    *,
    seconds: float = 40.0,
    every: float = EVERY,
) -> T:
    """The first value of `read` that `accept` takes. AssertionError after `seconds`, with the last value."""
    end = time.monotonic() + seconds
    while True:
        value = await read()
        if accept(value):
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s; last seen: {value!r}"
        await asyncio.sleep(every)
