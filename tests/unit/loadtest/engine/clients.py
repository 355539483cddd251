"""An engine with clients whose sockets end at servers of the test's own, which seal, open and count."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pylibsrtp import Policy, Session

from loadtest.clips.reel import Reel
from loadtest.engine.engine import ClientEngine, LinkSettings
from loadtest.engine.layout import MS, VIDEO
from loadtest.engine.loop import turn
from loadtest.engine.media import Media
from mediacodecs.extensions import ABS_CAPTURE_TIME, TWCC
from mediacodecs.frame import OPUS, VP8
from packetio.srtp import GCM, KEY_BYTES, PROFILES, SrtpContexts
from tests.unit.loadtest.engine.watching import opus

START = 1_000_000_000_000
KEY = b"k" * KEY_BYTES[GCM]
TYPE, RTX_TYPE, AUDIO_TYPE, TWCC_ID, CAPTURE_ID = 96, 97, 111, 3, 7
KINDS = {TWCC_ID: TWCC, CAPTURE_ID: ABS_CAPTURE_TIME}
MEDIA = Media({TYPE: VP8, AUDIO_TYPE: OPUS}, {RTX_TYPE: TYPE}, KINDS, {kind: key for key, kind in KINDS.items()})
STUN = b"\x01\x01" + bytes(18)


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd"))


@dataclass(eq=False)
class Client:
    """One client: its row, its socket and contexts, and the server's end."""

    engine: ClientEngine
    index: int
    sock: socket.socket
    contexts: SrtpContexts
    server: socket.socket
    sealer: Session
    opener: Session
    sequence: int = 100

    @property
    def row(self) -> Any:
        return self.engine.clients.rows[self.index]

    def send(self, count: int = 1, sent: int = START) -> None:
        """Let so many packets of sound come."""
        for _ in range(count):
            self.server.send(self.sealer.protect(opus(self.sequence, sent).data()))
            self.sequence += 1

    def came(self) -> list[bytes]:
        """What has come to the server, as it came."""
        found = []
        while True:
            try:
                found.append(self.server.recv(2048))
            except BlockingIOError:
                return found

    def media(self) -> list[bytes]:
        """The RTP that has come to the server, opened."""
        sealed = [data for data in self.came() if not 192 <= data[1] <= 223]
        return [self.opener.unprotect(data) for data in sealed]


def session(kind: int) -> Session:
    return Session(Policy(KEY, kind, srtp_profile=PROFILES[GCM]))


def pair(receive_buffer: int = 1 << 20) -> tuple[socket.socket, socket.socket]:
    """Two sockets that are tied together."""
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
    for sock in made:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind(("127.0.0.1", 0))
    for sock, other in (made, made[::-1]):
        sock.connect(other.getsockname())
    return made[0], made[1]


class StillEngine(ClientEngine):
    """An engine that may also be without its thread: then it does what it does when the test says so."""

    def turn_at(self, now: int) -> int:
        """One pass at this time; returns the datagrams that came."""
        self.state.fake_now = now
        return int(turn(self.state, self.clients.count))

    async def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(0 if self._thread.is_alive() else 10):
            if not done():
                self.turn_at(int(self.state.now) + 1)
        await super()._until(done)


class Served:
    """An engine and its clients; without `start` its clock is the test's."""

    def __init__(self, capacity: int = 4, publishers: int = 2, **options: Any) -> None:
        self.engine = StillEngine(capacity, publishers, **options)
        self.clients: list[Client] = []
        self.now = START

    def join(
        self,
        group: int = 0,
        *,
        reel: Reel | None = None,
        down: LinkSettings | None = None,
        up: LinkSettings | None = None,
        receive_buffer: int = 1 << 20,
        opened: bool = True,
        early: Sequence[tuple[int, bytes]] = (),
    ) -> Client:
        """One more client, that publishes `reel` if there is one."""
        engine = self.engine
        index = engine.reserve(group)
        engine.set_network(index, down, up, seed=3)
        sock, server = pair(receive_buffer)
        contexts = SrtpContexts(GCM, KEY, KEY)
        engine.hand_over(index, sock, contexts, MEDIA, ssrc=70 + index, cname=f"peer{index}", early=early)
        kinds = session(Policy.SSRC_ANY_OUTBOUND), session(Policy.SSRC_ANY_INBOUND)
        client = Client(engine, index, sock, contexts, server, *kinds)
        self.clients.append(client)
        if reel:
            engine.add_source(index, reel, kind=VIDEO, ssrc=0xABC00 + index, payload_type=TYPE, burst=True)
        client.row.opened = 0 if reel else 2  # the sound that comes is synthetic
        if opened:
            engine.open(index)
        return client

    def run(self, ms: float = 1, step: float = 1) -> None:
        """Let time pass."""
        for _ in range(round(ms / step)):
            self.now += round(step * MS)
            self.engine.turn_at(self.now)

    def close(self) -> None:
        self.engine.stop()
        for client in self.clients:
            client.server.close()
