"""Real peers for engine tests without HTTP and DTLS: UDP sockets, ICE checks and SRTP by pylibsrtp, keys agreed by
hand.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aioice import stun
from pylibsrtp import Error, Policy, Session

from config.schema import Config
from mediaserver.engine.engine import Engine, Transport, Worker
from packetio.srtp import GCM, PROFILES, SrtpContexts

KEY = {"SRTP_AEAD_AES_128_GCM": 28, "SRTP_AES128_CM_SHA1_80": 30}


@dataclass
class Rtp:
    """One opened RTP packet."""

    payload_type: int
    marker: int
    sequence: int
    timestamp: int
    ssrc: int
    extensions: dict[int, bytes]
    payload: bytes
    padding: int
    raw: bytes = field(repr=False)


def parse(data: bytes) -> Rtp:
    """A plain RTP parser, independent of the node's."""
    first, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", data[:12])
    at = 12 + 4 * (first & 15)
    extensions: dict[int, bytes] = {}
    if first & 0x10:
        profile, words = struct.unpack("!HH", data[at : at + 4])
        block, at = data[at + 4 : at + 4 + 4 * words], at + 4 + 4 * words
        k = 0
        while k < len(block):
            if block[k] == 0:
                k += 1
            elif profile == 0xBEDE:
                extensions[block[k] >> 4] = block[k + 1 : k + 2 + (block[k] & 15)]
                k += 2 + (block[k] & 15)
            else:
                extensions[block[k]] = block[k + 2 : k + 2 + block[k + 1]]
                k += 2 + block[k + 1]
    padding = data[-1] if first & 0x20 else 0
    payload = data[at : len(data) - padding]
    return Rtp(second & 127, second >> 7, sequence, timestamp, ssrc, extensions, payload, padding, data)


def build(
    payload: bytes, *, pt: int, seq: int, ts: int, ssrc: int, marker: int = 0, ext: dict[int, bytes] | None = None
) -> bytes:
    """One RTP packet with one-byte extensions."""
    block = b"".join(bytes([i << 4 | len(v) - 1]) + v for i, v in (ext or {}).items())
    block += bytes(-len(block) % 4)
    head = struct.pack("!BBHII", 0x90 if ext else 0x80, marker << 7 | pt, seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc)
    return head + (struct.pack("!HH", 0xBEDE, len(block) // 4) + block if ext else b"") + payload


class Peer:
    """One ICE-controlling peer with SRTP keys."""

    def __init__(self, engine: Engine, worker: Worker, profile: str = GCM) -> None:
        self.profile = profile
        self.ufrag, self.password = secrets.token_hex(4), secrets.token_hex(12)
        self.transport: Transport = engine.open_transport(worker, self.ufrag, self.password)
        self.own_password = secrets.token_hex(12)
        self.transport.know_peer(self.own_password, calls=False)
        self.server = ("127.0.0.1", worker.port)
        self.sock = self.new_socket()
        ours, theirs = os.urandom(KEY[profile]), os.urandom(KEY[profile])
        self.sender = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile]))
        policy = Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile])
        policy.window_size = 4096
        self.opener = Session(policy)
        self.contexts = SrtpContexts(profile, theirs, ours)
        self.connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.transport.on_connected = lambda address: self.connected.set_result(address)
        self.received: list[Rtp] = []
        self.rtcp: list[bytes] = []

    @staticmethod
    def new_socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def check(self, *, nominate: bool = True, sock: socket.socket | None = None, password: str | None = None) -> None:
        """Send one connectivity check."""
        message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{self.ufrag}:remote"
        message.attributes["PRIORITY"] = 1
        message.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            message.attributes["USE-CANDIDATE"] = None
        message.add_message_integrity((password or self.password).encode())
        (sock or self.sock).sendto(bytes(message), self.server)

    def response(self, request: bytes) -> bytes:
        """The answer to a check."""
        asked = stun.parse_message(request)
        assert asked.attributes["USERNAME"] == f"remote:{self.ufrag}"
        message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=asked.transaction_id)
        message.attributes["XOR-MAPPED-ADDRESS"] = self.sock.getsockname()
        message.add_message_integrity(self.own_password.encode())
        message.add_fingerprint()
        return bytes(message)

    async def connect(self) -> None:
        """Check, wait for the engine to see it, agree on keys."""
        self.check()
        await asyncio.wait_for(self.connected, 5)
        self.transport.secure(self.contexts)
        await until(lambda: self.transport.record.secured == 1)

    def send(self, packet: bytes) -> None:
        """Protect and send one RTP packet."""
        self.sock.sendto(self.sender.protect(packet), self.server)

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send one compound RTCP packet."""
        self.sock.sendto(self.sender.protect_rtcp(packet), self.server)

    def drain(self) -> None:
        """Open all that has come, and answer the node's own checks as a full ICE agent does."""
        for data in datagrams(self.sock):
            if data[:2] == b"\x00\x01":
                self.sock.sendto(self.response(data), self.server)
            elif 192 <= data[1] <= 223 and data[0] >> 6 == 2:
                self.rtcp.append(self.opener.unprotect_rtcp(data))
            elif data[0] >> 6 == 2:
                try:
                    self.received.append(parse(self.opener.unprotect(data)))
                except Error as error:
                    raise AssertionError(f"sent by the engine, not opened by libsrtp: {error}") from error

    async def receive(self, count: int, ssrc: int | None = None) -> list[Rtp]:
        """Wait until `count` packets (of an SSRC) have come; all of them."""

        def got() -> list[Rtp]:
            return [p for p in self.received if ssrc is None or p.ssrc == ssrc]

        def enough() -> bool:
            self.drain()
            return len(got()) >= count

        await until(enough)
        return got()

    def close(self) -> None:
        self.sock.close()


def datagrams(sock: socket.socket) -> Iterator[bytes]:
    """What waits in a socket."""
    while True:
        try:
            yield sock.recv(65536)
        except BlockingIOError:
            return


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Let the loop run until something is true; fails after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "waited in vain"
        await asyncio.sleep(0.002)


def free_port(count: int = 1) -> int:
    """A UDP port from which `count` in a row are free on loopback."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        try:
            held = []
            for k in range(count):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                held.append(sock)
                sock.bind(("127.0.0.1", port + k))
            return port
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()


def small_config(workers: int = 1, **media: Any) -> Config:
    """A configuration with small tables, so that tests start fast and limits are near."""
    return Config.model_validate(
        {
            "media": {"host": "127.0.0.1", "port": free_port(workers), "workers": workers, **media},
            "limits": {"transports": 32, "publishers": 8, "layers": 16, "subscriptions": 64},
            "logs": {
                "video": {"count": 12, "packets": 1024, "bytes": 1 << 20},
                "audio": {"count": 8, "packets": 256, "bytes": 1 << 16},
            },
            "auth": {"required": False},
        }
    )
