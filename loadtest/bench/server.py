"""The process under test: started on its own core, asked for readiness and metrics, ended by its pid whatever happens.

It is a black box behind a command line, HTTP and UDP: `python -m mediaserver.cli serve FILE`, or the yardstick.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

import yaml

from loadtest.measure import cpu_seconds

HOST = "127.0.0.1"
READY_TIMEOUT = 300.0  # seconds; the first start compiles
STOP_TIMEOUT = 8.0
POLL = 0.01


def free_ports() -> tuple[int, int]:
    """A TCP and a UDP port that nobody has now."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((HOST, 0))
        udp.bind((HOST, 0))
        return int(tcp.getsockname()[1]), int(udp.getsockname()[1])


@functools.cache
def split_cores() -> tuple[set[int], set[int]]:
    """A core for the server and the others for the clients; with one core both have that."""
    cores = sorted(os.sched_getaffinity(0))  # as it was at first: afterwards we are pinned ourselves
    return {cores[0]}, set(cores[1:2]) or {cores[0]}


def node_configuration(http_port: int, udp_port: int, transports: int) -> dict[str, object]:
    """A node for benchmarks: loopback, no tokens, no limits on joins, room for `transports` peers."""
    return {
        "http": {"host": HOST, "port": http_port},
        "media": {"host": HOST, "port": udp_port, "workers": 1},
        "limits": {
            "transports": transports,
            "subscriptions": 2 * transports,
            "handshakes": 1024,
            "participants_per_room": transports,
            "unlimited_loopback_joins": True,
        },
        "auth": {"required": False},
        "log": {"level": "warning"},
    }


class Server:
    """A running server; a context. `seconds_to_ready` is from the start of the process to its first 200 on /readyz."""

    def __init__(self, arguments: list[str], http_port: int, udp_port: int, cores: set[int], folder: str) -> None:
        self.base, self.udp_port, self._folder = f"http://{HOST}:{http_port}", udp_port, folder
        self._output = open(Path(folder) / "server.log", "wb")  # noqa: SIM115
        ours = os.sched_getaffinity(0)
        begun = time.monotonic()
        os.sched_setaffinity(0, cores)  # a child inherits it
        try:
            self.process = subprocess.Popen(arguments, stdout=self._output, stderr=subprocess.STDOUT)
        finally:
            os.sched_setaffinity(0, ours)
        try:
            self._wait(begun)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.monotonic() - begun

    @property
    def pid(self) -> int:
        """The process to measure."""
        return self.process.pid

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return cpu_seconds(self.pid)

    def get(self, path: str) -> str:
        """The body of a GET. OSError when it is not answered with 200."""
        with urllib.request.urlopen(self.base + path, timeout=5) as response:
            return str(response.read().decode())

    def tail(self) -> str:
        """The end of what the process printed."""
        return (Path(self._folder) / "server.log").read_text(errors="replace")[-3000:]

    def stop(self) -> float:
        """SIGTERM, then SIGKILL after STOP_TIMEOUT; returns the seconds it took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
        return time.monotonic() - begun

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:  # else what it printed may say why
            shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, begun: float) -> None:
        while time.monotonic() - begun < READY_TIMEOUT:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.get("/readyz")
                return
            except (OSError, urllib.error.URLError):
                time.sleep(POLL)
        raise RuntimeError(f"the server was not ready within {READY_TIMEOUT:.0f} s:\n{self.tail()}")


def start_node(cores: set[int], transports: int = 2048) -> Server:
    """A node with a configuration of its own in a temporary folder."""
    http_port, udp_port = free_ports()
    folder = tempfile.mkdtemp(prefix="weir-bench-")
    file = Path(folder) / "bench.yaml"
    file.write_text(yaml.safe_dump(node_configuration(http_port, udp_port, transports)))
    arguments = [sys.executable, "-m", "mediaserver.cli", "serve", str(file)]
    return Server(arguments, http_port, udp_port, cores, folder)


def start_yardstick(cores: set[int]) -> Server:
    """The pure Python forwarder."""
    http_port, udp_port = free_ports()
    arguments = [sys.executable, "-m", "loadtest.bench.yardstick", str(http_port), str(udp_port)]
    return Server(arguments, http_port, udp_port, cores, tempfile.mkdtemp(prefix="weir-yardstick-"))
