"""Load tests of targets that are absent, refuse, babble, hang, fall silent or die, and of people who press Ctrl-C.

Every run ends by itself, long before its scenario's time, with results that say what was seen and by whom, and with
nothing left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from loadtest.results.schema import Results, read_results
from loadtest.run import watch
from loadtest.run.runner import Options, Run
from tests.e2e.conftest import MakeNode
from tests.e2e.loadtest_runs import (
    CAMERA,
    PEERS,
    aiortc_server,
    begin_command,
    children,
    compiled,
    end_of,
    figure,
    holdings,
    keys_of,
    nothing_left,
    run,
    scenario_of,
    seen,
    server,
)
from tests.e2e.node import HOST, Node, free_ports
from tests.e2e.waiting import eventually

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]
LONG = 600  # seconds that no test waits for


def told(results: Results) -> str:
    """Notes and faults in one text."""
    return " | ".join([results.broken_off, *results.notes] + [fault.what for fault in results.faults])


async def test_absent_target_is_told_at_once(tmp_path: Path) -> None:
    port, _ = free_ports()
    results = await run(scenario_of(tmp_path, "absent", f"http://{HOST}:{port}", duration=LONG), seconds=20)
    assert results.verdict == "failed" and results.duration < 20
    assert "nobody takes connections" in told(results)
    assert [item.held for item in results.expect] == [None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refuse", "503"),
        ("error", "500"),
        ("html", "text/html"),
        ("nonsense", "the answer can't be used"),
        ("reset", "disconnected"),
        ("redirect", "192.0.2.1"),
    ],
)
async def test_joins_that_a_server_answers_badly_are_faults_with_its_words(
    fault: str, words: str, tmp_path: Path
) -> None:
    async with aiortc_server("--fault", fault) as (url, _):
        scenario = scenario_of(tmp_path, f"bad-{fault}", url, duration=LONG)
        results = await run(scenario, seconds=40)
    assert results.verdict == "failed" and "nobody could join" in told(results), seen(results)
    assert figure(results, "joins.failed") == scenario.sessions() and figure(results, "joins.done") == 0
    assert all(words in fault.what for fault in results.faults), seen(results)
    assert {fault.group: fault.count for fault in results.faults} == {"hosts": 1, "audience": 4}
    assert {fault.room for fault in results.faults} == {f"bad-{fault}-1"}


async def test_server_that_never_answers_costs_the_timeout_of_a_join(tmp_path: Path) -> None:
    async with aiortc_server("--fault", "hang") as (url, _):
        results = await run(scenario_of(tmp_path, "hang", url, duration=LONG, joins={"timeout": 1.0}), seconds=30)
    assert results.verdict == "failed" and "no answer within 1 s" in told(results), seen(results)
    assert figure(results, "joins.failed") == 5


async def test_many_joins_that_fail_one_after_another_end_the_run(tmp_path: Path) -> None:
    crowd = [{"name": "audience", "count": 400}]
    async with aiortc_server("--fault", "refuse") as (url, _):
        scenario = scenario_of(
            tmp_path, "enough", url, duration=LONG, subscribers=crowd, joins={"parallel": 4, "rate": 1000}
        )
        results = await run(scenario, seconds=40)
    assert figure(results, "joins.attempted") < 100 and "the others were not tried" in told(results), seen(results)


@contextlib.asynccontextmanager
async def server_that_answers(candidate: str) -> AsyncIterator[str]:
    """A server whose answer to every offer names one candidate address."""

    async def answer(request: web.Request) -> web.Response:
        offer = await request.text()
        body = "".join(
            f"{line}\r\n"
            for line in (
                *(line for line in offer.splitlines() if not line.startswith(("a=candidate", "a=end-of", "a=ice"))),
                "a=ice-ufrag:abcd",
                "a=ice-pwd:abcdefghijklmnopqrstuvwx",
                f"a=candidate:1 1 udp 2130706431 {candidate} 9 typ host",
            )
        )
        body = body.replace("a=setup:actpass", "a=setup:passive").replace("a=sendonly", "a=recvonly")
        location = {"Location": f"{request.path}/1"}
        return web.Response(status=201, text=body, content_type="application/sdp", headers=location)

    async def leave(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/{kind}/{room}/{name}", answer)
    app.router.add_delete("/{kind}/{room}/{name}/1", leave)
    site = web.AppRunner(app)
    await site.setup()
    await web.TCPSite(site, HOST, 0).start()
    try:
        yield f"http://{HOST}:{site.addresses[0][1]}"
    finally:
        await site.cleanup()


async def test_address_that_is_not_loopback_is_not_sent_to(tmp_path: Path) -> None:
    async with server_that_answers("192.0.2.1") as url:
        scenario = scenario_of(
            tmp_path,
            "elsewhere",
            url,
            duration=LONG,
            subscribers=[],
            publishers=[{"name": "hosts", "media": "synthetic"}],
        )
        results = await asyncio.wait_for(Run(scenario, Options(command="test")).go(), 30)
    assert figure(results, "joins.failed") == 1
    assert "192.0.2.1 is not loopback (--allow-remote)" in told(results), seen(results)


async def test_target_that_is_not_loopback_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "remote.yaml"
    file.write_text(yaml.safe_dump(keys_of("remote", "http://192.0.2.1:7880", duration=LONG)))
    status, output = await end_of(await begin_command("run", str(file), "--quiet"), 40)
    assert status in (1, 2) and "192.0.2.1 is not loopback (--allow-remote)" in output, output


async def test_server_that_dies_ends_the_run_with_what_was_measured(own_node: MakeNode, tmp_path: Path) -> None:
    async with own_node() as node:
        scenario = scenario_of(
            tmp_path,
            "dying",
            node.base,
            duration=LONG,
            target={"pid": node.process.pid},
            subscribers=[{"name": "audience", "count": 3}, {"name": "others", "count": 2}],
        )
        points: list[float] = []

        def progress(figures: dict[str, float | None], phase: str, elapsed: float, total: float | None) -> None:
            if phase == "measuring" and (figures.get("packets.rate") or 0) > 0:
                points.append(elapsed)
            if len(points) == 3 and node.process.poll() is None:
                node.process.kill()
                node.process.wait()

        results = await run(scenario, seconds=60, progress=progress)
    story = seen(results)
    assert results.verdict == "failed" and f"process {node_pid(results)} is gone" in told(results), story
    assert figure(results, "joins.done") == 6 and figure(results, "packets.received", "others") > 0, story
    assert {fault.group: fault.count for fault in results.faults} == {"audience": 3, "others": 2}, story
    assert all("no media any more" in fault.what for fault in results.faults), story
    assert results.duration < 60 and len(results.series["time"]) >= 3


def node_pid(results: Results) -> int | None:
    """The process that was measured."""
    return results.target.pid


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time than a user's run has until silence ends it."""
    monkeypatch.setattr(watch, "STALLED", watch.SILENT + 1)


