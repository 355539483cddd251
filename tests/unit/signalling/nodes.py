"""A whole node in this process, asked over a real socket, and real ICE and DTLS peers that join it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp
import jwt
from prometheus_client.parser import text_string_to_metric_families

from config.schema import Config
from loadtest.stun import new_transaction
from loadtest.transport.ice import Credentials
from loadtest.transport.offers import Features, Local, PublishSpec, Ssrcs, publish_offer, read_answer, watch_offer
from mediacodecs.extensions import AUDIO_LEVEL, MID, TWCC
from mediaserver.engine.warm import warm
from mediaserver.node import Node
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from tests.unit.engine.peers import Rtp, build, free_port, parse
from tests.unit.loadtest.transport.reading import ReadingPeer

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
KEY, SECRET = "unit", "a-secret-for-the-unit-tests-and-no-more"
VP8_TYPE, RTX_TYPE, OPUS_TYPE, MID_ID = 96, 97, 111, 4
DTLS = DtlsContexts(Certificate.generate())
LITTLE = Features(codecs=("vp8",), extensions=frozenset({AUDIO_LEVEL, MID, TWCC}))
NOWHERE = Local("abcd", "p" * 24, ":".join(["AB"] * 32), "127.0.0.1", 9)
OFFER = watch_offer(NOWHERE, features=LITTLE)  # of nobody who could be reached
Json = dict[str, Any]


def free_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(**sections: Any) -> Config:
    """Small tables, loopback, no tokens; `sections` are laid over that."""
    base: Json = {
        "http": {"host": "127.0.0.1", "port": free_tcp_port()},
        "media": {"host": "127.0.0.1", "port": free_port()},
        "limits": {
            "transports": 32, "publishers": 8, "layers": 16, "subscriptions": 64, "unlimited_loopback_joins": True,
        },
        "logs": {
            "video": {"count": 12, "packets": 1024, "bytes": 1 << 20},
            "audio": {"count": 8, "packets": 256, "bytes": 1 << 16},
        },
        "auth": {"required": False, "keys": {KEY: SECRET}},
    }  # fmt: skip
    merged = {key: {**base.get(key, {}), **value} for key, value in sections.items() if isinstance(value, dict)}
    return Config.model_validate(base | sections | merged)


class Running:
    """A node and an HTTP client of it."""

    def __init__(self, node: Node, http: aiohttp.ClientSession) -> None:
        self.node, self.http = node, http
        self.peers: list[Joined] = []

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
        """Status, headers and body: parsed when it is JSON."""
        async with self.http.request(method, path, **more) as response:
            text = await response.text()
            body = json.loads(text) if "json" in response.content_type and text else text
            return response.status, response.headers, body

    async def refused(self, status: int, method: str, path: str, **more: Any) -> tuple[Any, Json]:
        """The headers and the JSON problem of a refusal with this status."""
        found, headers, body = await self.ask(method, path, **more)
        assert found == status, (found, body)
        assert headers["Content-Type"].startswith("application/problem+json")
        assert body["status"] == status and body["title"] and len(body["detail"]) > 10 and body["type"]
        return headers, body

    async def join(self, path: str, *, connect: bool = True, change: Callable[[str], str] = str) -> Joined:
        """Publish or watch with a peer of its own; `change` edits the offer."""
        spec = PublishSpec() if path.startswith("/whip") else None
        joined = Joined(ReadingPeer(DTLS), spec.ssrcs if spec else None)
        self.peers.append(joined)
        local = joined.peer.local
        sdp = change(publish_offer(local, spec, LITTLE) if spec else watch_offer(local, features=LITTLE))
        status, joined.headers, joined.answer = await self.ask("POST", path, data=sdp, headers=SDP)
        assert status == 201, (status, joined.answer)
        joined.location = urljoin(path, joined.headers["Location"])
        if connect:
            await joined.connect()
        return joined

    async def join_as(self, path: str, headers: Json) -> str:
        """Watch or publish with a token, without a peer; returns the session's path."""
        status, given, body = await self.ask("POST", path, data=OFFER, headers=SDP | headers)
        assert status == 201, (status, body)
        return str(given["Location"])

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the samples with these labels."""
        _, _, text = await self.ask("GET", "/metrics")
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
        assert samples, name
        return float(sum(s.value for s in samples if labels.items() <= s.labels.items()))


class Joined:
    """A peer that has joined: what it was told, and what it has received."""

    def __init__(self, peer: ReadingPeer, sources: Ssrcs | None) -> None:
        self.peer, self.sources = peer, sources
        self.location, self.answer = "", ""
        self.headers: Any = None
        self.packets: list[Rtp] = []
        self.rtcp: list[bytes] = []
        self.order: list[str] = []  # "rtp", "rtcp" and "dtls" as they came
        self.sequence = 100

    async def connect(self) -> None:
        """ICE and DTLS."""
        await self.peer.connect(read_answer(self.answer), 5)
        self.peer.read(self._receive)

    def check(self, ufrag: str = "", password: str = "") -> None:
        """Send a connectivity check now, with new credentials of the node's if given."""
        agent = self.peer._agent
        assert agent and agent.selected
        if ufrag:
            agent._names = Credentials(self.peer.local.ufrag, self.peer.local.password, ufrag, password)
        agent._send(agent.selected, new_transaction(), nominate=True)
        self.peer._advance()

    def _receive(self, data: bytes) -> None:
        assert self.peer.contexts
        if 192 <= data[1] <= 223:
            self.rtcp.append(self.peer.contexts._inbound.unprotect_rtcp(data))
            self.order.append("rtcp")
        else:
            self.packets.append(parse(self.peer.contexts._inbound.unprotect(data)))
            self.order.append("rtp")

    @property
    def dtls(self) -> str:
        """The state of its DTLS association."""
        return str(self.peer._endpoint.state) if self.peer._endpoint else "new"

    def send_video(
        self, count: int = 1, *, key: bool = True, ssrc: int = 0, size: tuple[int, int] = (640, 480)
    ) -> None:
        """So many frames of one packet."""
        assert self.sources and self.peer.contexts
        for _ in range(count):
            self.sequence += 1
            payload = vp8(self.sequence, key=key, size=size)
            where = {"pt": VP8_TYPE, "seq": self.sequence, "ts": 3000 * self.sequence, "marker": 1}
            packet = build(payload, ssrc=ssrc or self.sources.video[0], ext={MID_ID: b"1"}, **where)
            self.peer.send(self.peer.contexts._outbound.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        assert self.peer.contexts
        self.peer.send(self.peer.contexts._outbound.protect_rtcp(packet))


def vp8(picture: int, *, key: bool, size: tuple[int, int] = (640, 480)) -> bytes:
    """A VP8 payload of one frame with a 15-bit picture id; a keyframe tells its size."""
    head = b"\x11\x00\x00"
    if key:
        head = b"\x10\x00\x00\x9d\x01\x2a" + b"".join(side.to_bytes(2, "little") for side in size)
    return b"\x90\x80" + (0x8000 | picture & 0x7FFF).to_bytes(2, "big") + head + bytes(200)


def token(room: str, identity: str | None = "alice", *, exp: int = 60, secret: str = SECRET, **grants: Any) -> Json:
    """The Authorization header of a bearer; `grants` replace or add to the usual ones."""
    now = int(time.time())
    video = {"room": room, "roomJoin": True, "canPublish": True, "canSubscribe": True} | grants
    claims = {"iss": KEY, "nbf": now - 5, "exp": now + exp, "video": video}
    if identity is not None:
        claims["sub"] = identity
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}


@asynccontextmanager
async def running(**sections: Any) -> AsyncIterator[Running]:
    """A node with a configuration of its own."""
    warm(lambda name, done, total: None)
    config = configuration(**sections)
    node = Node(config)
    await node.start()
    base = f"http://127.0.0.1:{config.http.port}"
    try:
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(total=10)) as http:
            made = Running(node, http)
            try:
                yield made
            finally:
                for joined in made.peers:
                    joined.peer.close()
    finally:
        await node.stop()
