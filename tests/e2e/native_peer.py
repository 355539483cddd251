"""A publisher made by hand on the load test's transport, for what no browser does: H.264 whose parameter sets come
once, and a ClientHello in two datagrams.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from urllib.parse import urljoin

import av
import numpy as np

from loadtest.stun import Address
from loadtest.transport.offers import Local, read_answer
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from tests.e2e.node import Node
from tests.unit.loadtest.transport.reading import ReadingPeer

H264, SSRC, RATE, MTU = 102, 0x1234567, 25, 1100
SINGLE, STAP_A, FU_A, IDR, SPS, PPS, CLIENT_HELLO = 23, 24, 28, 5, 7, 8, 1
HANDSHAKE, RECORD_HEADER, MESSAGE_HEADER = 22, 13, 12


def offer(local: Local) -> str:
    """An offer to send one H.264 stream without rids, without RTX, without header extensions."""
    return "\r\n".join(
        [
            "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
            f"m=video 9 UDP/TLS/RTP/SAVPF {H264}", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux",
            f"a=ice-ufrag:{local.ufrag}", f"a=ice-pwd:{local.password}", "a=setup:actpass",
            f"a=fingerprint:sha-256 {local.fingerprint}", f"a=rtpmap:{H264} H264/90000",
            f"a=fmtp:{H264} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            f"a=rtcp-fb:{H264} nack pli", f"a=ssrc:{SSRC} cname:native", "",
        ]
    )  # fmt: skip


def split_hello(datagram: bytes) -> list[bytes]:
    """A ClientHello as two fragments in two datagrams (RFC 6347 4.2.3); other datagrams as they are."""
    if datagram[0] != HANDSHAKE or datagram[RECORD_HEADER] != CLIENT_HELLO:
        return [datagram]
    header, message = datagram[:RECORD_HEADER], datagram[RECORD_HEADER:]
    kind, body = message[:6], message[MESSAGE_HEADER:]
    middle = len(body) // 2
    out = []
    # The second number leaves those between to the records that the client sends next.
    for number, at, piece in ((0, 0, body[:middle]), (40, middle, body[middle:])):
        fragment = kind + at.to_bytes(3) + len(piece).to_bytes(3) + piece
        out.append(header[:5] + number.to_bytes(6) + len(fragment).to_bytes(2) + fragment)
    return out


class HelloInTwo(ReadingPeer):
    """A peer whose ClientHello is too long for one datagram."""

    splits = 0

    def _put(self, data: bytes, address: Address | None) -> None:
        pieces = split_hello(data)
        self.splits += len(pieces) > 1
        for piece in pieces:
            super()._put(piece, address)


async def join(node: Node, path: str, peer: ReadingPeer, sdp: str) -> str:
    """WHIP or WHEP with a peer; returns the session's URL."""
    async with node.http.post(path, data=sdp, headers={"Content-Type": "application/sdp"}) as response:
        answer = await response.text()
        assert response.status == 201, f"{response.status} {answer}"
        location = urljoin(path, response.headers["Location"])
    await peer.connect(read_answer(answer), 10)
    peer.read(lambda data: None)
    peer.keep_alive()
    return location


def contexts() -> DtlsContexts:
    """DTLS contexts with a certificate of their own."""
    return DtlsContexts(Certificate.generate())


def units(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B stream."""
    return [unit.rstrip(b"\x00") for unit in stream.split(b"\x00\x00\x01")[1:]]


def encoded(size: tuple[int, int] = (320, 180)) -> Iterator[list[bytes]]:
    """Access units for ever: parameter sets before the first one only, an IDR picture each second."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "x264-params": f"keyint={RATE}"}
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base, encoder.options = "yuv420p", Fraction(1, RATE), options
    parameters: list[bytes] = []
    for number in itertools.count():
        picture = np.full((size[1], size[0], 3), 60, np.uint8)
        x = 4 * number % 200
        picture[40:120, x : x + 80] = (20, 200, 90)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        for packet in encoder.encode(frame):
            found = units(bytes(packet))
            kept = [unit for unit in found if unit[0] & 31 in (1, IDR)]
            if not parameters:
                parameters = [unit for unit in found if unit[0] & 31 in (SPS, PPS)]
                yield parameters + kept
            else:
                yield kept


def payloads(access_unit: list[bytes]) -> list[bytes]:
    """RTP payloads (RFC 6184): single units and FU-A."""
    out = []
    for unit in access_unit:
        if len(unit) <= MTU:
            out.append(unit)
            continue
        head, kind = unit[0] & 0xE0 | FU_A, unit[0] & 31
        pieces = [unit[at : at + MTU] for at in range(1, len(unit), MTU)]
        for k, piece in enumerate(pieces):
            mark = (k == 0) << 7 | (k == len(pieces) - 1) << 6
            out.append(bytes([head, mark | kind]) + piece)
    return out


async def send_h264(peer: ReadingPeer) -> None:
    """Send in real time until cancelled."""
    assert peer.contexts is not None
    loop, sequence, begun = asyncio.get_running_loop(), 1000, asyncio.get_running_loop().time()
    for number, access_unit in enumerate(encoded()):
        parts = payloads(access_unit)
        for k, payload in enumerate(parts):
            second = H264 | (k == len(parts) - 1) << 7
            header = struct.pack("!BBHII", 0x80, second, sequence & 0xFFFF, number * 90000 // RATE, SSRC)
            peer.send(peer.contexts._outbound.protect(header + payload))
            sequence += 1
        await asyncio.sleep(max(0.0, begun + (number + 1) / RATE - loop.time()))  # the pace of a live source
