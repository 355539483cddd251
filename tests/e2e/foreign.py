"""A client in a program of its own: another language, another Python, another library.

It tells what it sees in lines of JSON on its output, and leaves its session when it gets SIGTERM.

Each line is an object whose `event` says what it is: `version` (text), `answered`, `refused` (status, text), `state`
(state), `figures` (`video` and `audio`: what was sent or received so far). Other lines are kept for messages.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from tests.e2e.waiting import eventually

LEAVE = 10.0  # seconds from SIGTERM to the exit
Json = dict[str, Any]


class Foreign:
    """A running program; an asynchronous context."""

    def __init__(self, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.arguments, self.environ = arguments, environ or {}
        self.events: dict[str, Json] = {}  # the last of each kind
        self.states: list[str] = []
        self.said: deque[str] = deque(maxlen=60)

    async def __aenter__(self) -> Foreign:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self.arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=os.environ | self.environ, limit=1 << 24
        )
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), LEAVE)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            try:
                told = json.loads(text)
            except ValueError:
                told = None
            if not isinstance(told, dict) or "event" not in told:
                self.said.append(text)
                continue
            self.events[told["event"]] = told
            if told["event"] == "state":
                self.states.append(told["state"])

    @property
    def version(self) -> str:
        """What the program says it is."""
        return str(self.events.get("version", {}).get("text", "?"))

    def figure(self, kind: str, name: str) -> int:
        """A figure of the last reading; 0 before there is one."""
        return int(self.events.get("figures", {}).get(kind, {}).get(name) or 0)

    async def until(self, accept: Callable[[Foreign], object], what: str, *, seconds: float = 30) -> None:
        """Wait for what the program tells. AssertionError with its last words: it ended, was refused, or is late."""

        async def told() -> str:
            refused = self.events.get("refused")
            assert refused is None, f"{what}: refused with {refused['status']}: {refused['text']}"
            assert self.process.returncode is None, f"{what}: ended with {self.process.returncode}: {self.tail()}"
            return "" if accept(self) else f"{self.events.get('figures')} {self.states} {self.tail()}"

        await eventually(told, lambda text: not text, what, seconds=seconds)

    async def connected(self) -> None:
        """Wait for ICE and DTLS."""
        await self.until(lambda it: "connected" in it.states, f"{self.name} connects")

    async def received(self, *, frames: int = 30, sounds: int = 50, seconds: float = 30) -> None:
        """Wait for so many pictures and packets of sound more than now."""
        before = self.figure("video", "frames"), self.figure("audio", "packets")
        await self.until(
            lambda it: (
                it.figure("video", "frames") >= before[0] + frames
                and it.figure("audio", "packets") >= before[1] + sounds
            ),
            f"{self.name} receives {frames} pictures and {sounds} packets of sound more than {before}",
            seconds=seconds,
        )

    @property
    def name(self) -> str:
        """The program, for messages."""
        return next((a.rsplit("/", 1)[-1] for a in self.arguments if "peer" in a), self.arguments[0])

    def tail(self, lines: int = 12) -> str:
        """The last lines that were no events."""
        return " | ".join(list(self.said)[-lines:])


def found(states: Sequence[str], *names: str) -> bool:
    """Whether one of these states was passed."""
    return any(name in states for name in names)
