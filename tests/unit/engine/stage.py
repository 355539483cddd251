"""A whole engine that does not run: all its workers, real handles, sockets and SRTP, and a clock moved by hand.

`turn` does what the workers' threads would do, one worker after the other, so that a seed is one life and no other.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Any

import numpy as np
from pylibsrtp import Policy, Session

from mediaserver.engine import layout as L
from mediaserver.engine.commands import take_commands
from mediaserver.engine.engine import Engine
from mediaserver.engine.loop import forward_news, timers
from mediaserver.engine.receive import handle_rtp
from mediaserver.engine.rtcp_in import handle_rtcp
from mediaserver.engine.send import flush
from mediaserver.engine.worker import Worker
from packetio.batch import bind_udp, pack_sockaddr
from packetio.srtp import KEY_BYTES, PROFILES, WINDOW, SrtpContexts
from tests.unit.engine.peers import datagrams, small_config

STEP = 5 * L.MS  # ns that a turn lasts


class Stage:
    """The engine and its clock."""

    def __init__(self, workers: int) -> None:
        self.engine = Engine(small_config(workers))
        self.now = 5000 * L.SECOND
        for worker in self.engine.workers:
            worker.socket = bind_udp("127.0.0.1", 0, 1 << 20, 1 << 20)
            worker.counters.fd = worker.socket.fileno()
        self.turn(0)

    def turn(self, ns: int = STEP) -> None:
        """Let time pass, and every worker take its commands, forward what came and look at its timers."""
        self.now += ns
        for worker in self.engine.workers:
            w = worker.counters
            w.now = self.now
            take_commands(w)
            forward_news(w)
            timers(w)
            flush(w)
        self.engine._on_events()

    async def finish(self, removal: Awaitable[Any]) -> None:
        """Let a removal have its way: it waits for the workers' acknowledgement."""
        task = asyncio.ensure_future(removal)
        for _ in range(1000):
            await asyncio.sleep(0)
            if task.done():
                await task
                return
            self.turn(0)
        raise AssertionError("a removal does not end")

    async def close(self) -> None:
        """Close the engine; its peers are closed before."""
        await self.engine.stop()


class Guest:
    """A peer on a stage: its transport, its socket, and its side of the SRTP keys."""

    def __init__(self, stage: Stage, worker: Worker, profile: str) -> None:
        self.stage, self.worker = stage, worker
        self.transport = stage.engine.open_transport(worker, os.urandom(4).hex(), os.urandom(12).hex())
        ours, theirs = os.urandom(KEY_BYTES[profile]), os.urandom(KEY_BYTES[profile])
        self.sealer = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile]))
        policy = Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile])
        policy.window_size = WINDOW
        self.opener = Session(policy)
        self.contexts = SrtpContexts(profile, theirs, ours)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)

    def connect(self) -> None:
        """As after ICE and DTLS."""
        address = pack_sockaddr(*self.sock.getsockname(), socket.AF_INET)
        self.transport.record.remote[: len(address)] = np.frombuffer(address, np.uint8)
        self.transport.record.remote_size = len(address)
        self.transport.secure(self.contexts)
        self.stage.turn(0)
        assert self.transport.record.secured == 1

    def _into_slot(self, data: bytes) -> None:
        self.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)

    def deliver_rtp(self, data: bytes) -> None:
        """Let the worker receive a sealed RTP packet."""
        self._into_slot(data)
        handle_rtp(self.worker.counters, self.transport.index, 0, len(data), 0)

    def deliver_rtcp(self, plain: bytes) -> None:
        """Seal a compound and let the worker receive it."""
        data = self.sealer.protect_rtcp(plain)
        self._into_slot(data)
        address = self.worker.receive_slots.data.address
        handle_rtcp(self.worker.counters, self.transport.index, address, len(data))

    def datagrams(self) -> list[bytes]:
        """What has come to the socket since the last call."""
        return list(datagrams(self.sock))

    async def close(self) -> None:
        """Leave."""
        await self.stage.finish(self.transport.close())
        self.sock.close()
