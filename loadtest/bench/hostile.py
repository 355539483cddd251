"""A hostile member: it has joined as anybody may, with keys of its own, and then does one thing as fast as it can.

Kinds: `dtls` (records that look like DTLS, from its own address), `addresses` (nominated checks from one source port
after the other), `epochs` (RTP whose sequence number jumps at every packet), `media` (RTP at full speed), `nacks`
(everything is asked for again, all the time). Runs as a process of its own: `python -m loadtest.bench.hostile URL ROOM
KIND SECONDS` joins, prints "joined", and in the end the number of datagrams sent.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from loadtest.drivers.whip_whep import WhipWhep
from loadtest.stun import binding_request, new_transaction
from loadtest.transport.offers import Features, PublishSpec, Remote, publish_offer, read_answer, watch_offer
from loadtest.transport.peer import Peer
from mediacodecs.sdp import parse_sdp
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts

KINDS = ("dtls", "addresses", "epochs", "media", "nacks")
PUBLISHERS = {"epochs", "media"}
VICTIM = "p"  # identity of the publisher that a hostile viewer watches
BATCH = 32  # datagrams between two looks at the clock
CHECK_EVERY = 1.0  # seconds: it stays alive as everybody does
JUMP = 5000  # sequence numbers from one packet to the next
RECORD = bytes([23, 0xFE, 0xFD]) + bytes(8) + b"\x00\x20"  # application data of 32 bytes (RFC 6347 4.1)


class Hostile:
    """The member and its means."""

    def __init__(self, peer: Peer, remote: Remote, spec: PublishSpec, streams: Sequence[int]) -> None:
        """`streams`: the SSRCs that it is sent."""
        self.peer, self.remote, self.spec, self.streams = peer, remote, spec, streams
        self.socket = peer.detach()
        assert peer.contexts is not None
        self.contexts = peer.contexts
        self.server = self.socket.getpeername()
        self.others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]

    def check(self) -> bytes:
        """A nominated connectivity check."""
        names = f"{self.remote.ufrag}:{self.peer.local.ufrag}"
        return binding_request(names, self.remote.password, new_transaction(), 1)

    def attack(self, kind: str, seconds: float) -> int:
        """Do it for so long; returns the datagrams sent."""
        act, sent = getattr(self, kind)(), 0
        end = time.monotonic() + seconds
        alive = 0.0
        while (now := time.monotonic()) < end:
            if now > alive:
                self.socket.send(self.check())
                alive = now + CHECK_EVERY
            for one in itertools.islice(act, BATCH):
                try:
                    one()
                    sent += 1
                except OSError:  # the kernel has no room: that is no reason to rest
                    pass
        return sent

    def dtls(self) -> Iterator[Callable[[], object]]:
        """Records that nobody can open."""
        while True:
            data = RECORD + os.urandom(32)
            for _ in range(BATCH):
                yield lambda data=data: self.socket.send(data)  # type: ignore[misc]

    def addresses(self) -> Iterator[Callable[[], object]]:
        """A check from another port each time."""
        for sock in itertools.cycle(self.others):
            yield lambda sock=sock: sock.sendto(self.check(), self.server)  # type: ignore[misc]

    def epochs(self) -> Iterator[Callable[[], object]]:
        """Two packets in a row, then a jump: what a receiver takes for a new beginning (RFC 3550 A.1)."""
        for k in itertools.count():
            for step in range(2):
                yield lambda number=k * JUMP + step: self._rtp(number)  # type: ignore[misc]

    def media(self) -> Iterator[Callable[[], object]]:
        """One packet after the other."""
        for number in itertools.count():
            yield lambda number=number: self._rtp(number)  # type: ignore[misc]

    def nacks(self) -> Iterator[Callable[[], object]]:
        """NACKs for all that there may be, for each stream (RFC 4585 6.2.1)."""
        for start in itertools.count(0, 17 * 200):
            for ssrc in self.streams:
                entries = b"".join(struct.pack("!HH", (start + 17 * k) & 0xFFFF, 0xFFFF) for k in range(200))
                yield lambda ssrc=ssrc, entries=entries: self._rtcp(ssrc, entries)  # type: ignore[misc]

    def _rtp(self, number: int) -> None:
        section = self.remote.section("video")
        assert section is not None
        head = struct.pack("!BBHII", 0x80, section.payload_type, number & 0xFFFF, 90 * number & 0xFFFFFFFF, self.ssrc)
        self.socket.send(self.contexts.protect(head + b"\x10\x00" + bytes(600)))

    def _rtcp(self, ssrc: int, entries: bytes) -> None:
        head = struct.pack("!BBHII", 0x81, 205, 2 + len(entries) // 4, 1, ssrc)
        self.socket.send(self.contexts.protect_rtcp(head + entries))

    @property
    def ssrc(self) -> int:
        """Of its video."""
        return self.spec.ssrcs.video[0]


async def join(base: str, room: str, kind: str) -> Hostile:
    """Join as everybody does. DriverError, JoinError."""
    peer = Peer(DtlsContexts(Certificate.generate()))
    driver, spec = WhipWhep(base), PublishSpec()
    try:
        if kind in PUBLISHERS:
            accepted = await driver.publish(room, "hostile", publish_offer(peer.local, spec, Features()))
            remote = read_answer(accepted.answer, spec)
        else:
            offer = watch_offer(peer.local, features=Features())
            accepted = await driver.subscribe(room, "hostile", VICTIM, offer, None)
            remote = read_answer(accepted.answer, None)
        await peer.connect(remote, 20)
    finally:
        await driver.close()
    streams = [ssrc for section in parse_sdp(accepted.answer).media for ssrc in section.ssrcs]
    return Hostile(peer, remote, spec, streams)


def main(base: str, room: str, kind: str, seconds: float) -> None:
    """Join, say so, attack, and tell how much."""
    if kind not in KINDS:
        raise SystemExit(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    hostile = asyncio.run(join(base, room, kind))
    print("joined", flush=True)
    print(hostile.attack(kind, seconds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
