"""One ICE and DTLS peer on the control side: credentials, handshake, keys for the engine, liveness, farewell.

The engine answers connectivity checks and hands DTLS datagrams up; this drives the handshake, gives the SRTP contexts
to the engine, and lets OpenSSL's connection go some seconds later. The time that a peer is given is time in which the
node was running (`mediaserver.clock`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mediaserver.clock import Deadline
from mediaserver.engine.engine import Engine, Transport, Worker
from mediaserver.logs import get_logger
from packetio.dtls import DtlsContexts, DtlsEndpoint, State
from packetio.srtp import SrtpContexts

SETTLE = 4.0  # seconds after the handshake in which its last flight may still be asked for
WATCHFUL = 7.0  # seconds of silence that end a peer which seems to have said goodbye; RFC 7675 has a check in 6 s

log = get_logger("weir.transport")


class HandshakesFull(Exception):
    """Too many handshakes are unfinished: the join is refused."""


class Handshakes:
    """How many handshakes are unfinished on this node, how many there may be, and how the finished ones went."""

    def __init__(self, limit: int, observe: Callable[[float], None]) -> None:
        self.limit, self.observe = limit, observe
        self.pending = 0
        self.shrunk = 0  # connections given back: freed memory that the system may have
        self.results: Counter[str] = Counter(ok=0, failed=0)

    def begin(self) -> None:
        """Count one more. Raises HandshakesFull."""
        if self.pending >= self.limit:
            raise HandshakesFull(f"{self.limit} handshakes are unfinished")
        self.pending += 1

    def end(self, result: str) -> None:
        """One is over: "ok", "failed", or "refused" when there was no room for its transport."""
        self.pending -= 1
        self.results[result] += 1


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a peer has: `join` until its first connectivity check, `handshake` from then to its keys."""

    join: float
    handshake: float


class Peer:
    """A peer from its SDP answer to its end. `on_secured` and `on_end(reason)` are called at most once each."""

    def __init__(
        self, engine: Engine, worker: Worker, contexts: DtlsContexts, handshakes: Handshakes, patience: Patience
    ) -> None:
        """Raises EngineFull or HandshakesFull."""
        handshakes.begin()
        self.ufrag, self.password = secrets.token_hex(4), secrets.token_hex(16)
        try:
            self.transport: Transport = engine.open_transport(worker, self.ufrag, self.password)
        except Exception:
            handshakes.end("refused")
            raise
        self.on_secured: Callable[[], None] = lambda: None
        self.on_end: Callable[[str], None] = lambda reason: None
        self.began = time.monotonic()
        self.secured_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._clock = engine.clock
        self._contexts, self._handshakes = contexts, handshakes
        self._pending = True
        self._ended = False
        self._endpoint: DtlsEndpoint | None = None
        self._close_notify = b""
        self._timer: Deadline | None = None
        self._patience = patience
        self._deadline = self._clock.call_later(patience.join, self._end, "no connectivity check came")
        self.transport.on_datagram = self._on_datagram
        self.transport.on_connected = self._on_connected

    @property
    def about(self) -> dict[str, str]:
        """Room and participant, for log lines."""
        return self.transport.about

    @about.setter
    def about(self, about: dict[str, str]) -> None:
        self.transport.about = about

    def expect(self, *, server: bool, fingerprints: list[tuple[str, str]]) -> None:
        """What the offer said: our DTLS role, and the fingerprints of the peer's certificate (algorithm, value)."""
        self._endpoint = DtlsEndpoint(self._contexts, server, fingerprints)
        self._server = server

    def restart_ice(self, peer_password: str = "") -> None:
        """New credentials, the peer's too; the old ones stay good."""
        self.ufrag, self.password = secrets.token_hex(4), secrets.token_hex(16)
        self.transport.restart_ice(self.ufrag, self.password, peer_password)

    def check(self, ice_timeout: float) -> None:
        """Once a second: has the peer gone? It lives while anything authentic comes: checks, SRTP or SRTCP.

        A BYE for all of its streams does not end it at once, because browsers send that too when they pause everything.
        """
        goodbye = int(self.transport.record.last_goodbye)
        limit = ice_timeout
        if goodbye and goodbye >= self.transport.last_heard:  # it was the last that came
            limit = min(limit, WATCHFUL)
        if self.transport.idle > limit:
            self._end("nothing was heard of the peer for too long")

    def _on_connected(self, address: tuple[str, int]) -> None:
        if self._pending:
            self._deadline.cancel()
            self._deadline = self._clock.call_later(self._patience.handshake, self._end, "the handshake took too long")
        if self._endpoint is not None and not self._server:
            self._drive(lambda endpoint, now: endpoint.start(now))

    def _on_datagram(self, data: bytes) -> None:
        self._drive(lambda endpoint, now: endpoint.receive(data, now))

    def _on_timer(self) -> None:
        self._drive(lambda endpoint, now: endpoint.handle_timer(now))

    def _drive(self, step: Callable[[DtlsEndpoint, float], None]) -> None:
        """One step of DTLS. A fault of ours ends this peer and no other: the engine's events of all go on."""
        if self._endpoint is None or self._ended:
            return
        try:
            step(self._endpoint, self._clock.time())
            self._flush()
        except Exception:
            log.exception("a DTLS step failed", **self.about)
            self._end("the node made a mistake")

    def _flush(self) -> None:
        """Send what the endpoint has to say, act on its state, and set the timer anew."""
        endpoint = self._endpoint
        assert endpoint is not None
        done = endpoint.state is State.CONNECTED and not self.secured_at
        sends = bool(self.transport.subscriptions)
        if done and not sends:
            self._secure(endpoint)  # before our last flight leaves: a publisher's media may follow it at once
        for datagram in endpoint.datagrams():
            self.transport.send(datagram)
        if done and sends:
            self._secure(endpoint)  # after it: a viewer without keys would drop the keyframe that it starts with
        if endpoint.state is State.FAILED:
            self._end(f"DTLS failed: {endpoint.error}")
        elif endpoint.state is State.CLOSED:
            self._end("the peer closed DTLS")
        if self._timer is not None:
            self._timer.cancel()
        at, self._timer = endpoint.timer(), None
        if at is not None and not self._ended:
            self._timer = self._clock.call_later(max(at - self._clock.time(), 0.0), self._on_timer)

    def _secure(self, endpoint: DtlsEndpoint) -> None:
        local, remote = endpoint.srtp_keys()
        self.transport.secure(SrtpContexts(endpoint.srtp_profile, local, remote))
        self.secured_at = time.monotonic()
        self._handshakes.observe(self.secured_at - self.began)
        self._settle_handshake("ok")
        self._loop.call_later(SETTLE, self._shrink)
        self.on_secured()

    def _settle_handshake(self, result: str) -> None:
        self._deadline.cancel()
        if self._pending:
            self._pending = False
            self._handshakes.end(result)

    def _shrink(self) -> None:
        if self._endpoint is not None and self._endpoint.state is State.CONNECTED:
            self._endpoint.shrink()
            self._handshakes.shrunk += 1

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._settle_handshake("failed")
            self.on_end(reason)

    def close(self) -> asyncio.Future[None]:
        """Say goodbye by RTCP, let everything go, and end DTLS: whoever hears that stops listening.

        Always finishes, by itself; what is returned is done then.
        """
        self._ended = True
        self._settle_handshake("failed")
        if self._timer is not None:
            self._timer.cancel()
        return self.transport.close(self._end_dtls)

    def _end_dtls(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            for datagram in self._endpoint.datagrams():
                self.transport.send(datagram)
