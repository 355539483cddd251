"""Load tests as end-to-end tests run them: against servers that are really there, and with a look at what is left.

Nothing here depends on how fast the machine is: runs last seconds, and what is asserted are counts and shares.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.engine.engine import ClientEngine
from loadtest.results.schema import Results
from loadtest.run.reels import Reels
from loadtest.run.runner import Options, Run
from loadtest.scenario.load import load_scenario
from loadtest.scenario.schema import Scenario
from tests.e2e.node import Node

PEERS = Path(__file__).parents[1] / "peers"
READY = 60.0  # seconds until a server made of Python has started
SYNTHETIC = {"video": {"codec": "synthetic", "framerate": 25, "packets_per_frame": 4, "packet_size": 800}}
CAMERA = {"video": {"codec": "vp8", "width": 320, "height": 180, "framerate": 25, "bitrate": 300}, "audio": {}}
SIMULCAST = {"video": {"codec": "vp8", "width": 640, "height": 360, "framerate": 25, "bitrate": 600, "layers": 3}}
Keys = dict[str, Any]


@pytest.fixture(scope="session")
def compiled() -> None:
    """The kernels of the client engine and of clips are in the cache: compiling them is no part of a test's time."""
    engine = ClientEngine(1, 1)
    engine.compile()
    engine.stop()
    groups = [{"name": media, "media": media} for media in ("synthetic", "camera")]
    Reels(Scenario.model_validate(keys_of("compiled", "http://127.0.0.1:1", publishers=groups))).prepare()


def scenario_of(folder: Path, name: str, url: str, **keys: Any) -> Scenario:
    """A small scenario, checked as a file is: one publisher of synthetic media and four subscribers, unless told."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(keys_of(name, url, **keys)))
    return load_scenario(file)


def keys_of(name: str, url: str, **keys: Any) -> Keys:
    """What `scenario_of` writes into its file."""
    base: Keys = {
        "name": name,
        "seed": 7,
        "target": {"url": url},
        "duration": 3,
        "joins": {"rate": 200},
        "media": {"synthetic": SYNTHETIC, "camera": CAMERA, "simulcast": SIMULCAST},
        "publishers": [{"name": "hosts", "media": "synthetic"}],
        "subscribers": [{"name": "audience", "count": 4}],
        "expect": {"joins.failed": "== 0"},
    }
    target = {**base["target"], **keys.pop("target", {})}
    return base | keys | {"target": target}


def shipped(name: str, node: Node) -> Scenario:
    """A shipped scenario with the node as its target, whose process is measured."""
    assert node.process is not None
    return load_scenario(name, [f"target.url={node.base}", f"target.pid={node.process.pid}"])


async def run(scenario: Scenario, seconds: float = 60.0, **options: Any) -> Results:
    """Run a scenario in this process, within a bound, and see to it that nothing of it is left over."""
    with nothing_left():
        return await asyncio.wait_for(Run(scenario, Options(command="test", **options)).go(), seconds)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fail when there are more sockets, other descriptors, children, threads or tasks behind than before."""
    before = holdings()
    yield
    more = holdings() - before
    assert not more, f"left over: {dict(more)}"


def holdings() -> Counter[str]:
    """What this process holds, by kind."""
    held: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            held[os.readlink(f"/proc/self/fd/{number}").partition(":")[0]] += 1
    held["children"] = len(children(os.getpid()))
    for thread in threading.enumerate():
        held[f"thread {thread.name}"] += not thread.name.startswith("asyncio_")  # those of to_thread are kept for more
    with contextlib.suppress(RuntimeError):
        held["tasks"] = len(asyncio.all_tasks())
    return held


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are still there, zombies included."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


@contextlib.asynccontextmanager
async def server(script: Path, *arguments: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A server of tests/peers as a process of its own: its URL and the process, which is ended at the end."""
    command = [sys.executable, str(script), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY)
        yield line.decode().split()[1], process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await end_of(process, 10)


def aiortc_server(*arguments: str) -> contextlib.AbstractAsyncContextManager[tuple[str, asyncio.subprocess.Process]]:
    """The second server, which shares nothing with the node."""
    return server(PEERS / "aiortc_server.py", "0", *arguments)


async def command_line(*arguments: str, seconds: float = 60.0) -> tuple[int, str]:
    """`python -m loadtest …` to its end: exit status, and all that it printed."""
    return await end_of(await begin_command(*arguments), seconds)


async def begin_command(*arguments: str) -> asyncio.subprocess.Process:
    """`python -m loadtest …` as a process."""
    command = [sys.executable, "-m", "loadtest", *arguments]
    out, err = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    return await asyncio.create_subprocess_exec(*command, stdout=out, stderr=err, env=os.environ | {"COLUMNS": "200"})


async def end_of(process: asyncio.subprocess.Process, seconds: float = 60.0) -> tuple[int, str]:
    """Exit status and output of a process; one that does not end in time is killed, and fails the test."""
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode()


def seen(results: Results) -> str:
    """What went wrong, for messages."""
    faults = [f"{fault.count} × {fault.group} in {fault.room}: {fault.what}" for fault in results.faults]
    return f"{results.verdict}; {results.broken_off}; {results.notes}; {faults}; {results.figures}"


def figure(results: Results, name: str, group: str | None = None) -> float:
    """A figure that must be there."""
    figures = results.figures if group is None else results.groups[group]
    value = figures.get(name)
    assert value is not None, f"no {name}: {seen(results)}"
    return value


def not_held(results: Results, besides: Sequence[str] = ()) -> list[str]:
    """The expectations that were not held, in words."""
    return [f"{e.figure} {e.limit}: {e.value}" for e in results.expect if not e.held and e.figure not in besides]
