"""A whole run, short: what the results say of it, and that it ends in order whatever happens."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.results.figures import FIGURES
from loadtest.results.schema import Results
from loadtest.run.crowd import Crowd
from loadtest.run.ending import Ending
from loadtest.run.figures import Figures
from loadtest.run.joining import Joining
from loadtest.run.runner import Options, Run
from loadtest.scenario.schema import Scenario
from tests.e2e.loadtest_runs import compiled
from tests.e2e.loadtest_scenes import farewells, scenario_of, scene, transports, transports_become
from tests.e2e.node import KEY, SECRET, Node, free_ports

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]


def measured(name: str, node: Node, **keys: Any) -> Scenario:
    """A scenario against the node, whose process is measured."""
    assert node.process is not None
    target = {"url": node.base, "token_key": KEY, "token_secret": SECRET, "pid": node.process.pid}
    return scenario_of(name, node.base, **({"target": target} | keys))


async def go(scenario: Scenario, **options: Any) -> Results:
    files, threads = len(os.listdir("/proc/self/fd")), named()
    found = await asyncio.wait_for(Run(scenario, Options(command="test", **options)).go(), 200)
    assert named() <= threads and len(os.listdir("/proc/self/fd")) <= files + 1
    return found


def named() -> set[str]:
    """Threads of a run."""
    return {thread.name for thread in threading.enumerate() if thread.name in ("clients", "decoding")}


async def test_a_run_with_tokens_measures_what_it_says(strict_node: Node) -> None:
    before, phases = await transports(strict_node), list[str]()
    expect = {"joins.failed": "== 0", "loss.after": "== 0", "audience/frames.missed": "== 0"}
    scenario = measured("run", strict_node, expect=expect)
    found = await go(scenario, progress=lambda figures, phase, elapsed, total: phases.append(phase))
    assert found.verdict in ("passed", "no verdict"), (found.notes, found.faults)
    assert all(item.held for item in found.expect) and not found.faults
    figures = found.figures
    assert figures.keys() <= FIGURES.keys() and (figures["joins.done"], figures["joins.attempted"]) == (4, 4)
    for name in ("packets.received", "latency.p50", "target.cpu", "target.memory", "tool.cpu", "join.frame.p95"):
        assert (figures[name] or 0) > 0, name
    assert 0 < (figures["frames.rate"] or 0) < 40 and figures["layer.width"] == 1280
    assert (found.groups["hosts"]["packets.sent"] or 0) > 0 and found.groups["hosts"]["packets.received"] == 0
    assert found.distributions["latency"].counts and found.series["time"]
    told = list(dict.fromkeys(phases))
    wanted = ["preparing", "encoding synthetic", "compiling", "connecting", "joining", "measuring", "leaving"]
    assert told == wanted and SECRET not in found.scenario.text
    assert (figures["packets.wrong"], figures["packets.refused"], found.broken_off) == (0, 0, "")
    await transports_become(strict_node, before)


async def test_a_target_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    begun = time.monotonic()
    found = await go(scenario_of("absent", url))
    assert found.verdict == "failed" and found.broken_off == f"nobody takes connections at {url}" and not found.notes
    assert time.monotonic() - begun < 30


async def test_joins_without_a_token_are_faults_of_those_who_tried(strict_node: Node) -> None:
    found = await go(scenario_of("strangers", strict_node.base, target={"url": strict_node.base}))
    assert found.verdict == "failed" and found.figures["joins.failed"] == 4 == sum(f.count for f in found.faults)
    assert found.broken_off == "nobody could join" and all("401" in fault.what for fault in found.faults)


async def test_a_run_that_is_stopped_reports_what_was_measured_until_then(strict_node: Node) -> None:
    before = await transports(strict_node)
    enough = asyncio.Event()

    def look(figures: Figures, phase: str, elapsed: float, total: float | None) -> None:
        assert phase != "measuring" or total == 60.0
        if phase == "measuring" and (figures.get("packets.rate") or 0) > 0:
            enough.set()

    run = Run(measured("stopped", strict_node, duration=60.0), Options(command="test", progress=look))
    going = asyncio.create_task(run.go())
    await asyncio.wait_for(enough.wait(), 30)
    run.stop()
    found = await asyncio.wait_for(going, 50)  # of 60 s
    assert found.verdict == "interrupted"
    assert (found.figures["packets.received"] or 0) > 0 and not found.faults
    await transports_become(strict_node, before)


@pytest.mark.parametrize("last", ["preparing", "encoding synthetic", "compiling", "connecting", "joining"])
async def test_a_run_that_is_stopped_goes_no_step_further(strict_node: Node, last: str) -> None:
    phases = list[str]()

    def look(figures: Figures, phase: str, elapsed: float, total: float | None) -> None:
        phases.append(phase)
        if phase == last:
            run.stop()

    run = Run(measured("early-end", strict_node, duration=60.0), Options(command="test", progress=look))
    found = await asyncio.wait_for(run.go(), 60)
    assert found.verdict == "interrupted" and "measuring" not in phases and not found.faults
    allowed = {"preparing": "encoding synthetic", "joining": "leaving"}.get(last, last)
    assert phases[-1] == allowed and (found.figures.get("joins.failed") or 0) == 0


async def test_waiting_for_a_target_ends_when_the_run_is_stopped(tmp_path: Path) -> None:
    silent = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(90)"]
    target = {"url": f"http://127.0.0.1:{free_ports()[0]}", "command": silent, "start_timeout": 80.0}
    begun = list[float]()

    def look(figures: Figures, phase: str, elapsed: float, total: float | None) -> None:
        if phase == "starting the target":
            begun.append(time.monotonic())
            asyncio.get_running_loop().call_later(0.3, run.stop)

    run = Run(scenario_of("silent", "", target=target), Options(command="test", progress=look))
    found = await asyncio.wait_for(run.go(), 60)
    assert found.verdict == "interrupted" and time.monotonic() - begun[0] < 40 and not run._target.tail()
    assert found.target.pid is not None and not Path(f"/proc/{found.target.pid}").exists()


class Pauses(Ending):
    """Notes how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await super().pause(seconds)


