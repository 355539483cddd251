"""A crowd with its engine, in front of a server that is really there."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from loadtest.drivers.make import make_driver
from loadtest.engine.engine import ClientEngine
from loadtest.engine.layout import MS
from loadtest.engine.totals import Totals, sum_of
from loadtest.run.crowd import Crowd
from loadtest.run.people import Person, Roster, room_name
from loadtest.run.reels import Reels
from loadtest.scenario.schema import Scenario
from tests.e2e.node import KEY, SECRET, Node
from tests.unit.loadtest.run.scenarios import scenario_of as small

HOST = "127.0.0.1"


def scenario_of(name: str, url: str, **keys: Any) -> Scenario:
    """The small scenario, with the key of a node that takes nobody without a token."""
    return small(name, url, **({"target": {"url": url, "token_key": KEY, "token_secret": SECRET}} | keys))


class Scene:
    """What a run has, without the run."""

    def __init__(self, scenario: Scenario, capacity: int, publishers: int = 2) -> None:
        self.scenario, self.roster = scenario, Roster(scenario)
        self.engine = ClientEngine(capacity, publishers)
        self.driver = make_driver(scenario.target, False)
        reels = Reels(scenario)
        reels.prepare()
        self.crowd = Crowd(scenario, self.driver, self.engine, reels, HOST, False)

    @property
    def total(self) -> Totals:
        return sum_of(self.engine.totals())

    async def join(self) -> None:
        """Everybody, publishers first."""
        for people in (self.roster.publishers, self.roster.subscribers):
            await asyncio.gather(*(self.crowd.join(person) for person in people))

    def person(self, k: int) -> Person:
        """A viewer."""
        return self.roster.subscribers[k]


@contextlib.asynccontextmanager
async def scene(name: str, url: str, capacity: int = 16, **keys: Any) -> AsyncIterator[Scene]:
    """Everybody leaves in the end."""
    made = Scene(scenario_of(name, url, **keys), capacity)
    made.engine.start()
    try:
        yield made
    finally:
        await made.crowd.everybody_out(made.roster.everybody)
        await made.driver.close()
        made.engine.stop()


async def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def time_passes(scene: Scene, ms: float) -> None:
    """So much by the clock of the engine's thread, which passes all its clients meanwhile."""
    end = int(scene.engine.state.now) + ms * MS
    await until(lambda: int(scene.engine.state.now) > end)


async def transports(node: Node) -> int:
    """Transports that the node has now."""
    return int((await node.metrics()).total("weir_table_used", table="transports"))


async def transports_become(node: Node, wanted: int, seconds: float = 60.0) -> None:
    """Wait until the node has so many. On a busy machine that takes long; why they went: `farewells`."""
    async with asyncio.timeout(seconds):
        while await transports(node) != wanted:
            await asyncio.sleep(0.02)


def farewells(node: Node, scenario: Scenario) -> Counter[str]:
    """Why the sessions of a scenario's first room ended, in the node's words."""
    room = room_name(scenario, 0)
    left = [line for line in node.log() if line["message"] == "left" and line["room"] == room]
    return Counter(line["reason"] for line in left)


@contextlib.asynccontextmanager
async def answering(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An HTTP server that answers as it likes; its URL."""
    runner = web.ServerRunner(web.Server(handler), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