@pytest.mark.usefixtures("impatient")
async def test_server_that_takes_all_and_sends_nothing_has_no_joins(tmp_path: Path) -> None:
    async with server(PEERS / "throttled_forwarder.py", "0") as (url, _):
        results = await run(scenario_of(tmp_path, "nothing", url, duration=LONG), seconds=60)
    story = seen(results)
    assert results.verdict == "failed" and "no media came for anybody in" in told(results), story
    assert {fault.group: fault.count for fault in results.faults} == {"audience": 4}, story
    assert results.faults[0].what == "joined, but no media came", story
    assert figure(results, "joins.done") == 1 and figure(results, "joins.failed") == 4, story


@pytest.mark.usefixtures("impatient")
@pytest.mark.timeout(300, func_only=True)  # on a busy machine; nothing here depends on how long it takes
async def test_server_that_stops_sending_is_noticed(tmp_path: Path) -> None:
    async with aiortc_server("--stop-after", "50") as (url, _):
        scenario = scenario_of(
            tmp_path,
            "silent",
            url,
            duration=LONG,
            publishers=[{"name": "hosts", "media": "camera"}],
            media={"camera": CAMERA},
            joins={"rate": 200, "timeout": 60},
        )
        results = await run(scenario, seconds=200)
    story = seen(results)
    assert results.verdict == "failed" and "no media came for anybody in" in told(results), story
    assert {fault.group: fault.count for fault in results.faults} == {"audience": 4}, story
    assert "no media in the last" in results.faults[0].what and figure(results, "frames.completed") > 0, story


