"""/healthz, /readyz and the container's health check look at the workers, not only at the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import Running, running

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "weir-health"


async def health_check(node: Running) -> tuple[int, str]:
    """Exit code and words of the container's health check."""
    environ = {"WEIR_HTTP__PORT": str(node.http._base_url.port)}

    def check() -> tuple[int, str]:
        done = subprocess.run([sys.executable, SCRIPT], env=environ, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    return await asyncio.to_thread(check)


async def test_a_worker_that_has_ended_is_told_by_every_probe() -> None:
    async with running(media={"workers": 2}) as node:
        assert [(await node.ask("GET", path))[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert (await health_check(node))[0] == 0
        await asyncio.to_thread(node.node.engine.workers[1].stop)
        for path, status in (("/healthz", "not ok"), ("/readyz", "not ready")):
            code, _, body = await node.ask("GET", path)
            assert code == 503
            assert body == {"status": status, "faults": ["Worker 1 has no thread."]}
        code, said = await health_check(node)
        assert code == 1 and "Worker 1 has no thread." in said


async def test_a_worker_that_stands_still_is_no_healthy_one(node: Running) -> None:
    (worker,) = node.node.engine.workers
    now = time.monotonic_ns()
    assert worker.fault(now + 3600 * 10**9) in [f"Worker 0 has stood still for {k} s." for k in (3599, 3600)]
    before = int(worker.counters.now)
    await until(lambda: int(worker.counters.now) > before)
    assert worker.fault(int(worker.counters.now)) is None


async def test_a_node_that_is_ending_is_alive_but_takes_no_joins() -> None:
    async with running() as node:
        node.node.ready = False
        assert (await node.ask("GET", "/healthz"))[0] == 200
        code, _, body = await node.ask("GET", "/readyz")
        assert code == 503 and "takes no joins" in body["faults"][0]
        assert (await health_check(node))[0] == 0


def test_a_port_that_nobody_listens_on_is_not_healthy() -> None:
    done = subprocess.run([sys.executable, SCRIPT], env={"WEIR_HTTP__PORT": "1"}, capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout
