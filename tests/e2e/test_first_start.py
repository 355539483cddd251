"""A first start: another process compiles, the node loads; and what happens when that is disturbed.

Most tests take a copy of the kernel cache that lacks the worker's loop alone: compiling that takes seconds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mediacodecs.kernel import store
from mediaserver.engine.warm import entries
from tests.e2e.aiortc_peer import Client
from tests.e2e.conftest import MakeNode
from tests.e2e.node import HOST, Node, free_ports
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
MIB = 1024  # kB, as /proc has it
COMPILER = "mediaserver.compiling"  # in the command line of the process that compiles


def files() -> list[str]:
    """The cache's files of what a node calls; the worker's loop is the first."""
    return [kernel._cache.file_of(signature, kernel.targetctx) for kernel, signature in entries()]


@pytest.fixture
def cache(node: Node, tmp_path: Path) -> Path:
    """A copy of the kernel cache without the worker's loop; the shared node has filled the cache."""
    folder = store().folder
    assert folder is not None
    root = tmp_path / "cache"
    shutil.copytree(folder, root / folder.name)
    (root / folder.name / files()[0]).unlink()
    for one in (root, root / folder.name):
        one.chmod(0o700)
    return root


def status(pid: int, field: str) -> int:
    """A number of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} of process {pid}")


def pid_of(node: Node) -> int:
    assert node.process is not None
    return node.process.pid


def compilers(parent: int) -> list[int]:
    """The processes that compile for a node."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(pid) for pid in children if COMPILER in Path(f"/proc/{pid}/cmdline").read_text()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return status(pid, "PPid") >= 0 and "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False


async def test_memory_after_a_first_start_is_that_of_every_other(own_node: MakeNode, cache: Path) -> None:
    peaks = []
    for _ in range(2):
        node = own_node()
        node.environ["WEIR_CACHE_DIR"] = str(cache)
        async with node:
            peaks.append(status(pid_of(node), "VmHWM"))
            assert status(pid_of(node), "VmRSS") < peaks[-1] - 20 * MIB, "the compiler's code is given back"
            assert not compilers(pid_of(node))
            await node.stop()
            compiled = "Compiling kernels: " in (node.folder / "errors.txt").read_text()
            assert compiled == (len(peaks) == 1) and not node.errors()
    assert peaks[0] < peaks[1] + 10 * MIB, peaks


async def test_nothing_is_compiled_after_the_start(own_node: MakeNode, cache: Path, room: str) -> None:
    """All that a node calls is in `entries`, so the first join waits for no compiler."""
    folder = store().folder
    assert folder is not None
    needed = set(files())
    for file in cache.rglob("*.kernel"):
        file.unlink()
    for name in needed:
        shutil.copy(folder / name, cache / folder.name / name)
    node = own_node()
    node.environ["WEIR_CACHE_DIR"] = str(cache)
    async with (
        node,
        Client(node.base, f"/whip/{room}/alice") as publisher,
        Client(node.base, f"/whep/{room}/alice") as viewer,
    ):
        await publisher.publish()
        await viewer.watch()
        await eventually(node.metrics, lambda m: m.total("weir_packets_sent_total") > 20, "packets", seconds=60)
        await node.stop()
    assert {file.name for file in cache.rglob("*.kernel")} == needed


async def test_a_compiler_that_is_killed_is_told_and_the_node_compiles_itself(own_node: MakeNode, cache: Path) -> None:
    node = own_node()
    node.environ["WEIR_CACHE_DIR"] = str(cache)

    async def kill() -> None:
        while node.process is None or not (found := compilers(node.process.pid)):
            await asyncio.sleep(0.005)
        os.kill(found[0], signal.SIGKILL)

    killing = asyncio.create_task(kill())
    async with node:
        await killing
        (line,) = [line for line in node.log() if line["level"] == "warning" and line["message"] != "stood still"]
        assert "ended by SIGKILL" in line["message"] and "compiles them now" in line["message"]
        await node.stop()
    assert len(list(cache.rglob(files()[0]))) == 1, "what it compiled is kept"


@contextmanager
def starting(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A node whose cache is empty, and the file of what it says."""
    http, udp = free_ports()
    file = folder / "node.yaml"
    file.write_text(
        yaml.safe_dump({"http": {"host": HOST, "port": http}, "media": {"port": udp}, "auth": {"required": False}})
    )
    command = [sys.executable, "-m", "mediaserver.cli", "serve", str(file)]
    environ = os.environ | {"WEIR_CACHE_DIR": str(folder / "empty")}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environ)
    try:
        yield process, folder / "said"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [False, True], ids=["one process", "a terminal's group"])
async def test_a_signal_ends_a_first_start_at_once_and_quietly(
    tmp_path: Path, number: signal.Signals, whole_group: bool
) -> None:
    with starting(tmp_path) as (process, said):
        compiler: list[int] = []

        async def text() -> str:
            compiler[:] = compilers(process.pid) or compiler
            return said.read_text()

        await eventually(text, lambda text: "Compiling kernels: " in text, "its first line", seconds=120, every=0.01)
        assert compiler and alive(compiler[0])
        for pid in [*compiler, process.pid] if whole_group else [process.pid]:
            os.kill(pid, number)
        begun = time.monotonic()
        assert await asyncio.to_thread(process.wait, 60) == 128 + number
        assert time.monotonic() - begun < 20, "a whole compilation would take longer"

        async def left() -> bool:
            return alive(compiler[0])

        await eventually(left, lambda left: not left, "the end of the compiler")
        lines = said.read_text().splitlines()
        assert all(line.startswith("Compiling kernels: ") for line in lines), lines