async def test_people_who_come_back_do_not_wait_for_their_group_s_start(strict_node: Node) -> None:
    viewers = [{"name": "audience", "count": 2, "start": 1.5}]
    async with scene("again", strict_node.base, subscribers=viewers) as made:
        ending = Pauses()
        joining = Joining(made.scenario, made.crowd, ending)
        await joining.first(made.roster.everybody)
        assert joining.seconds >= 1.5 and max(ending.pauses) > 0.5 and made.crowd.done == 3
        ending.pauses.clear()
        for person in made.roster.everybody:
            made.crowd.kill(person)
        await asyncio.gather(*(made.crowd.bury(person) for person in made.roster.everybody))
        await joining.again(made.roster.everybody)
        assert max(ending.pauses) < 0.5 and made.crowd.done == 6 and not made.crowd.failed


@pytest.mark.timeout(300, func_only=True)  # on a busy machine; nothing here depends on how long it takes
async def test_everything_is_closed_though_leaving_fails(strict_node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Crowd, people: object) -> None:
        raise RuntimeError("the client engine does not answer")

    monkeypatch.setattr(Crowd, "everybody_out", fail)
    before = await transports(strict_node)
    scenario = measured("goodbye-fails", strict_node, joins={"rate": 500.0, "timeout": 60.0})
    found = await go(scenario)
    assert "leaving failed: RuntimeError: the client engine does not answer" in found.notes
    assert (found.figures["packets.received"] or 0) > 0 and found.figures["joins.done"] == 4
    await transports_become(strict_node, before)
    assert farewells(strict_node, scenario) == {"the peer closed DTLS": 4}, "each said goodbye, and none just timed out"


async def test_other_hosts_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="192.0.2.1 is not loopback"):
        await go(scenario_of("remote", "http://192.0.2.1:7880"))


async def test_there_is_room_for_all_sessions_of_who_comes_by_chance() -> None:
    hosts = {"name": "hosts", "media": "synthetic", "count": 5}
    scenario = scenario_of("room", "http://127.0.0.1:1", publishers=[hosts], churn={"joins": 2.0}, duration=50.0)
    run = Run(scenario, Options(command="test"))
    assert run._room_for_churn() == 64 + 120 * 5
