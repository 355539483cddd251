"""One client's transport on asyncio: a UDP socket, ICE, DTLS, the SRTP contexts made from it, and consent.

Python does the handshakes, then `detach` hands the socket to the native engine, which gives back what is not media
through `take`. Impairments of the scenario reach the handshakes through `gate`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.stun import Address
from loadtest.transport.addresses import LOOPBACK, may_send, why_not
from loadtest.transport.ice import Agent, Credentials
from loadtest.transport.offers import Local, Remote
from packetio.dtls import DtlsContexts, DtlsEndpoint, State
from packetio.srtp import SrtpContexts

DATAGRAM = 2048  # bytes read at most
EARLY = 256  # media datagrams kept that an impairment delays beyond the handshake
EARLY_DTLS = 8  # datagrams of a server that calls before our own check is answered
RECEIVE_BUFFER = 1 << 20  # bytes
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33  # of Linux; the socket module has no names for them

# (outgoing, bytes of UDP payload, now) -> when to release it, -1: lost; ns on CLOCK_MONOTONIC
Gate = Callable[[bool, int, int], int]


class JoinError(Exception):
    """A join that came to nothing: the message says why, `step` where: address, answer, ice, dtls or media."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step


@dataclass
class Timings:
    """When each step of a join was done, ns on CLOCK_MONOTONIC; 0: not yet."""

    begun: int = 0
    answered: int = 0
    connected: int = 0  # a pair is nominated
    secured: int = 0  # DTLS is done
    first_packet: int = 0
    first_frame: int = 0


