"""The whole client, HTTP to opened media, against the pure Python forwarder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from loadtest import yardstick
from loadtest.client import CM_ONLY, GCM_ONLY, Clients
from loadtest.peer import JoinError
from loadtest.server import free_ports


@contextlib.asynccontextmanager
async def forwarder() -> AsyncIterator[str]:
    http_port, udp_port = free_ports()
    ready = asyncio.Event()
    task = asyncio.create_task(yardstick.serve(http_port, udp_port, ready))
    await ready.wait()
    yield f"http://127.0.0.1:{http_port}"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("profiles", [GCM_ONLY, CM_ONLY])
async def test_all_that_is_published_reaches_every_subscriber_intact(profiles: tuple[str, ...]) -> None:
    async with forwarder() as base, Clients(base, subscribers=3, publishers=1) as clients:
        publisher = await clients.publish("room", "p", profiles)
        subscribers = [await clients.subscribe("room", "p", profiles, opened=True) for _ in range(3)]
        publisher.begin(burst=False, frames=10)
        for subscriber in subscribers:
            await subscriber.wait(frame=True, timeout=5)
        rows = clients.sink.rows
        await until(lambda: all(rows[s.row].checked == publisher.sent == 120 for s in subscribers))
        assert clients.sink.gaps() == clients.sink.total("wrong") == clients.sink.total("refused") == 0
        times = subscribers[0].peer.timings
        steps = [times.begun, times.answered, times.connected, times.secured, times.first_packet, times.first_frame]
        assert steps == sorted(steps) and steps[0] > 0
        await clients.leave(subscribers)
        assert clients.sink.ports() == []


async def test_a_join_that_nobody_answers_is_an_error_that_says_so() -> None:
    http_port, _ = free_ports()
    async with Clients(f"http://127.0.0.1:{http_port}", subscribers=1, publishers=1) as clients:
        with pytest.raises(JoinError, match="/whep/room/p"):
            await clients.subscribe("room", "p")


async def test_a_refused_join_carries_the_status() -> None:
    async with forwarder() as base, Clients(base, subscribers=1, publishers=1) as clients:
        clients.base += "/nowhere"
        with pytest.raises(JoinError, match="404"):
            await clients.publish("room", "p")
