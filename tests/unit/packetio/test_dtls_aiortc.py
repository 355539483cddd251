"""Our DTLS endpoint against aiortc's, in either role, over an ICE transport made of two queues."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from pylibsrtp import Policy, Session

from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts, DtlsEndpoint, State

RTP = bytes.fromhex("8060000100000002cafebabe") + bytes(100)
CONTEXTS = DtlsContexts(Certificate.generate())


class FakeIce:
    """What RTCDtlsTransport needs of an RTCIceTransport. It sends to `endpoint`, whose datagrams it receives."""

    def __init__(self, role: str) -> None:
        self.role, self.state = role, "completed"
        self.endpoint: DtlsEndpoint
        self.arriving: asyncio.Queue[bytes] = asyncio.Queue()

    async def _recv(self) -> bytes:
        return await self.arriving.get()

    async def _send(self, data: bytes) -> None:
        self.endpoint.receive(data, 0.0)
        self.deliver()

    def deliver(self) -> None:
        for datagram in self.endpoint.datagrams():
            self.arriving.put_nowait(datagram)


async def connect(server: bool, algorithm: str = "sha-256") -> tuple[DtlsEndpoint, Any, FakeIce]:
    """Our endpoint, in the role asked for, connected to aiortc's transport in the other."""
    ice = FakeIce("controlled" if server else "controlling")  # aiortc is the client when controlled
    certificate = RTCCertificate.generateCertificate()
    theirs = RTCDtlsTransport(ice, [certificate])  # type: ignore[arg-type, unused-ignore]
    offered = [(f.algorithm, f.value) for f in certificate.getFingerprints() if f.algorithm == algorithm]
    ice.endpoint = ours = DtlsEndpoint(CONTEXTS, server, offered)
    ours.start(0.0)
    ice.deliver()
    fingerprints = [RTCDtlsFingerprint("sha-256", CONTEXTS.certificate.fingerprint)]
    await asyncio.wait_for(theirs.start(RTCDtlsParameters(fingerprints)), 5)
    return ours, theirs, ice


async def closed(theirs: Any) -> None:
    while theirs.state != "closed":
        await asyncio.sleep(0)


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
async def test_connects_and_srtp_flows_both_ways(server: bool, algorithm: str) -> None:
    ours, theirs, _ = await connect(server, algorithm)
    assert ours.state is State.CONNECTED and theirs.state == "connected"
    assert ours.srtp_profile == "SRTP_AEAD_AES_128_GCM"
    profile = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    send = Session(Policy(ours.srtp_keys()[0], Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    receive = Session(Policy(ours.srtp_keys()[1], Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    assert receive.unprotect(theirs._tx_srtp.protect(RTP)) == RTP
    assert theirs._rx_srtp.unprotect(send.protect(RTP)) == RTP
    await theirs.stop()


@pytest.mark.parametrize("shrunk", [True, False])
@pytest.mark.parametrize("server", [True, False])
async def test_our_close_notify_closes_aiortc(server: bool, shrunk: bool) -> None:
    ours, theirs, ice = await connect(server)
    if shrunk:
        ours.shrink()
    ours.close()
    ice.deliver()
    await asyncio.wait_for(closed(theirs), 5)


@pytest.mark.parametrize("shrunk", [True, False])
@pytest.mark.parametrize("server", [True, False])
async def test_aiortc_stopping_closes_us(server: bool, shrunk: bool) -> None:
    ours, theirs, _ = await connect(server)
    if shrunk:
        ours.shrink()
    await theirs.stop()
    assert ours.state is State.CLOSED