def open_socket(host: str, receive_buffer: int = RECEIVE_BUFFER) -> socket.socket:
    """A non-blocking UDP socket on a port of the kernel's choice, with receive stamps."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((host, 0))
    except BaseException:
        sock.close()
        raise
    return sock


class Peer:
    """A transport towards one server. `connect`, then `detach`; `keep_alive`; in the end `close`, always.

    `contexts` are there after `connect`; they and the socket belong to whoever called `detach`, who closes them.
    """

    def __init__(
        self, dtls: DtlsContexts, host: str = LOOPBACK, *, allow_remote: bool = False, gate: Gate | None = None
    ) -> None:
        """Bind to `host`, a literal address of ours. OSError when that fails."""
        self.socket = open_socket(host)
        port = int(self.socket.getsockname()[1])
        self.local = Local(secrets.token_hex(4), secrets.token_hex(12), dtls.certificate.fingerprint, host, port)
        self.timings = Timings(begun=time.monotonic_ns())
        self.contexts: SrtpContexts | None = None
        self.gate = gate
        self.early: list[tuple[int, bytes]] = []  # media that a gate held beyond `connect`: (release in ns, datagram)
        self.closed: Callable[[str], None] | None = None  # the server ended DTLS; called once, with a sentence
        self.lost: Callable[[str], None] | None = None  # it answered no check for 30 s; called once
        self._dtls, self._allow_remote = dtls, allow_remote
        self._agent: Agent | None = None
        self._endpoint: DtlsEndpoint | None = None
        self._active = False  # the server calls
        self._early_dtls: list[bytes] = []
        self._bound = False  # the socket is connected to the server's address
        self._refused = False  # a port was unreachable
        self._detached = self._ended = False
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.AbstractEventLoop | None = None  # that reads the socket
        self._held: dict[int, tuple[asyncio.TimerHandle, int, bytes]] = {}  # what a gate delays; outgoing: release 0
        self._holds = 0

    @property
    def consents(self) -> int:
        """Checks of consent that were answered."""
        return self._agent.answered if self._agent else 0

    async def connect(self, remote: Remote, timeout: float) -> None:
        """Check, nominate, shake hands. JoinError when that fails or takes longer than `timeout` seconds."""
        self.timings.answered = time.monotonic_ns()
        addresses = self._reachable(remote)
        names = Credentials(self.local.ufrag, self.local.password, remote.ufrag, remote.password)
        self._agent = Agent(names, addresses, time.monotonic())
        self._active = remote.setup == "active"
        self._endpoint = DtlsEndpoint(self._dtls, self._active, remote.fingerprints)
        if self._endpoint.state is State.FAILED:
            raise JoinError(self._endpoint.error, "dtls")
        self._done = asyncio.get_running_loop().create_future()
        if remote.lite and len(addresses) == 1:
            self._bind(addresses[0])  # so that the kernel tells us of an unreachable port
        try:
            self._start_reading()
            self._advance()
            await asyncio.wait_for(self._done, timeout)
        except TimeoutError:
            raise self._too_slow(timeout) from None
        finally:
            self._rest()

    def detach(self) -> socket.socket:
        """Give the socket and the contexts away: whoever takes them closes them. What came since is still in it."""
        self._stop_reading()
        self._detached = True
        media = [(key, release, data) for key, (_, release, data) in self._held.items() if release and is_media(data)]
        for key, _, _ in media:
            self._held.pop(key)[0].cancel()
        self.early = sorted(self.early + [(release, data) for _, release, data in media])[:EARLY]
        return self.socket

    def take(self, data: bytes) -> None:
        """A datagram that is no media and has passed the impairments already: STUN or DTLS of the server's."""
        assert self._agent is not None
        if data and self._agent.selected and not self._ended:
            self._take(data, self._agent.selected)

    def keep_alive(self) -> None:
        """Check the server's consent every 4 to 5 s from now on, and call `lost` after 30 s without an answer."""
        assert self._agent is not None
        self._agent.keep_alive(time.monotonic())
        self._schedule()

    def send(self, data: bytes) -> None:
        """Send to the server, through the gate; what the kernel has no room for is lost, as it would be on the way."""
        self._through_gate(True, data, self._agent.selected if self._agent else None)

    def close(self) -> None:
        """Say goodbye to DTLS, stop everything, and close what has not been given away. Again: nothing."""
        if self._endpoint and not self._ended:
            self._endpoint.close()
            for datagram in self._endpoint.datagrams():
                if not self.gate or self.gate(True, len(datagram), time.monotonic_ns()) >= 0:
                    self._put(datagram, self._agent.selected if self._agent else None)
        self._end()
        if self._detached:
            return
        self._stop_reading()
        self.socket.close()
        if self.contexts:
            self.contexts.close()
            self.contexts = None

    def _reachable(self, remote: Remote) -> list[Address]:
        """The candidates that we may and can send to. JoinError when there are none."""
        ipv6, only_here = ":" in self.local.host, may_send(self.local.host, False)
        allowed = [address for address in remote.candidates if may_send(address[0], self._allow_remote)]
        if not allowed:
            reasons = ", ".join(why_not(address[0], self._allow_remote) for address in remote.candidates[:4])
            raise JoinError(f"the server's answer names no address that we may send to: {reasons}", "address")
        fit = [a for a in allowed if (":" in a[0]) == ipv6 and (may_send(a[0], False) or not only_here)]
        if not fit:
            names = ", ".join(address[0] for address in allowed[:4])
            raise JoinError(f"{self.local.host} has no way to the server's {names}", "address")
        return fit

    def _too_slow(self, timeout: float) -> JoinError:
        assert self._agent is not None
        if self._agent.selected:
            return JoinError(f"DTLS with {show(self._agent.selected)} took more than {timeout:g} s", "dtls")
        tried = ", ".join(show(address) for address in self._agent.addresses)
        why = " (port unreachable)" if self._refused else ""
        why = f" (refused with {self._agent.refusal})" if self._agent.refusal else why
        return JoinError(f"ICE: no good answer from {tried} within {timeout:g} s{why}", "ice")

    def _bind(self, address: Address) -> None:
        try:
            self.socket.connect(address)
        except OSError as error:
            raise JoinError(f"no way to {show(address)}: {error.strerror}", "address") from error
        self._bound = True

    def _readable(self) -> None:
        """Take what has come, and nothing behind the end of the handshake: that is for who takes the socket over."""
        while not self._ended and self._reading():
            try:
                data, source = self.socket.recvfrom(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error, read by this; checks go on, the server may come
                self._refused = True
                return
            if data:
                self._through_gate(False, data, (source[0], source[1]))

    def _reading(self) -> bool:
        """Whether what comes is for us: the handshake is not through."""
        return self._done is not None and not self._done.done()

    def _through_gate(self, outgoing: bool, data: bytes, address: Address | None) -> None:
        """Send or take a datagram when the gate lets it go."""
        now = time.monotonic_ns()
        release = self.gate(outgoing, len(data), now) if self.gate else 0
        if release > now:
            self._hold(outgoing, data, address, release, (release - now) / 1e9)
        elif release >= 0:
            self._go(outgoing, data, address)

    def _hold(self, outgoing: bool, data: bytes, address: Address | None, release: int, pause: float) -> None:
        self._holds += 1
        key = self._holds

        def let_go() -> None:
            del self._held[key]
            self._go(outgoing, data, address)

        handle = asyncio.get_running_loop().call_later(pause, let_go)
        self._held[key] = handle, 0 if outgoing else release, data

    def _go(self, outgoing: bool, data: bytes, address: Address | None) -> None:
        if outgoing:
            self._put(data, address)
        elif address and not self._ended:
            self._take(data, address)

    def _put(self, data: bytes, address: Address | None) -> None:
        try:
            if self._bound:
                self.socket.send(data)
            elif address:
                self.socket.sendto(data, address)
        except ConnectionRefusedError:
            self._refused = True
        except OSError:
            pass

    def _take(self, data: bytes, source: Address) -> None:
        agent = self._agent
        assert agent is not None
        if data[0] <= 3:
            if may_send(source[0], self._allow_remote):
                agent.receive(data, source, time.monotonic())
                self._advance()
        elif agent.selected is None:
            if is_dtls(data) and source in agent.addresses and len(self._early_dtls) < EARLY_DTLS:
                self._early_dtls.append(data)
        elif source != agent.selected:
            return
        elif is_dtls(data) and self._endpoint:
            self._endpoint.receive(data, time.monotonic())
            self._advance()
        elif is_media(data):
            self._take_media(data)

    def _take_media(self, data: bytes) -> None:
        """Media that came through here; what comes before the keys is lost, as it is to a browser."""
        if self.contexts and not self._detached and len(self.early) < EARLY:
            self.early.append((time.monotonic_ns(), data))

    def _advance(self) -> None:
        """Send what ICE and DTLS want sent, go on when either is through, and set the timer."""
        agent, endpoint = self._agent, self._endpoint
        assert agent is not None and endpoint is not None
        if agent.selected and not self.timings.connected:
            self._begin_dtls(agent.selected, endpoint)
        for datagram, address in agent.datagrams():
            self._through_gate(True, datagram, address)
        for datagram in endpoint.datagrams():
            self._through_gate(True, datagram, agent.selected)
        if self._done and not self._done.done():
            self._watch_handshake(endpoint)
        elif endpoint.state is not State.CONNECTED or agent.lost:
            self._report(agent, endpoint)
        self._schedule()

    def _begin_dtls(self, address: Address, endpoint: DtlsEndpoint) -> None:
        self.timings.connected = time.monotonic_ns()
        if not self._bound:
            try:
                self._bind(address)
            except JoinError as error:
                self._fail(error)
                return
        endpoint.start(time.monotonic())
        for datagram in self._early_dtls:
            endpoint.receive(datagram, time.monotonic())
        self._early_dtls.clear()

    def _watch_handshake(self, endpoint: DtlsEndpoint) -> None:
        if endpoint.state is State.CONNECTED:
            self.timings.secured = time.monotonic_ns()
            self.contexts = SrtpContexts(endpoint.srtp_profile, *endpoint.srtp_keys())
            endpoint.shrink()
            if self._done:
                self._done.set_result(None)
        elif endpoint.state in (State.FAILED, State.CLOSED):
            self._fail(JoinError(endpoint.error or "the server closed DTLS", "dtls"))

    def _fail(self, error: JoinError) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(error)

    def _report(self, agent: Agent, endpoint: DtlsEndpoint) -> None:
        """The association has ended after the handshake: say so once, and stop."""
        if self._ended:
            return
        self._end()
        if agent.lost:
            tell, why = self.lost, "the server answered no connectivity check for 30 s"
        else:
            tell, why = self.closed, endpoint.error or "the server closed DTLS"
        if tell:
            tell(why)

    def _schedule(self) -> None:
        """One timer, for whichever of ICE and DTLS is first."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._ended or not self._agent or not self._endpoint:
            return
        due = [t for t in (self._agent.timer(), self._endpoint.timer()) if t is not None]
        if due:
            pause = max(min(due) - time.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._handle_timer)

    def _handle_timer(self) -> None:
        assert self._agent is not None and self._endpoint is not None
        self._timer = None
        self._agent.handle_timer(time.monotonic())
        self._endpoint.handle_timer(time.monotonic())
        self._advance()

    def _rest(self) -> None:
        """Between `connect` and what comes next: nothing is read, no timer runs."""
        self._stop_reading()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _start_reading(self) -> None:
        self._reader = asyncio.get_running_loop()
        self._reader.add_reader(self.socket, self._readable)

    def _stop_reading(self) -> None:
        if self._reader and not self._reader.is_closed():
            self._reader.remove_reader(self.socket)
        self._reader = None

    def _end(self) -> None:
        self._ended = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for handle, _, _ in self._held.values():
            handle.cancel()
        self._held.clear()


def show(address: Address) -> str:
    """An address in messages."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def is_dtls(data: bytes) -> bool:
    """RFC 7983 section 7."""
    return 20 <= data[0] <= 63


def is_media(data: bytes) -> bool:
    """RTP or RTCP (RFC 7983 section 7)."""
    return 128 <= data[0] <= 191
