"""The benchmark's clients, HTTP to opened media, against the pure Python forwarder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from loadtest.bench import yardstick
from loadtest.bench.clients import AUDIO_RATE, CM_ONLY, FRAMERATE, GCM_ONLY, PACKETS_A_FRAME, Clients
from loadtest.bench.server import free_ports
from loadtest.drivers.base import DriverError
from loadtest.transport.peer import JoinError


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
        subscribers = [await clients.subscribe("room", "p", profiles, opened=k > 0) for k in range(3)]
        assert {session.peer.contexts.profile for session in subscribers if session.peer.contexts} == {*profiles}
        publisher.begin(burst=False, frames=10)
        for subscriber in subscribers[1:]:
            await subscriber.wait(frame=True, timeout=5)
        await until(lambda: clients.received() == 3 * 120)
        counts = clients.counts()
        assert (counts.checked, counts.wrong) == (2 * 120, 0)
        assert counts.latency.sum(axis=1).tolist() == [0, 120, 120]
        assert [int(one.row.packets) for one in subscribers] == [120] * 3
        times = subscribers[1].peer.timings
        steps = [times.begun, times.answered, times.connected, times.secured, times.first_packet, times.first_frame]
        assert steps == sorted(steps) and steps[0] > 0
        await clients.leave(subscribers)
        assert clients.received() == 0 and clients.sessions == [publisher]


@pytest.mark.parametrize(("burst", "framerate"), [(False, FRAMERATE), (True, 2 * FRAMERATE)])
async def test_a_window_is_an_exact_number_of_packets(burst: bool, framerate: int) -> None:
    async with forwarder() as base, Clients(base, subscribers=1, publishers=1) as clients:
        publisher = await clients.publish("room", "p", framerate=framerate)
        for window in (1, 2):
            assert not publisher.running
            publisher.begin(burst=burst, frames=5)
            await until(lambda: not publisher.running)
            sound, video = publisher.sources
            assert video.packets == window * 5 * PACKETS_A_FRAME
            assert sound.packets == window * (5 * AUDIO_RATE // framerate)
        assert publisher.sent == sound.packets + video.packets


async def test_only_a_wanted_frame_is_a_keyframe() -> None:
    async with forwarder() as base, Clients(base, subscribers=1, publishers=1) as clients:
        publisher = await clients.publish("room", "p")
        video = publisher.sources[1]
        for wanted in (False, True):
            if wanted:
                publisher.want_keyframe()
            publisher.begin(burst=True, frames=3)
            await until(lambda: not publisher.running)
            assert video.keyframes == 1 + wanted


async def test_a_join_that_nobody_answers_is_an_error_that_says_so() -> None:
    http_port, _ = free_ports()
    async with Clients(f"http://127.0.0.1:{http_port}", subscribers=1, publishers=1) as clients:
        with pytest.raises(DriverError, match="/whep/room/p"):
            await clients.subscribe("room", "p")


async def test_a_refused_join_carries_the_status() -> None:
    async with forwarder() as base, Clients(base + "/nowhere", subscribers=1, publishers=1) as clients:
        with pytest.raises(DriverError, match="404"):
            await clients.publish("room", "p")


async def test_no_packet_is_an_error_too() -> None:
    async with forwarder() as base, Clients(base, subscribers=1, publishers=1) as clients:
        subscriber = await clients.subscribe("room", "p")
        with pytest.raises(JoinError, match="no packet within"):
            await subscriber.wait(frame=False, timeout=0.05)