async def test_restarted_target_is_joined_again_by_everybody(tmp_path: Path) -> None:
    http, udp = free_ports()
    file = tmp_path / "node.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "http": {"host": HOST, "port": http},
                "media": {"host": HOST, "port": udp, "workers": 1},
                "limits": {"unlimited_loopback_joins": True},
                "auth": {"required": False},
                "log": {"level": "warning"},
            }
        )
    )
    scenario = scenario_of(
        tmp_path,
        "restart",
        f"http://{HOST}:{http}",
        duration=LONG,
        target={"command": [sys.executable, "-m", "mediaserver.cli", "serve", str(file)], "start_timeout": 60},
        publishers=[{"name": "hosts", "count": 2, "media": "synthetic"}],
        actions=[{"at": 1, "do": "restart-target"}],
    )
    everybody = 2 * scenario.sessions()

    def progress(figures: dict[str, float | None], phase: str, elapsed: float, total: float | None) -> None:
        if figures.get("joins.done") == everybody and figures.get("packets.rate"):
            one.stop()  # they are all back, and media comes

    with nothing_left():
        one = Run(scenario, Options(command="test", progress=progress))
        results = await asyncio.wait_for(one.go(), 80)
    story = seen(results)
    assert figure(results, "joins.done") == everybody and figure(results, "joins.failed") == 0, story
    ours = [note for note in results.notes if not note.startswith("other processes")]
    assert not ours and not results.faults, story
    assert figure(results, "freezes.count") == 0, "new sessions, new streams"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_run_ends_with_a_report(number: signal.Signals, node: Node, tmp_path: Path) -> None:
    name = f"interrupted-{number.name.lower()}"
    file, report = tmp_path / f"{name}.yaml", tmp_path / "results.json"
    file.write_text(yaml.safe_dump(keys_of(name, node.base, duration=LONG)))
    process = await begin_command("run", str(file), "--quiet", "--json", str(report))
    with killed_at_last(process):
        await eventually(lambda: members(node, f"{name}-1"), lambda count: count == 5, "five participants", seconds=40)
        process.send_signal(number)
        status, output = await end_of(process, 30)
    assert status == 130, output
    results = read_results(report)
    assert results.verdict == "interrupted" and figure(results, "joins.attempted") == 5
    assert figure(results, "joins.failed") == 0, seen(results)
    assert "interrupted" in output.lower()
    await eventually(lambda: members(node, f"{name}-1"), lambda count: count == 0, "an empty room")


async def test_interrupt_while_a_server_hangs_ends_at_once(tmp_path: Path) -> None:
    async with aiortc_server("--fault", "hang") as (url, server):
        file, report = tmp_path / "hanging.yaml", tmp_path / "results.json"
        file.write_text(yaml.safe_dump(keys_of("hanging", url, duration=LONG, joins={"parallel": 2, "timeout": 300})))
        process = await begin_command("run", str(file), "--quiet", "--json", str(report))
        with killed_at_last(process):
            await eventually(lambda: connections(server.pid), lambda count: count >= 1, "a request", seconds=40)
            process.send_signal(signal.SIGINT)
            status, output = await end_of(process, 40)
    assert status == 130, output
    assert read_results(report).verdict == "interrupted"


async def test_started_target_does_not_outlive_an_interrupted_run(tmp_path: Path) -> None:
    port, _ = free_ports()
    file = tmp_path / "started.yaml"
    command = [sys.executable, "-m", "http.server", str(port), "--bind", HOST]
    keys = keys_of("started", f"http://{HOST}:{port}", duration=LONG, target={"command": command})
    file.write_text(yaml.safe_dump(keys))
    before = set(children(os.getpid()))
    status, output = await end_of(await begin_command("run", str(file), "--quiet", "--json", str(tmp_path / "r.json")))
    assert status == 1 and "501" in output, output
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, port)) != 0, "the target still listens"
    assert set(children(os.getpid())) == before
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "failed"


async def test_run_that_is_cancelled_leaves_nothing(node: Node, tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, "cancelled", node.base, duration=LONG)
    assert await members(node, "cancelled-1") == 0  # opens the connection that asks below
    with nothing_left():
        task = asyncio.create_task(Run(scenario, Options(command="test")).go())
        await eventually(lambda: members(node, "cancelled-1"), lambda count: count == 5, "five participants")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await eventually(lambda: members(node, "cancelled-1"), lambda count: count == 0, "an empty room")
    assert holdings()["thread clients"] == 0


async def members(node: Node, room: str) -> int:
    """How many publishers and viewers a room of the node has."""
    publishers = (await node.rooms()).get(room, {}).get("participants", [])
    return sum(1 + int(one["viewers"]) for one in publishers)


async def connections(pid: int) -> int:
    """How many TCP connections a process has, those that listen left out."""
    established = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    inodes = {line.split()[9] for line in established if line.split()[3] == "01"}
    found = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    return sum(f"socket:[{inode}]" in found for inode in inodes)


@contextlib.contextmanager
def killed_at_last(process: asyncio.subprocess.Process):  # type: ignore[no-untyped-def]
    """No process stays, however a test ends."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
