"""One peer's transport on asyncio: a UDP socket, ICE as the controlling full agent, DTLS, SRTP contexts, consent.

One socket a peer, because the node tells peers apart by their address. After the handshake a subscriber's socket is
handed to the sink, which drains it from then on; a publisher's stays here for its RTCP.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.offers import Local, Remote
from loadtest.sink import open_socket
from loadtest.stun import binding_request, is_success, new_transaction
from packetio.dtls import DtlsContexts, DtlsEndpoint, State
from packetio.srtp import SrtpContexts

CHECK_AGAIN = 0.1  # seconds between checks until one is answered
CONSENT = 4.5  # seconds between checks from then on, give or take a fifth (RFC 7675 5.1)
DATAGRAM = 2048  # bytes read at most


class JoinError(Exception):
    """A join that came to nothing; the message says at which step and why."""


@dataclass
class Timings:
    """When each step of a join was done, ns on CLOCK_MONOTONIC; 0: not yet."""

    begun: int = 0
    answered: int = 0
    connected: int = 0  # the first check was answered
    secured: int = 0  # DTLS is done
    first_packet: int = 0
    first_frame: int = 0


class Peer:
    """A transport towards the node. `connect` does ICE and DTLS; then `contexts` seal media, `rtcp` everything else."""

    def __init__(self, dtls: DtlsContexts, host: str = "127.0.0.1") -> None:
        self.socket = open_socket(host)
        port = int(self.socket.getsockname()[1])
        self.local = Local(secrets.token_hex(4), secrets.token_hex(12), dtls.certificate.fingerprint, host, port)
        self.timings = Timings(begun=time.monotonic_ns())
        self.contexts: SrtpContexts | None = None
        self.rtcp: SrtpContexts | None = None  # the same keys, for who is not the media thread
        self.receive: Callable[[bytes], None] | None = None  # datagrams that come after the handshake
        self.consents = 0
        self._dtls = dtls
        self._endpoint: DtlsEndpoint | None = None
        self._remote: Remote | None = None
        self._transaction, self._tie_breaker = b"", secrets.randbits(64)
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._consent: asyncio.TimerHandle | None = None

    async def connect(self, remote: Remote, timeout: float) -> None:
        """Check, nominate, shake hands. JoinError when that fails or takes longer than `timeout` seconds."""
        loop = asyncio.get_running_loop()
        self.timings.answered = time.monotonic_ns()
        self._remote, self._done = remote, loop.create_future()
        self._endpoint = DtlsEndpoint(self._dtls, remote.setup == "active", remote.fingerprints)
        self.socket.connect(remote.address)
        loop.add_reader(self.socket, self._readable)
        self._check()
        try:
            await asyncio.wait_for(self._done, timeout)
        except TimeoutError:
            step = "DTLS" if self.timings.connected else "ICE"
            raise JoinError(f"{step} took more than {timeout:.0f} s") from None
        finally:
            if self._timer:
                self._timer.cancel()

    def detach(self) -> socket.socket:
        """Stop reading the socket: whoever takes it reads what is still in it."""
        asyncio.get_running_loop().remove_reader(self.socket)
        return self.socket

    def keep_alive(self) -> None:
        """Send a check now and then, so that the node does not take us for gone."""
        pause = CONSENT * random.uniform(0.8, 1.2)
        self._consent = asyncio.get_running_loop().call_later(pause, self._refresh)

    def send(self, data: bytes) -> None:
        """Send a datagram; one that the kernel has no room for is lost, as it would be on the way."""
        try:
            self.socket.send(data)
        except OSError:
            pass

    def close(self) -> None:
        """Say goodbye to DTLS and close what is ours: a socket that the sink has is the sink's to close."""
        for timer in (self._timer, self._consent):
            if timer:
                timer.cancel()
        if self._endpoint:
            self._endpoint.close()
            for datagram in self._endpoint.datagrams():
                self.send(datagram)
        if self.rtcp:
            self.rtcp.close()
            self.rtcp = None

    def _refresh(self) -> None:
        self.consents += 1
        self._send_check()
        self.keep_alive()

    def _send_check(self) -> None:
        assert self._remote is not None
        self._transaction = self._transaction or new_transaction()
        username = f"{self._remote.ufrag}:{self.local.ufrag}"
        self.send(binding_request(username, self._remote.password, self._transaction, self._tie_breaker))

    def _check(self) -> None:
        self._send_check()
        self._timer = asyncio.get_running_loop().call_later(CHECK_AGAIN, self._check)

    def _readable(self) -> None:
        """Take what has come, and nothing behind the end of the handshake: that is for who takes the socket over."""
        while self.receive or (self._done and not self._done.done()):
            try:
                data = self.socket.recv(DATAGRAM)
            except (BlockingIOError, ConnectionError):
                return
            if data:
                self._take(data)

    def _take(self, data: bytes) -> None:
        if data[0] <= 3:
            self._take_stun(data)
        elif 20 <= data[0] <= 63 and self._endpoint:
            self._endpoint.receive(data, time.monotonic())
            self._advance()
        elif self.receive:
            self.receive(data)

    def _take_stun(self, data: bytes) -> None:
        if self.timings.connected or not self._remote or not is_success(data, self._transaction, self._remote.password):
            return
        assert self._endpoint is not None
        self.timings.connected = time.monotonic_ns()
        self._transaction = b""
        if self._timer:
            self._timer.cancel()
        if self._remote.setup != "active":
            self._endpoint.start(time.monotonic())
        self._advance()

    def _advance(self) -> None:
        """Send what DTLS wants sent, set its timer, and end the handshake when it is over."""
        endpoint = self._endpoint
        assert endpoint is not None
        for datagram in endpoint.datagrams():
            self.send(datagram)
        if self._timer:
            self._timer.cancel()
        deadline = endpoint.timer()
        if deadline is not None:
            pause = max(deadline - time.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._handle_timer)
        if self._done and not self._done.done():
            if endpoint.state is State.CONNECTED:
                self._secure(endpoint)
                self._done.set_result(None)
            elif endpoint.state in (State.FAILED, State.CLOSED):
                self._done.set_exception(JoinError(endpoint.error or "the node closed DTLS"))

    def _handle_timer(self) -> None:
        assert self._endpoint is not None
        self._endpoint.handle_timer(time.monotonic())
        self._advance()

    def _secure(self, endpoint: DtlsEndpoint) -> None:
        self.timings.secured = time.monotonic_ns()
        self.contexts = SrtpContexts(endpoint.srtp_profile, *endpoint.srtp_keys())
        self.rtcp = SrtpContexts(endpoint.srtp_profile, *endpoint.srtp_keys())
        endpoint.shrink()
