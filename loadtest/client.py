"""WHIP and WHEP clients (RFC 9725, draft-ietf-wish-whep): join, keep the session, publish or watch, leave.

`Clients` holds what the peers of one process share: the HTTP session, the DTLS contexts of each set of SRTP profiles,
the sink and the publishers' pacer. A subscriber's media never comes through Python.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from urllib.parse import urljoin

import aiohttp

from loadtest.feedback import Received, read_requests, receiver_report, sender_report
from loadtest.offers import RTX_TYPE, Sources, offer, read_answer
from loadtest.peer import JoinError, Peer
from loadtest.publisher import Publishers
from loadtest.sink import Sink
from loadtest.srtcp import protect_rtcp, protect_rtp, unprotect_rtcp
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from packetio.srtp import SrtpContexts

GCM_ONLY, CM_ONLY = ("SRTP_AEAD_AES_128_GCM",), ("SRTP_AES128_CM_SHA1_80",)
JOIN_TIMEOUT = 20.0  # seconds for HTTP, and again for ICE and DTLS
REPORT_PAUSE = 1.0  # seconds between a publisher's sender reports
RECEIVER_PAUSE = 2.0  # seconds between a subscriber's receiver reports
POLL = 0.002  # seconds between looks at what the sink has seen
MAX_CONNECTIONS = 64
VIDEO_CLOCK, AUDIO_CLOCK = 90000, 48000  # Hz


class Publisher:
    """A WHIP session. Its media are `row` of the pacer; this answers what the node asks of it."""

    def __init__(self, clients: Clients, peer: Peer, sources: Sources, location: str) -> None:
        assert peer.contexts is not None
        self.clients, self.peer, self.sources, self.location = clients, peer, sources, location
        self.requests = self.resent = 0
        self._rtx_sequence = secrets.randbelow(1 << 14)
        self.row = clients.publishers.add(peer.socket.fileno(), peer.contexts.outbound, sources.video, sources.audio)
        peer.receive = self._receive
        peer.keep_alive()
        self._reports = asyncio.create_task(self._report())

    def begin(self, *, burst: bool, frames: int = -1, phase: int = 0) -> None:
        """Send from now on: so many frames, or without end."""
        self.clients.publishers.begin(self.row, time.monotonic_ns(), burst=burst, frames=frames, phase=phase)

    def halt(self) -> None:
        """Send no more."""
        self.clients.publishers.halt(self.row)

    @property
    def sent(self) -> int:
        """Packets sent, retransmissions left out."""
        row = self.clients.publishers.rows[self.row]
        return int(row.sent_video + row.sent_audio)

    def _receive(self, data: bytes) -> None:
        if len(data) < 8 or not 192 <= data[1] <= 223 or not self.peer.rtcp:
            return
        asked = read_requests(unprotect_rtcp(self.peer.rtcp, data))
        if self.sources.video in asked.keyframes:
            self.requests += 1
            self.clients.publishers.rows[self.row].want_key = 1
        for ssrc, sequence in asked.lost:
            if ssrc == self.sources.video:
                self._resend(sequence)

    def _resend(self, sequence: int) -> None:
        """RTX (RFC 4588 4): the same packet in its own stream, its sequence number before the payload."""
        packet = self.clients.publishers.packet(self.row, sequence)
        if not packet or not self.peer.rtcp:
            return
        self._rtx_sequence += 1
        head = packet[:1] + bytes([packet[1] & 0x80 | RTX_TYPE]) + (self._rtx_sequence & 0xFFFF).to_bytes(2)
        head += packet[4:8] + self.sources.rtx.to_bytes(4) + packet[12:24]
        self.peer.send(protect_rtp(self.peer.rtcp, head + packet[2:4] + packet[24:]))
        self.resent += 1

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_PAUSE)
            row = self.clients.publishers.rows[self.row]
            wall, now = time.time_ns(), time.monotonic_ns()
            since_frame, since_audio = now - int(row.next_video), now - int(row.next_audio)
            video = int(row.video_time) + since_frame * VIDEO_CLOCK // 1_000_000_000
            audio = int(row.audio_time) + since_audio * AUDIO_CLOCK // 1_000_000_000
            self._send_report(self.sources.video, wall, video, int(row.sent_video), int(row.sent_bytes))
            self._send_report(self.sources.audio, wall, audio, int(row.sent_audio), int(row.audio_bytes))

    def _send_report(self, ssrc: int, wall: int, rtp_time: int, packets: int, octets: int) -> None:
        if packets and self.peer.rtcp:
            report = sender_report(ssrc, self.sources.cname, wall, rtp_time, packets, octets)
            self.peer.send(protect_rtcp(self.peer.rtcp, report))

    def stop(self) -> None:
        """Stop sending and reporting, and close the transport."""
        self.clients.publishers.rows[self.row].fd = 0
        self._reports.cancel()
        if self.peer.receive:
            self.peer.receive = None
            self.clients.left.append((self.peer.detach(), self.peer.contexts))


class Subscriber:
    """A WHEP session. Its socket is the sink's; `row` counts what comes."""

    def __init__(self, clients: Clients, peer: Peer, location: str, opened: bool) -> None:
        self.clients, self.peer, self.location = clients, peer, location
        self.ssrc = secrets.randbits(31) | 1
        self.row = clients.sink.add(peer.detach(), peer.contexts, opened)
        peer.keep_alive()
        pause = secrets.randbelow(1000) / 1000 * RECEIVER_PAUSE
        self._timer = asyncio.get_running_loop().call_later(pause, self._report)

    async def wait(self, *, frame: bool, timeout: float) -> None:
        """Until the first packet has come, or the first whole keyframe. JoinError after `timeout` seconds."""
        row, until = self.clients.sink.rows[self.row], time.monotonic() + timeout
        while not (row.first_frame if frame else row.first_packet):
            if time.monotonic() > until:
                raise JoinError(f"no {'keyframe' if frame else 'packet'} within {timeout:.0f} s")
            await asyncio.sleep(POLL)
        self.peer.timings.first_packet, self.peer.timings.first_frame = int(row.first_packet), int(row.first_frame)

    def _report(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RECEIVER_PAUSE, self._report)
        row = self.clients.sink.rows[self.row]
        streams = [
            Received(int(s.ssrc), int(s.highest), max(int(s.highest - s.lowest + 1 - s.received), 0))
            for s in row.streams
            if s.received
        ]
        if streams and self.peer.rtcp:
            self.peer.send(protect_rtcp(self.peer.rtcp, receiver_report(self.ssrc, "load", streams)))

    def stop(self) -> None:
        """Stop reporting and let the sink close the socket."""
        self._timer.cancel()
        self.clients.sink.remove(self.row)


