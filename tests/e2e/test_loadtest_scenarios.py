"""The shipped scenarios in short, against a real node and against a server that shares nothing with it.

Whether a scenario works is shown, not how fast anything is: everybody joins, media comes, what networks lose is
repaired, pictures are decoded and their numbers read back, and nothing is left over.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.results.schema import from_json, to_json
from loadtest.scenario.load import shipped as names
from loadtest.scenario.schema import Scenario
from loadtest.scenario.short import shorten
from tests.e2e.loadtest_runs import CAMERA, aiortc_server, compiled, figure, not_held, run, scenario_of, seen, shipped
from tests.e2e.node import Node

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]
SECONDS = 2.5


def has_video(scenario: Scenario) -> bool:
    """Whether anybody sends pictures."""
    return any(scenario.media[group.media].video for group in scenario.publishers)


@pytest.mark.parametrize("name", names())
async def test_shipped_scenario_works_against_a_node(name: str, node: Node) -> None:
    scenario = shorten(shipped(name, node), duration=SECONDS)
    results = await run(scenario)
    story = seen(results)
    assert not not_held(results), story
    busy = "no verdict", "other processes", "found no room on the way to the decoders"  # the machine's, not the node's
    ours = [note for note in results.notes if not any(words in note for words in busy)]
    assert not results.faults and not ours, story
    assert figure(results, "joins.failed") == 0 and figure(results, "joins.done") >= scenario.sessions(), story
    assert figure(results, "latency.p50") > 0 and figure(results, "join.packet.p95") > 0
    assert figure(results, "target.cpu") > 0 and figure(results, "target.memory") > 1
    for group in scenario.subscribers:
        assert figure(results, "packets.received", group.name) > 0, story
    if has_video(scenario):
        assert figure(results, "frames.completed") > 0 and figure(results, "join.frame.p95") > 0
    wanted = sum(group.decode for group in scenario.subscribers)
    if wanted:
        assert figure(results, "decode.clients") >= 1 and figure(results, "decode.frames") > 0, story
        assert figure(results, "decode.errors") == 0 and figure(results, "decode.unread") == 0, story
    assert from_json(to_json(results)).figures == results.figures


@pytest.mark.parametrize("media", ["synthetic", "camera"])
async def test_nothing_is_lost_on_a_good_network(media: str, node: Node, tmp_path: Path) -> None:
    scenario = scenario_of(
        tmp_path, f"whole-{media}", node.base, duration=2, publishers=[{"name": "hosts", "count": 2, "media": media}]
    )
    results = await run(scenario)
    assert figure(results, "loss.after") == 0 and figure(results, "frames.missed") == 0, seen(results)
    assert not results.faults, seen(results)


@pytest.mark.parametrize("rooms", [1, 2])
async def test_pictures_are_read_back_from_another_server_that_encodes_anew(rooms: int, tmp_path: Path) -> None:
    async with aiortc_server() as (url, process):
        scenario = scenario_of(
            tmp_path,
            f"other-{rooms}",
            url,
            rooms=rooms,
            target={"pid": process.pid},
            media={"camera": CAMERA},
            publishers=[{"name": "hosts", "media": "camera"}],
            subscribers=[{"name": "audience", "count": 2, "decode": 2}],
            expect={"joins.failed": "== 0", "decode.errors": "== 0", "decode.unread": "== 0"},
        )
        results = await run(scenario)
    story = seen(results)
    assert not not_held(results) and not results.faults, story
    assert figure(results, "joins.done") == scenario.sessions(), story
    assert figure(results, "frames.completed") > 0 and figure(results, "decode.frames") > 0, story
    assert figure(results, "target.cpu") > 0
