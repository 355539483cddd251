"""What happens while a run lasts: churn by the seed, kills, mutes, layers; also of people who have gone meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.engine.layout import VIDEO
from loadtest.run.ending import Ending
from loadtest.run.events import Events
from loadtest.run.figures import Moment
from loadtest.run.people import Person
from loadtest.run.sampler import Sampler
from loadtest.run.target import Target
from loadtest.run.tool import Tool
from loadtest.run.watch import STALLED, Watch
from loadtest.scenario.schema import Target as Settings
from tests.e2e.loadtest_runs import compiled
from tests.e2e.loadtest_scenes import Scene, scene, time_passes, transports, transports_become, until
from tests.e2e.node import Node, free_ports

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]


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
        looks, one_leaves = list[int](), events._one_leaves

        def look() -> None:
            looks.append(len(made.roster.subscribers))
            one_leaves()

        events._one_leaves = look  # type: ignore[method-assign]
        events.start()
        await until(lambda: looks[-9:] == [0] * 9)
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
        await time_passes(made, 100)
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


ONCE = """
import os, socket, sys
if os.path.exists(sys.argv[2]):
    sys.exit("no license any more")
open(sys.argv[2], "w").close()
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listening.accept()[0].close()
"""


async def test_a_target_that_does_not_come_back_breaks_the_run_off(strict_node: Node, tmp_path: Path) -> None:
    port, marker = free_ports()[0], str(tmp_path / "started")
    command = [sys.executable, "-c", ONCE, str(port), marker]
    target = Target(Settings(url=f"http://127.0.0.1:{port}", command=command))
    restart = {"at": 0.0, "do": "restart-target"}
    async with eventful("gone", strict_node, restart) as (made, events):
        events.target = target
        await target.start()
        assert target.address == "127.0.0.1"
        try:
            events.start()
            await until(lambda: events.ending.due)
        finally:
            await target.stop()
        assert events.ending.broken_off.startswith("the target did not come back: the target ended with 1")
        assert events.restarting and set(states(made)) == {"dead"}


async def test_who_is_leaving_has_little_time_when_the_run_is_to_end_at_once(
    strict_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.run.events.LEAVERS_END", 0.2)
    before = await transports(strict_node)
    async with eventful("stuck", strict_node, churn={"leaves": 100.0, "joins": 0.0}) as (made, events):
        with monkeypatch.context() as patched:
            patched.setattr(made.driver, "leave", lambda handle: asyncio.Event().wait())
            events.start()
            await until(lambda: "away" in states(made))
            events.ending.interrupt()
            await asyncio.wait_for(events.stop(), 5)
        assert made.crowd.sessions > 1
        await made.crowd.everybody_out(made.roster.everybody)
        await transports_become(strict_node, before)


@pytest.mark.parametrize(("muted", "broken"), [("all", False), ("one", False), ("nobody", True)])
async def test_only_what_is_muted_may_be_silent(strict_node: Node, muted: str, broken: bool) -> None:
    hosts = [{"name": "hosts", "media": "synthetic", "count": 2}]
    async with scene(f"silence-{muted}", strict_node.base, publishers=hosts) as made:
        await made.join()
        await until(lambda: made.total.packets > 0)
        ending, target = Ending(), Target(made.scenario.target)
        tool = Tool(made.engine)
        sampler = Sampler(lambda: Moment(0.0, made.engine.totals(), tool.mark(), None, 0), tool.late_ms)
        watch = Watch(made.roster, made.crowd, made.engine, target, sampler, ending)
        people = made.roster.publishers[: {"all": 2, "one": 1, "nobody": 0}[muted]]
        for session in (session for person in people for session in person.sessions):
            made.engine.mute(session.index, VIDEO, True)
        if muted == "nobody":
            for person in made.roster.publishers:
                made.engine.silence(person.sessions[0].index)
        packets = await still(made) if muted != "one" else 0
        watch.check()
        watch._moved -= 2 * STALLED
        if muted == "one":
            await until(lambda: made.total.packets > watch._received)
        watch.check()
        assert bool(ending.broken_off) == broken and (muted == "one" or made.total.packets == packets)


async def still(made: Scene) -> int:
    """Packets received when no more come."""
    last = -1
    while last != made.total.packets:
        last = made.total.packets
        await asyncio.sleep(0.2)
    return last