class Clients:
    """All peers of this process; an asynchronous context."""

    def __init__(
        self, base: str, *, subscribers: int, publishers: int, host: str = "127.0.0.1", token: str = ""
    ) -> None:
        self.base, self.host = base, host
        self.sink, self.publishers = Sink(subscribers), Publishers(publishers)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._certificate = Certificate.generate()
        self._dtls: dict[tuple[str, ...], DtlsContexts] = {}
        self._http: aiohttp.ClientSession | None = None
        self.sessions: list[Publisher | Subscriber] = []
        self.left: list[tuple[socket.socket, SrtpContexts | None]] = []  # the pacer may still have them in hand

    async def __aenter__(self) -> Clients:
        self.sink.start()
        self.publishers.start()
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
        self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=JOIN_TIMEOUT))
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.publishers.stop()
        for session in self.sessions:
            session.peer.close()
            session.stop()
        self.sink.stop()
        for sock, contexts in self.left:
            sock.close()
            if contexts:
                contexts.close()
        if self._http:
            await self._http.close()

    async def publish(self, room: str, identity: str, profiles: Sequence[str] = GCM_ONLY) -> Publisher:
        """Join as a publisher that does not send yet. JoinError."""
        first = secrets.randbits(30) | 1
        sources = Sources(audio=first, video=first + 1, rtx=first + 2, cname=secrets.token_hex(8))
        peer, location = await self._join(f"/whip/{room}/{identity}", sources, profiles)
        publisher = Publisher(self, peer, sources, location)
        self.sessions.append(publisher)
        return publisher

    async def subscribe(
        self, room: str, publisher: str, profiles: Sequence[str] = GCM_ONLY, *, opened: bool = False
    ) -> Subscriber:
        """Join to watch the publisher of that identity; `opened`: all packets are opened and checked. JoinError."""
        peer, location = await self._join(f"/whep/{room}/{publisher}", None, profiles)
        subscriber = Subscriber(self, peer, location, opened)
        self.sessions.append(subscriber)
        return subscriber

    async def leave(self, sessions: Sequence[Publisher | Subscriber]) -> None:
        """DELETE the sessions, a few at a time, and close their transports."""
        gate = asyncio.Semaphore(16)

        async def one(session: Publisher | Subscriber) -> None:
            assert self._http is not None
            async with gate, self._http.delete(session.location, headers=self._headers):
                pass
            session.peer.close()
            session.stop()

        await asyncio.gather(*(one(session) for session in sessions))
        gone = {id(session) for session in sessions}
        self.sessions = [session for session in self.sessions if id(session) not in gone]

    async def _join(self, path: str, sources: Sources | None, profiles: Sequence[str]) -> tuple[Peer, str]:
        """HTTP, ICE and DTLS; returns the peer and the session's URL."""
        peer = Peer(self._contexts(profiles), self.host)
        try:
            answer, location = await self._post(path, offer(peer.local, sources))
            try:
                remote = read_answer(answer, self.host)
            except ValueError as error:
                raise JoinError(f"{path}: {error}") from error
            await peer.connect(remote, JOIN_TIMEOUT)
        except BaseException:
            asyncio.get_running_loop().remove_reader(peer.socket)
            peer.close()
            peer.socket.close()
            raise
        return peer, location

    async def _post(self, path: str, body: str) -> tuple[str, str]:
        assert self._http is not None
        headers = {"Content-Type": "application/sdp", **self._headers}
        try:
            async with self._http.post(self.base + path, data=body, headers=headers) as response:
                text = await response.text()
                if response.status != 201:
                    raise JoinError(f"{path}: {response.status} {text[:200]}")
                return text, urljoin(self.base + path, response.headers.get("Location", ""))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise JoinError(f"{path}: {type(error).__name__} {error}") from error

    def _contexts(self, profiles: Sequence[str]) -> DtlsContexts:
        key = tuple(profiles)
        if key not in self._dtls:
            self._dtls[key] = DtlsContexts(self._certificate, key)
        return self._dtls[key]
