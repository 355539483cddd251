"""The node: engine, sessions and HTTP put together, from start to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import threading
import time
from collections.abc import Callable

from config import ConfigError
from config.schema import Config
from mediaserver.engine.engine import Engine
from mediaserver.logs import get_logger
from mediaserver.metrics import make_metrics, render
from mediaserver.signalling.app import make_app
from mediaserver.signalling.context import Context
from mediaserver.signalling.server import HttpServer
from mediaserver.signalling.sessions import Sessions

log = get_logger("weir.node")
malloc_trim = ctypes.CDLL(None).malloc_trim
NICE = 10  # of the control thread; the scheduler's slices (4 ms) would show in the latency otherwise
TRIM = 5.0  # seconds between two tries to give memory back
CHECK = 1.0  # seconds between looks at who is still there
LAST_WORDS = 0.2  # share of the grace kept for stopping HTTP and the workers


class Node:
    """One running node."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.engine = Engine(config)
        self.sessions = Sessions(config, self.engine)
        registry = make_metrics(self.engine, self.sessions)
        self.ready = False
        self.context = Context(
            config,
            self.sessions,
            metrics=lambda: render(registry),
            faults=self.faults,
            obstacles=self.obstacles,
        )
        self.http = HttpServer(make_app(self.context), config)
        self._checker: asyncio.Task[None] | None = None
        self._given_back = 0
        self._trimmed = 0.0

    def faults(self) -> list[str]:
        """What is wrong with the workers, a sentence each."""
        now = time.monotonic_ns()
        return [fault for worker in self.engine.workers if (fault := worker.fault(now))]

    def obstacles(self) -> list[str]:
        """Why the node takes no joins."""
        closed = not self.ready or self.sessions.closing
        return (["The node takes no joins: it is starting or stopping."] if closed else []) + self.faults()

    async def start(self) -> None:
        """Begin to take joins. Raises OSError when an address is taken."""
        try:
            await self.engine.start()
            await self.http.start()
        except BaseException:
            await self.http.stop()
            await self.engine.stop()
            raise
        self._checker = asyncio.get_running_loop().create_task(self._check())
        self.ready = True
        log.info("ready", http=self.config.http.port, media=[worker.port for worker in self.engine.workers])

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK)
            try:
                self.sessions.check()
                await self._give_back_memory()
            except Exception:
                log.exception("the look at the sessions failed")  # and must not be the last one

    async def _give_back_memory(self) -> None:
        """OpenSSL's connections cost 70 KB each until some seconds after the handshake; the system gets that back."""
        handshakes = self.sessions.handshakes
        if handshakes.shrunk != self._given_back and handshakes.pending == 0 and self._trimmable():
            self._given_back = handshakes.shrunk
            await asyncio.to_thread(malloc_trim, 0)

    def _trimmable(self) -> bool:
        now = time.monotonic()
        if now - self._trimmed < TRIM:
            return False
        self._trimmed = now
        return True

    def reload(self, read: Callable[[], Config]) -> None:
        """Take keys, ICE servers and the certificate anew; what can't be read leaves the old ones in force."""
        self.http.reload()
        try:
            self.context.take_keys(read())
        except (ConfigError, OSError) as error:
            log.error("the configuration could not be read again: its old keys stay", problems=str(error))
        else:
            log.info("keys and ICE servers were read again", keys=sorted(self.context.tokens.auth.keys))

    async def stop(self) -> None:
        """Refuse new joins, say goodbye to everybody, and end within the grace."""
        began, self.ready = time.monotonic(), False
        if self._checker is not None:
            self._checker.cancel()
        await self.sessions.close(self.config.shutdown_grace * (1 - LAST_WORDS))
        await self.http.stop()
        await self.engine.stop()
        log.info("stopped", seconds=round(time.monotonic() - began, 3))


def yield_to_media() -> None:
    """Lower this thread's priority below the workers': on a shared core the control plane must not delay a packet."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


async def serve(
    config: Config, on_progress: Callable[[str, int, int], None], read: Callable[[], Config], *, attended: bool
) -> None:
    """Run a node until SIGTERM or SIGINT. Raises OSError when an address is taken.

    At SIGHUP it takes its keys anew, by `read`; or it ends, where it is `attended`: then its terminal is gone.
    """
    node = Node(config)
    await node.start()
    yield_to_media()
    gc.collect()
    gc.freeze()  # the compiler's million objects live as long as we do: collections need not look at them
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, stop.set if attended else lambda: node.reload(read))
    on_progress("listening", 1, 1)
    try:
        await stop.wait()
        log.info("stopping")
    finally:
        await node.stop()
