"""A second WHIP/WHEP server, built on aiortc: it shares no code with the node, and its ICE is full and not lite.

Published VP8 and Opus are decoded and encoded again for every viewer, so it is slow; it is there to be different. It
can also misbehave. Run it as `python aiortc_server.py PORT [--fault …] [--stop-after N] [--die-after S]`; it prints
`listening` when it does. POST /whip/{room}/{identity}, POST /whep/{room}/{publisher}, DELETE on the session,
GET /stats: what was received, by "room/identity".
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
from dataclasses import dataclass, field
from typing import Any

import aioice.ice
from aiohttp import web
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError

HOST, SDP = "127.0.0.1", "application/sdp"
FAULTS = ("html", "empty", "nonsense", "refuse", "error", "hang", "redirect", "reset", "no-location", "elsewhere")
MIMES = {"video": "video/VP8", "audio": "audio/opus"}


class Stopping(MediaStreamTrack):
    """A relayed track that has so many frames (None: all that come), and then just waits."""

    def __init__(self, track: MediaStreamTrack, frames: int | None) -> None:
        super().__init__()
        self.kind, self._track, self._left = track.kind, track, frames

    async def recv(self) -> Any:
        if self._left is not None:
            if self._left == 0:
                await asyncio.Event().wait()
            self._left -= 1
        return await self._track.recv()


@dataclass
class Publisher:
    """Who publishes: the tracks and how many frames of each kind were decoded."""

    tracks: dict[str, MediaStreamTrack] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=lambda: {"audio": 0, "video": 0})


class Server:
    """All sessions. `fault` is one of FAULTS, answered to POST; stop_after: frames of each track for each viewer."""

    def __init__(self, fault: str | None = None, stop_after: int | None = None) -> None:
        self.publishers: dict[str, Publisher] = {}
        self.sessions: dict[str, RTCPeerConnection] = {}
        self._fault, self._stop_after = fault, stop_after
        self._relay = MediaRelay()
        self._readers: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port."""
        # aioice leaves loopback out, which is all that tests have.
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [HOST]
        app = web.Application()
        for kind, handler in (("whip", self._publish), ("whep", self._watch)):
            app.router.add_post(f"/{kind}/{{room}}/{{name}}", handler)
            app.router.add_delete(f"/{kind}/{{room}}/{{name}}/{{id}}", self._leave)
        app.router.add_get("/stats", self._stats)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """End all sessions and listen no more."""
        if self._runner:
            await self._runner.cleanup()
        await asyncio.gather(*(pc.close() for pc in self.sessions.values()))
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        if self._fault:
            return await misbehave(self._fault, request)
        key, pc, publisher = self._key(request), RTCPeerConnection(), Publisher()
        self.publishers[key] = publisher

        def take(track: MediaStreamTrack) -> None:
            publisher.tracks[track.kind] = track
            reader = asyncio.get_running_loop().create_task(self._count(publisher, track))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)

        pc.on("track", take)
        return await self._answer(request, pc)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if self._fault:
            return await misbehave(self._fault, request)
        publisher = self.publishers.get(self._key(request))
        if publisher is None:
            return web.json_response({"detail": "nobody publishes here"}, status=404)
        pc = RTCPeerConnection()
        for track in publisher.tracks.values():
            pc.addTrack(Stopping(self._relay.subscribe(track), self._stop_after))
        return await self._answer(request, pc)

    async def _answer(self, request: web.Request, pc: RTCPeerConnection) -> web.Response:
        session = secrets.token_hex(8)
        self.sessions[session] = pc
        try:
            offer = RTCSessionDescription(await request.text(), "offer")
            for transceiver in pc.getTransceivers():
                prefer(transceiver)  # before the codecs are matched
            await pc.setRemoteDescription(offer)
            for transceiver in pc.getTransceivers():
                prefer(transceiver)
            await pc.setLocalDescription(await pc.createAnswer())
        except Exception as error:  # aiortc has no error of its own for what it can't read
            await self.sessions.pop(session).close()
            return web.Response(status=400, text=f"{type(error).__name__}: {error}")
        headers = {"Location": f"{request.path}/{session}"}
        return web.Response(status=201, text=pc.localDescription.sdp, content_type=SDP, headers=headers)

    async def _leave(self, request: web.Request) -> web.Response:
        pc = self.sessions.pop(request.match_info["id"], None)
        if pc is None:
            return web.Response(status=404)
        await pc.close()
        return web.Response()

    async def _stats(self, request: web.Request) -> web.Response:
        frames = {key: publisher.frames for key, publisher in self.publishers.items()}
        return web.json_response({"frames": frames, "sessions": len(self.sessions)})

    async def _count(self, publisher: Publisher, track: MediaStreamTrack) -> None:
        """Decode whether somebody watches or not."""
        relayed = self._relay.subscribe(track)
        try:
            while True:
                await relayed.recv()
                publisher.frames[track.kind] += 1
        except MediaStreamError:
            return

    @staticmethod
    def _key(request: web.Request) -> str:
        return f"{request.match_info['room']}/{request.match_info['name']}"


def prefer(transceiver: Any) -> None:
    """VP8 and Opus only, with VP8's retransmissions."""
    mimes = (MIMES[transceiver.kind], "video/rtx")
    codecs = RTCRtpSender.getCapabilities(transceiver.kind).codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType in mimes])


async def misbehave(fault: str, request: web.Request) -> web.StreamResponse:
    """An answer that is none."""
    location = {"Location": f"{request.path}/1"}
    if fault == "hang":
        await asyncio.Event().wait()
    if fault == "reset" and request.transport:
        request.transport.abort()
    if fault == "redirect":
        raise web.HTTPTemporaryRedirect("http://192.0.2.1/whip")
    answers: dict[str, tuple[int, str, str, dict[str, str]]] = {
        "html": (201, "<html>It works!</html>", "text/html", location),
        "empty": (201, "", SDP, location),
        "nonsense": (201, "v=0\r\nthis is no session description\r\n", SDP, location),
        "refuse": (503, '{"detail": "full"}', "application/json", {"Retry-After": "3"}),
        "error": (500, "oh no", "text/plain", {}),
        "no-location": (201, "v=0\r\n", SDP, {}),
        "elsewhere": (201, "v=0\r\n", SDP, {"Location": "http://192.0.2.1/session"}),
    }
    status, text, kind, headers = answers.get(fault, (500, "", "text/plain", {}))
    return web.Response(status=status, text=text, content_type=kind, headers=headers)


async def main() -> None:
    """Serve until SIGTERM or SIGINT, or until the process is to die."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="0: any")
    parser.add_argument("--fault", choices=FAULTS, help="answer every POST so")
    parser.add_argument("--stop-after", type=int, metavar="N", help="send each viewer so many frames of a track")
    parser.add_argument("--die-after", type=float, metavar="S", help="exit at once, without a word to anybody")
    arguments = parser.parse_args()
    server, stop = Server(arguments.fault, arguments.stop_after), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if arguments.die_after is not None:
        loop.call_later(arguments.die_after, os._exit, 1)
    port = await server.start(arguments.port)
    print(f"listening http://{HOST}:{port}", flush=True)
    await stop.wait()
    await server.close()


if __name__ == "__main__":
    asyncio.run(main())
