"""A server's end of a transport on loopback, with aioice's STUN and the project's DTLS, that can lose datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aioice import stun

from loadtest.transport.offers import Remote
from loadtest.transport.peer import Peer
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts, DtlsEndpoint
from packetio.srtp import SrtpContexts

HOST = "127.0.0.1"
CONTEXTS = DtlsContexts(Certificate.generate())
Address = tuple[str, int]


class Answering(asyncio.DatagramProtocol):
    """A lite server, or with `checks` a full one; `setup` is its DTLS role, `drop` says which datagrams get lost."""

    transport: asyncio.DatagramTransport

    def __init__(self, peer: Peer, setup: str = "passive", checks: bool = False) -> None:
        self.peer, self.setup, self.checks = peer, setup, checks
        self.ufrag, self.password = secrets.token_hex(4), secrets.token_hex(12)
        prints = [("sha-256", peer.local.fingerprint)]
        self.endpoint = DtlsEndpoint(CONTEXTS, setup == "passive", prints)
        self.drop: Callable[[bytes], bool] = lambda data: False
        self.mute = False  # gives no answers to checks
        self.requests: list[stun.Message] = []
        self.responses: list[stun.Message] = []
        self.media: list[bytes] = []
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self._from: Address | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def remote(self) -> Remote:
        """What this server's answer would say."""
        return Remote(
            ufrag=self.ufrag,
            password=self.password,
            lite=not self.checks,
            fingerprints=(("sha-256", CONTEXTS.certificate.fingerprint),),
            setup=self.setup,
            candidates=(self.address,),
            media=(),
        )

    @property
    def address(self) -> Address:
        host, port = self.transport.get_extra_info("sockname")[:2]
        return str(host), int(port)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait(data)
        if self.drop(data):
            return
        if data[0] <= 3:
            self._take_stun(stun.parse_message(data), addr)
        elif 20 <= data[0] <= 63:
            self.endpoint.receive(data, time.monotonic())
        else:
            self.media.append(data)
        self.flush()

    def flush(self) -> None:
        """Send what DTLS wants sent, now and when its timer is due."""
        for datagram in self.endpoint.datagrams():
            self.transport.sendto(datagram, self._from)
        if self._timer:
            self._timer.cancel()
        due = self.endpoint.timer()
        if due is not None:
            pause = max(due - time.monotonic(), 0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._handle_timer)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self.transport.close()

    def check(self) -> None:
        """Send a check of our own, as the controlled agent."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self.peer.local.ufrag}:{self.ufrag}"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLED"] = 1
        request.add_message_integrity(self.peer.local.password.encode())
        request.add_fingerprint()
        self.transport.sendto(bytes(request), (HOST, self.peer.local.port))

    def _take_stun(self, message: stun.Message, source: Address) -> None:
        if message.message_class != stun.Class.REQUEST:
            assert message.check_message_integrity(self.peer.local.password.encode())
            self.responses.append(message)
            return
        assert message.check_message_integrity(self.password.encode())
        assert message.attributes["USERNAME"] == f"{self.ufrag}:{self.peer.local.ufrag}"
        self.requests.append(message)
        if self.mute:
            return
        self._from = source
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = source
        response.add_message_integrity(self.password.encode())
        response.add_fingerprint()
        self.transport.sendto(bytes(response), source)
        if self.setup == "active":
            self.endpoint.start(time.monotonic())

    def _handle_timer(self) -> None:
        self.endpoint.handle_timer(time.monotonic())
        self.flush()


def seal(contexts: SrtpContexts, packet: bytes) -> bytes:
    """SRTP of an RTP packet."""
    return bytes(contexts._outbound.protect(packet))


def opened(contexts: SrtpContexts, packet: bytes) -> bytes:
    """The RTP packet in an SRTP packet. pylibsrtp's Error when it is not authentic."""
    return bytes(contexts._inbound.unprotect(packet))


@contextlib.asynccontextmanager
async def server(peer: Peer, setup: str = "passive", checks: bool = False) -> AsyncIterator[Answering]:
    """A running server for one peer."""
    loop = asyncio.get_running_loop()
    _, answering = await loop.create_datagram_endpoint(
        lambda: Answering(peer, setup, checks), local_addr=(HOST, 0), family=socket.AF_INET
    )
    try:
        yield answering
    finally:
        answering.close()
