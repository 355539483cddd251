"""A run ends when it is told to: waiting and work are given up, and the first reason stays."""

from __future__ import annotations

import asyncio
import time

import pytest

from loadtest.run.ending import Ending


async def test_work_is_done_unless_the_run_is_to_end() -> None:
    ending, gate = Ending(), asyncio.Event()
    gate.set()
    assert await ending.unless(gate.wait()) and not ending.due
    gate.clear()
    waiting = asyncio.create_task(ending.unless(gate.wait()))
    await asyncio.sleep(0)
    ending.interrupt()
    assert not await asyncio.wait_for(waiting, 5) and ending.interrupted and not ending.broken_off


async def test_nothing_begins_any_more_when_the_run_is_to_end() -> None:
    ending, begun = Ending(), list[int]()

    async def work() -> None:
        begun.append(1)

    ending.break_off("the target is dead")
    ending.break_off("nothing comes")
    assert not await ending.unless(work()) and not begun
    assert ending.broken_off == "the target is dead" and not ending.interrupted


async def test_what_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        await Ending().unless(work())


async def test_work_that_is_given_up_has_ended_when_that_is_told() -> None:
    ending, closed = Ending(), list[int]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    asyncio.get_running_loop().call_soon(ending.interrupt)
    assert not await ending.unless(work()) and closed


async def test_a_pause_ends_early_when_the_run_does() -> None:
    ending, begun = Ending(), time.monotonic()
    await ending.pause(-1.0)
    await ending.pause(0.01)
    asyncio.get_running_loop().call_soon(ending.interrupt)
    await ending.pause(60.0)
    assert time.monotonic() - begun < 30
