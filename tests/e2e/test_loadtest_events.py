"""What happens while a run lasts: churn by the seed, kills, mutes, layers; also of people who have gone meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from loadtest.engine.layout import VIDEO
from loadtest.run.ending import Ending
from loadtest.run.events import Events
from loadtest.run.people import Person
from loadtest.run.target import Target
from tests.e2e.loadtest_scenes import Scene, scene, transports, transports_become, until
from tests.e2e.node import Node

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(90, func_only=True)]


@contextlib.asynccontextmanager
async def eventful(name: str, node: Node, *actions: dict[str, Any], **keys: Any) -> AsyncIterator[tuple[Scene, Events]]:
    """Everybody is here; the events are not started."""
    async with scene(name, node.base, capacity=64, actions=list(actions), **keys) as made:
        await made.join()
        assert made.crowd.failed == 0

        async def again(people: Sequence[Person]) -> None:
            await asyncio.gather(*(made.crowd.join(person) for person in people))

        events = Events(made.scenario, made.roster, made.crowd, Target(made.scenario.target), again, Ending())
        try:
            yield made, events
        finally:
            await events.stop()


def states(made: Scene) -> list[str]:
    return [person.state for person in made.roster.subscribers]


async def test_people_come_and_go_and_nothing_of_them_stays(strict_node: Node) -> None:
    before = await transports(strict_node)
    async with eventful("churn", strict_node, churn={"leaves": 60.0, "joins": 60.0}) as (made, events):
        events.start()
        await until(lambda: made.crowd.attempted >= 30)
        await events.stop()
        assert made.crowd.failed == 0 and not events.ending.broken_off and not made.crowd.faults()
        people = made.roster.subscribers
        assert len(people) < 3 + made.crowd.attempted - 4 and not {"leaving", "joining"} & set(states(made))
        assert made.crowd.watching >= states(made).count("here")
        assert made.crowd.sessions == made.crowd.watching + 1
        await made.crowd.everybody_out(made.roster.everybody)
        assert len(made.crowd.steps) == made.crowd.done - 1
        assert len(made.engine._free_clients) == 64
    await transports_become(strict_node, before)


async def test_a_leaver_leaves_in_order_though_the_run_ends(strict_node: Node) -> None:
    before = await transports(strict_node)
    churn, viewers = {"leaves": 300.0, "joins": 0.0}, [{"name": "audience", "count": 20}]
    async with eventful("leavers", strict_node, churn=churn, subscribers=viewers) as (made, events):
        events.start()
        await until(lambda: len(made.roster.subscribers) < 15)
        await events.stop()
        assert states(made) == ["here"] * len(made.roster.subscribers)
        assert made.crowd.sessions == 1 + len(made.roster.subscribers)
        await transports_become(strict_node, before + made.crowd.sessions)
        assert not made.crowd.faults() and not events.ending.broken_off


async def test_when_nobody_is_here_nobody_leaves(strict_node: Node) -> None:
    async with eventful("nobody", strict_node, churn={"leaves": 500.0, "joins": 0.0}) as (made, events):
        events.start()
        await until(lambda: not made.roster.subscribers)
        await asyncio.sleep(0.05)
        assert not events.ending.broken_off and made.crowd.sessions == 1


async def until_dead(made: Scene, count: int) -> None:
    await until(lambda: states(made).count("dead") == count)


async def test_the_seed_chooses(strict_node: Node) -> None:
    chosen = []
    for _ in range(2):
        kill = {"at": 0.0, "do": "kill", "group": "audience", "count": 4}
        viewers = [{"name": "audience", "count": 9}]
        async with eventful("seeds", strict_node, kill, subscribers=viewers) as (made, events):
            handles = {p.identity: p.sessions[0].handle for p in made.roster.subscribers}
            events.start()
            await until_dead(made, 4)
            dead = [person for person in made.roster.subscribers if person.state == "dead"]
            chosen.append([person.identity for person in dead])
            assert made.crowd.watching == 5 and not made.crowd.faults()
            for person in dead:
                await made.driver.leave(handles[person.identity])  # the node would wait for half a minute
    assert chosen[0] == chosen[1]


async def test_mute_ends_after_its_time_and_survives_who_leaves(strict_node: Node) -> None:
    mute = {"at": 0.0, "do": "mute", "group": "hosts", "count": 2, "kind": "video", "for": 0.5}
    hosts = [{"name": "hosts", "media": "synthetic", "count": 2}]
    async with eventful("mutes", strict_node, mute, publishers=hosts) as (made, events):
        first, second = made.roster.publishers
        events.start()

        def source(person: Person) -> Any:
            return made.engine.sources_of(person.sessions[0].index)[0]

        await until(lambda: bool(source(first).muted and source(second).muted))
        packets = int(source(second).packets)
        await made.crowd.leave(first)
        await asyncio.sleep(0.1)
        assert int(source(second).packets) <= packets + 4
        await until(lambda: not source(second).muted)
        await until(lambda: int(source(second).packets) > packets + 4)
        assert not events.ending.broken_off and source(second).kind == VIDEO


async def test_a_layer_that_the_target_does_not_have_is_a_fault_for_each_who_asked(strict_node: Node) -> None:
    change = {"at": 0.0, "do": "layer", "group": "audience", "count": 2, "layer": "l"}
    async with eventful("layers", strict_node, change) as (made, events):
        events.start()
        await until(lambda: sum(fault.count for fault in made.crowd.faults()) == 2)
        assert (
            all("layer change failed" in fault.what for fault in made.crowd.faults()) and not events.ending.broken_off
        )


async def test_an_event_that_fails_breaks_the_run_off(strict_node: Node) -> None:
    restart = {"at": 0.0, "do": "restart-target"}  # of a target that we did not start
    kill = {"at": 0.05, "do": "kill", "group": "audience", "count": 1}
    async with eventful("failing", strict_node, restart, kill) as (made, events):
        events.start()
        await until(lambda: bool(events.ending.broken_off))
        assert events.ending.broken_off.startswith("an event failed")
        await asyncio.gather(*(made.crowd.bury(person) for person in made.roster.everybody))
        assert made.crowd.sessions == 0


async def test_stopping_before_anything_has_happened_stops_everything(strict_node: Node) -> None:
    kill = {"at": 30.0, "do": "kill", "group": "audience", "count": 1}
    async with eventful("waiting", strict_node, kill, churn={"leaves": 0.01, "joins": 0.01}) as (made, events):
        events.start()
        await asyncio.sleep(0)
        await events.stop()
        assert not events._tasks and states(made) == ["here"] * 3
