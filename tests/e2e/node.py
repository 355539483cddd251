"""A node as its operator sees it: a process started from a YAML file, asked over HTTP, ended by a signal.

Nothing of the node is imported here. `Node` is an asynchronous context; leaving it ends the process, by its pid and
with SIGKILL when nothing else helped, so that no test leaves a node behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

HOST = "127.0.0.1"
READY = 240.0  # seconds to /readyz: the first start on a machine compiles, and may have little of it
STOP = 30.0  # seconds from SIGTERM to the exit; that it takes at most 5 where nobody else is, the benchmark shows
PATIENT = 60.0  # seconds for the same where the promise is not what is tested
KEY, SECRET = "e2e", "a-secret-of-the-end-to-end-tests-only"
Json = dict[str, Any]


def free_ports(count: int = 1) -> tuple[int, int]:
    """A TCP port, and the first of `count` UDP ports in a row, that nobody has now."""
    with socket.socket() as tcp:
        tcp.bind((HOST, 0))
        port = int(tcp.getsockname()[1])
    while True:
        held = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(count)]
        try:
            held[0].bind((HOST, 0))
            first = int(held[0].getsockname()[1])
            for k, sock in enumerate(held[1:], 1):
                sock.bind((HOST, first + k))
            return port, first
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()


def merge(base: Json, changes: Json) -> Json:
    """`base` with `changes`, section by section."""
    sections = {
        key: {**base.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    return base | sections


class Samples:
    """One reading of /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over the samples that have these labels. KeyError when there is no such metric."""
        found = [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        if not found:
            raise KeyError(f"{name}{labels}: not among {sorted({s.name for s in self.samples})}")
        return float(sum(s.value for s in found))

    def each(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        found: dict[str, float] = {}
        for sample in self.samples:
            if sample.name == name:
                found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
        return found


class Node:
    """A running node; `changes` are laid over a configuration for loopback without tokens."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        workers = int(changes.get("media", {}).get("workers", 1))
        self.http_port, self.udp_port = free_ports(workers)
        base: Json = {
            "node": {"name": "e2e"},
            "http": {"host": HOST, "port": self.http_port},
            "media": {"host": HOST, "port": self.udp_port, "advertised": [HOST]},
            "limits": {"unlimited_loopback_joins": True, "transports": 256, "handshake_timeout": 60.0},
            "auth": {"required": False, "keys": {KEY: SECRET}},
            "log": {"level": "info", "format": "json"},
        }
        self.configuration = merge(base, changes)
        self.base = f"http://{HOST}:{self.http_port}"
        self.environ: dict[str, str] = {}  # variables of the process, beside ours
        self.process: subprocess.Popen[bytes] | None = None
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Node:
        self.http = aiohttp.ClientSession(self.base, timeout=aiohttp.ClientTimeout(total=10))
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def start(self) -> None:
        """Write the file, start the process, wait until it says that it is ready."""
        file = self.folder / "node.yaml"
        file.write_text(yaml.safe_dump(self.configuration))
        arguments = [sys.executable, "-m", "mediaserver.cli", "serve", str(file)]
        with (self.folder / "log.json").open("wb") as out, (self.folder / "errors.txt").open("wb") as errors:
            self.process = subprocess.Popen(arguments, stdout=out, stderr=errors, env=os.environ | self.environ)
        end = time.monotonic() + READY
        while not await self.ready():
            assert self.process.poll() is None, f"the node ended with {self.process.returncode}: {self.tail()}"
            assert time.monotonic() < end, f"not ready within {READY:g} s: {self.tail()}"
            await asyncio.sleep(0.05)

    async def ready(self) -> bool:
        """Whether /readyz says 200."""
        try:
            async with self.http.get("/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self, within: float = STOP) -> float:
        """SIGTERM; returns the seconds until the exit. AssertionError when it takes too long or the code is not 0."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            assert time.monotonic() - begun < within, f"still there {within:g} s after SIGTERM: {self.tail()}"
            await asyncio.sleep(0.01)
        assert self.process.returncode == 0, f"exit code {self.process.returncode}: {self.tail()}"
        return time.monotonic() - begun

    async def close(self) -> None:
        """End the process whatever happens."""
        await self.http.close()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        end = time.monotonic() + STOP
        while self.process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def metrics(self) -> Samples:
        """What /metrics says now."""
        async with self.http.get("/metrics") as response:
            assert response.status == 200
            return Samples(await response.text())

    async def rooms(self) -> dict[str, Json]:
        """What /api/rooms says now, by room name."""
        async with self.http.get("/api/rooms") as response:
            assert response.status == 200, await response.text()
            return {room["name"]: room for room in (await response.json())["rooms"]}

    async def participant(self, room: str, identity: str) -> Json | None:
        """A participant of a room as /api/rooms lists it."""
        found = (await self.rooms()).get(room, {}).get("participants", [])
        return next((p for p in found if p["identity"] == identity), None)

    def log(self) -> list[Json]:
        """The log lines so far; a line that is being written is left out."""
        lines = (self.folder / "log.json").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def errors(self) -> list[Json]:
        """The log lines that report a fault of the node."""
        return [line for line in self.log() if line["level"] in ("error", "critical")]

    def tail(self) -> str:
        """The end of what the process wrote, for messages."""
        texts = [(self.folder / name).read_text(errors="replace")[-2000:] for name in ("log.json", "errors.txt")]
        return "\n".join(texts)
