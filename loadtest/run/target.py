"""The server under test as a process of this machine: started when the scenario says so, and measured.

A server may be several processes; those that the named one has started count with it, and end with it when it is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from loadtest.measure import cpu_seconds, memory_of, threads_of
from loadtest.scenario.schema import Target as Settings
from loadtest.transport.addresses import may_send, why_not

STOP_TIMEOUT = 8.0  # seconds between SIGTERM and SIGKILL
POLL = 0.05
CONNECT_TIMEOUT = 2.0
TAIL = 1500  # bytes of the server's output that a message repeats


class TargetError(Exception):
    """The target can't be started or reached; the message says why."""


@dataclass(frozen=True)
class Usage:
    """What the target's processes have used until `at` (s): CPU seconds, threads, resident bytes."""

    at: float
    cpu: float
    threads: int
    resident: int


def family_of(pid: int) -> list[int]:
    """A process and all that it has started, as far as they live."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                todo += [int(child) for child in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
    return found


def usage_of(pid: int) -> Usage | None:
    """What a process and its children use; None when it is gone or can't be read."""
    return Meter().usage(pid)


class Meter:
    """Adds up what a server uses, also of its processes that have ended since they were seen."""

    def __init__(self) -> None:
        self._cpu: dict[int, float] = {}  # of every process ever seen

    def usage(self, pid: int) -> Usage | None:
        """What a process and its children use now, and have used; None when it is gone or can't be read."""
        threads = resident = 0
        for one in family_of(pid):
            try:
                self._cpu[one] = cpu_seconds(one)
                threads, resident = threads + threads_of(one), resident + memory_of(one).resident
            except OSError:
                if one == pid:
                    return None
        return Usage(time.monotonic(), sum(self._cpu.values()), threads, resident)


class Target:
    """The target of one run. `pid` is None for a server elsewhere, of which nothing can be measured."""

    def __init__(self, settings: Settings, cores: set[int] | None = None, allow_remote: bool = False) -> None:
        self.settings, self.pid = settings, settings.pid
        self._cores, self._allow_remote = cores, allow_remote
        self._meter = Meter()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        parts = urlsplit(settings.url)
        self.address = ""  # that answered last, of those that the name has
        self._address = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    async def start(self) -> None:
        """Start the server if the scenario says how, and wait until it takes connections.

        TargetError: it can't be started or does not answer. ValueError: its address is not allowed.
        """
        if self.settings.pid is not None and usage_of(self.settings.pid) is None:
            raise TargetError(f"target.pid: there is no process {self.settings.pid} that can be measured")
        if self.settings.command:
            if await self._answers():
                raise TargetError(f"something answers at {self.settings.url} already: target.command was not started")
            self._launch(self.settings.command)
        until = time.monotonic() + (self.settings.start_timeout if self._process else 0)
        while not await self._answers():
            if self._process and self._process.poll() is not None:
                code, said = self._process.returncode, self.tail()
                raise TargetError(f"the target ended with {code} before it took connections: {said}")
            if time.monotonic() >= until:
                raise TargetError(f"nobody takes connections at {self.settings.url}: {self.tail()}".rstrip(": "))
            await asyncio.sleep(POLL)

    def _launch(self, command: list[str]) -> None:
        self._output = self._output or tempfile.TemporaryFile()
        ours = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, self._cores or ours)  # a child inherits it
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: Ctrl-C is for us, and nothing of it is left over
            )
        except OSError as error:
            raise TargetError(f"target.command: {command[0]}: {error.strerror}") from error
        finally:
            os.sched_setaffinity(0, ours)
        self.pid = self._process.pid

    async def _answers(self) -> bool:
        """Whether somebody takes connections. TargetError: the name is unknown. ValueError: we may not ask there."""
        for address in await self._addresses():
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(*address), CONNECT_TIMEOUT)
            except (OSError, TimeoutError):
                continue
            self.address = address[0]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return True
        return False

    async def _addresses(self) -> list[tuple[str, int]]:
        host, port = self._address
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetError(f"{host}: {error.strerror or error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if may_send(address, self._allow_remote)]
        if not allowed:
            reasons = ", ".join(why_not(address, self._allow_remote) for address in addresses)
            raise ValueError(f"the target {self.settings.url}: {reasons}")
        return [(address, port) for address in allowed]

    def usage(self) -> Usage | None:
        """What it uses now, and has used since we began to look."""
        return self._meter.usage(self.pid) if self.pid is not None else None

    @property
    def dead(self) -> str:
        """How it ended, in a sentence; empty while it lives or nobody knows."""
        if self._process is not None:
            code = self._process.poll()
            return "" if code is None else f"the target's process ended with {code}"
        if self.pid is not None and not Path(f"/proc/{self.pid}").exists():
            return f"the target's process {self.pid} is gone"
        return ""

    def tail(self) -> str:
        """The end of what a started server printed, in one line."""
        if self._output is None:
            return ""
        file = self._output.fileno()  # whose offset is the server's too: it must not move
        text = os.pread(file, TAIL, max(os.fstat(file).st_size - TAIL, 0)).decode(errors="replace")
        return " | ".join(line.strip() for line in text.splitlines() if line.strip())

    async def restart(self) -> None:
        """Kill a started server and start it again. TargetError."""
        assert self._process is not None and self.settings.command
        self.usage()
        self._kill()
        await self.start()

    async def stop(self) -> None:
        """End a server that we started, at the latest after STOP_TIMEOUT. Again: nothing."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(self._process.wait, STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            if self._output is not None:
                self._output.close()
                self._output = None

    def _kill(self) -> None:
        """Nothing of a started server lives on."""
        if self._process is None:
            return
        pid, reaped = self._process.pid, self._process.poll() is not None
        if not (reaped and Path(f"/proc/{pid}").exists()):  # else the number is another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._process.wait()
