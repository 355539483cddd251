"""The limit of targets whose limit is known is found, within a client; and results of runs are compared.

A target here is throttled by number and not by time, and the load test's own lateness is no reason to give no verdict:
so what is found does not depend on the machine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from loadtest.results.schema import read_results
from loadtest.run import tool
from loadtest.run.limit import LimitSearch
from loadtest.run.repeat import Runs
from loadtest.run.runner import Options
from loadtest.scenario.schema import Scenario
from tests.e2e.conftest import MakeNode
from tests.e2e.loadtest_runs import (
    PEERS,
    command_line,
    compiled,
    figure,
    keys_of,
    nothing_left,
    run,
    scenario_of,
    seen,
    server,
)
from tests.e2e.node import Node

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]
ANY_VERDICT = (0, 1, 3)  # a busy machine may be in the way


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to give no verdict."""
    monkeypatch.setattr(tool, "LATE_MS", 1e9)
    monkeypatch.setattr(tool, "BUSY", 1e9)


async def search(scenario: Scenario, most: int = 1000, vary: str = "subscribers") -> LimitSearch:
    """A search to its end; nothing of it is left over."""
    lines: list[str] = []
    found = LimitSearch(scenario, vary, most, Runs(Options(command="test")).once, lines.append)  # type: ignore[arg-type]
    with nothing_left():
        results = await found.search()
    assert results.search is not None and len(lines) == len(results.search.steps), lines
    return found


@pytest.mark.usefixtures("patient")
async def test_limit_of_a_node_that_takes_so_many_into_a_room_is_found(own_node: MakeNode, tmp_path: Path) -> None:
    async with own_node(limits={"participants_per_room": 6, "unlimited_loopback_joins": True}) as node:
        found = await search(scenario_of(tmp_path, "full", node.base, duration=0.5))
    assert (found.held, found.above, found.blocked) == (5, 6, None), found.steps
    assert found.broke and [item.figure for item in found.broke.expect if not item.held] == ["joins.failed"]
    assert all("6 participants, which is its limit" in fault.what for fault in found.broke.faults), seen(found.broke)
    assert found.best and figure(found.best, "joins.done") == 6


@pytest.mark.usefixtures("patient")
async def test_limit_of_a_forwarder_with_a_short_queue_is_found_by_loss(tmp_path: Path) -> None:
    copies = 10
    async with server(PEERS / "throttled_forwarder.py", str(copies)) as (url, process):
        scenario = scenario_of(
            tmp_path,
            "throttled",
            url,
            duration=1,
            target={"pid": process.pid},
            subscribers=[{"name": "audience", "count": 9}],
            expect={"joins.failed": "== 0", "loss.after": "<= 2 %"},
        )
        found = await search(scenario)
    assert abs(found.held - copies) <= 1 and found.above == found.held + 1, found.steps
    assert found.broke and [item.figure for item in found.broke.expect if not item.held] == ["loss.after"]
    assert found.best and figure(found.best, "target.cpu") > 0


@pytest.mark.usefixtures("patient")
async def test_search_ends_at_what_it_was_told_to_go_to(node: Node, tmp_path: Path) -> None:
    found = await search(scenario_of(tmp_path, "few", node.base, duration=0.5, rooms=2), most=3, vary="rooms")
    assert found.held == 3 and found.above is None
    assert found.best and figure(found.best, "joins.done") == 3 * 5


async def test_load_test_that_is_in_the_way_gives_no_verdict(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "LATE_MS", -1.0)
    results = await run(scenario_of(tmp_path, "in-the-way", node.base, duration=0.5))
    assert results.verdict == "no verdict", seen(results)
    assert any(note.startswith("no verdict: a publisher's packet left") for note in results.notes), seen(results)


async def test_limit_is_printed_and_written_by_the_command(node: Node, tmp_path: Path) -> None:
    file, out = tmp_path / "told.yaml", tmp_path / "told.json"
    file.write_text(yaml.safe_dump(keys_of("told", node.base, duration=0.5)))
    words = ["--find-limit", "--most", "5", "--quiet", "--json", str(out), "--html", str(tmp_path / "told.html")]
    status, output = await command_line("run", str(file), *words)
    assert status in ANY_VERDICT and "Limit:" in output, output
    found = read_results(out).search
    assert found and found.vary == "subscribers" and found.steps[0].value == 4
    assert "<svg" in (tmp_path / "told.html").read_text()


async def test_two_targets_are_run_in_turn_and_compared(node: Node, tmp_path: Path) -> None:
    file, a, b = tmp_path / "both.yaml", tmp_path / "a.json", tmp_path / "b.json"
    file.write_text(yaml.safe_dump(keys_of("both", node.base, duration=0.5)))
    words = ["--set-b", "subscribers.audience.count=8", "--repetitions", "2", "--quiet", "--json", str(a), str(b)]
    status, output = await command_line("ab", str(file), *words)
    assert status in ANY_VERDICT and "joins.done" in output, output
    assert [len(read_results(side).repetitions) for side in (a, b)] == [2, 2]
    status, output = await command_line("compare", str(a), str(b))
    assert status == 0 and "packets.received" in output, output
    status, output = await command_line("compare", str(a), str(b), "--json")
    assert status == 0, output
    figures = json.loads(output)["figures"]
    assert figures["joins.done"]["ratio"] == pytest.approx(9 / 5) and figures["joins.done"]["word"] == "better"
    assert figures["packets.received"]["a"]["count"] == 2
