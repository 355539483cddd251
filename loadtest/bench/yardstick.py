"""The yardstick: a forwarder in pure Python, as one would build it from aiortc's parts, behind WHIP and WHEP.

asyncio's datagram protocol, aioice's STUN, aiortc's RTP packets and pylibsrtp sessions: every packet is opened, parsed,
given the subscriber's numbers, serialised and protected in Python, once for every subscriber. It serves one room to the
same clients and the same measurement as the node. DTLS is ours: the handshake is not what is measured.
Run: `python -m loadtest.bench.yardstick HTTP_PORT UDP_PORT`.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from aioice import stun
from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from pylibsrtp import Error, Policy, Session

from mediacodecs.sdp import Candidate, Fingerprint, MediaDescription, SessionDescription, parse_sdp, serialise
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts, DtlsEndpoint, State
from packetio.srtp import PROFILES

Address = tuple[str, int]


@dataclass
class Member:
    """A publisher or a subscriber."""

    endpoint: DtlsEndpoint
    password: str
    publishes: bool
    address: Address | None = None
    inbound: Session | None = None
    outbound: Session | None = None
    ssrcs: dict[int, int] = field(default_factory=dict)  # the publisher's to the subscriber's
    numbers: dict[int, int] = field(default_factory=dict)


class Forwarder(asyncio.DatagramProtocol):
    """One room: what any publisher sends goes to all subscribers."""

    def __init__(self) -> None:
        self.contexts = DtlsContexts(Certificate.generate())
        self.by_ufrag: dict[str, Member] = {}
        self.by_address: dict[Address, Member] = {}
        self.transport: asyncio.DatagramTransport | None = None
        self._extensions = HeaderExtensionsMap()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio gives us the socket."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Demultiplex by the first byte (RFC 7983)."""
        member = self.by_address.get(addr)
        if data[0] <= 3:
            self._check(data, addr)
        elif member and 20 <= data[0] <= 63:
            self._handshake(member, data)
        elif member and member.inbound and member.publishes and not 192 <= data[1] <= 223:
            self._forward(member.inbound, data)

    def _check(self, data: bytes, addr: Address) -> None:
        try:
            request = stun.parse_message(data)
            member = self.by_ufrag[request.attributes["USERNAME"].split(":")[0]]
        except (ValueError, KeyError):
            return
        if not request.check_message_integrity(member.password.encode()):
            return
        member.address = addr
        self.by_address[addr] = member
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = addr
        response.add_message_integrity(member.password.encode())
        self._send(bytes(response), addr)

    def _handshake(self, member: Member, data: bytes) -> None:
        member.endpoint.receive(data, time.monotonic())
        for datagram in member.endpoint.datagrams():
            assert member.address
            self._send(datagram, member.address)
        if member.endpoint.state is State.CONNECTED and member.outbound is None:
            profile = PROFILES[member.endpoint.srtp_profile]
            local, remote = member.endpoint.srtp_keys()
            member.outbound = Session(Policy(local, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
            member.inbound = Session(Policy(remote, Policy.SSRC_ANY_INBOUND, srtp_profile=profile))

    def _forward(self, inbound: Session, data: bytes) -> None:
        try:
            packet = RtpPacket.parse(inbound.unprotect(data), self._extensions)
        except (Error, ValueError):
            return
        ssrc = packet.ssrc
        for member in self.by_ufrag.values():
            if member.publishes or member.outbound is None or member.address is None:
                continue
            number = member.numbers.get(ssrc, -1) + 1
            member.numbers[ssrc] = number
            packet.ssrc = member.ssrcs.setdefault(ssrc, secrets.randbits(32))
            packet.sequence_number = number & 0xFFFF
            self._send(member.outbound.protect(packet.serialize(self._extensions)), member.address)

    def _send(self, data: bytes, addr: Address) -> None:
        assert self.transport
        self.transport.sendto(data, addr)


def answer(forwarder: Forwarder, text: str, publishes: bool, port: int) -> str:
    """Admit a peer: the answer to its offer."""
    wanted = parse_sdp(text)
    first = wanted.media[0]
    ufrag, password = secrets.token_hex(4), secrets.token_hex(12)
    prints = [(p.algorithm, p.value) for p in first.fingerprints]
    forwarder.by_ufrag[ufrag] = Member(DtlsEndpoint(forwarder.contexts, True, prints), password, publishes)
    sections = [_section(forwarder, m, ufrag, password, publishes) for m in wanted.media]
    sections[0].candidates = [Candidate("1", 1, "udp", 2130706431, "127.0.0.1", port, "host")]
    return serialise(SessionDescription(ice_lite=True, bundles=wanted.bundles, media=sections))


def _section(
    forwarder: Forwarder, offered: MediaDescription, ufrag: str, password: str, publishes: bool
) -> MediaDescription:
    return MediaDescription(
        kind=offered.kind,
        formats=offered.formats,
        rtpmap=offered.rtpmap,
        fmtp=offered.fmtp,
        extmap=offered.extmap,
        mid=offered.mid,
        address="127.0.0.1",
        ice_ufrag=ufrag,
        ice_pwd=password,
        fingerprints=[Fingerprint("sha-256", forwarder.contexts.certificate.fingerprint)],
        setup="passive",
        direction="recvonly" if publishes else "sendonly",
        rtcp_mux=True,
    )


def application(forwarder: Forwarder, port: int) -> web.Application:
    """The HTTP side."""

    async def join(request: web.Request) -> web.Response:
        body = answer(forwarder, await request.text(), request.path.startswith("/whip"), port)
        headers = {"Location": f"{request.path}/{secrets.token_hex(8)}"}
        return web.Response(status=201, text=body, content_type="application/sdp", headers=headers)

    async def leave(request: web.Request) -> web.Response:
        return web.Response()

    async def ready(request: web.Request) -> web.Response:
        return web.Response(text="ready")

    app = web.Application()
    app.router.add_get("/readyz", ready)
    for path in ("/whip/{room}/{identity}", "/whep/{room}/{identity}"):
        app.router.add_post(path, join)
        app.router.add_delete(path + "/{session}", leave)
    return app


async def serve(http_port: int, udp_port: int, ready: asyncio.Event | None = None) -> None:
    """Run until cancelled; sets `ready` once joins are answered."""
    address = ("127.0.0.1", udp_port)
    transport, forwarder = await asyncio.get_running_loop().create_datagram_endpoint(Forwarder, address)
    runner = web.AppRunner(application(forwarder, udp_port), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", http_port).start()
        if ready:
            ready.set()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        transport.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
