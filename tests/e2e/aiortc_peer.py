"""WHIP and WHEP clients on aiortc: a WebRTC stack that shares nothing with the browser's or the node's.

Run as a program it publishes until it is killed: `python aiortc_peer.py BASE ROOM IDENTITY`.
"""

from __future__ import annotations

import asyncio
import fractions
import sys
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack

RATE = 20  # frames per second


class Squares(VideoStreamTrack):
    """A moving picture of 320x240."""

    count = 0

    async def recv(self) -> av.VideoFrame:
        timestamp, base = await self.next_timestamp()
        self.count += 1
        picture = np.full((240, 320, 3), 40, np.uint8)
        x = 4 * self.count % 240
        picture[80:160, x : x + 80] = (200, 120, 30)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = timestamp, fractions.Fraction(base)
        return frame


class Client:
    """One WHIP or WHEP session; an asynchronous context."""

    def __init__(self, base: str, path: str) -> None:
        self.url = base + path
        self.pc = RTCPeerConnection()
        self.frames = {"audio": 0, "video": 0}
        self.sizes: set[tuple[int, int]] = set()
        self.location = ""
        self._readers: list[asyncio.Task[None]] = []
        self.pc.on("track", self._read)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.pc.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def publish(self, mime: str = "video/VP8") -> None:
        """Send sound and a moving picture."""
        self.pc.addTrack(AudioStreamTrack())
        self.pc.addTrack(Squares())
        codecs = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType in (mime, "video/rtx")]
        self.pc.getTransceivers()[1].setCodecPreferences(codecs)
        for transceiver in self.pc.getTransceivers():
            transceiver.direction = "sendonly"
        await self._negotiate()

    async def watch(self) -> None:
        """Receive sound and picture, and count the decoded frames."""
        self.pc.addTransceiver("audio", direction="recvonly")
        self.pc.addTransceiver("video", direction="recvonly")
        await self._negotiate()

    async def leave(self) -> int:
        """DELETE the session; returns the status."""
        async with aiohttp.ClientSession() as http, http.delete(self.location) as response:
            return response.status

    async def _negotiate(self) -> None:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        headers = {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.url, data=self.pc.localDescription.sdp, headers=headers) as response,
        ):
            answer = await response.text()
            assert response.status == 201, f"{response.status} {answer}"
            self.location = urljoin(self.url, response.headers["Location"])
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def _read(self, track: MediaStreamTrack) -> None:
        self._readers.append(asyncio.get_running_loop().create_task(self._count(track)))

    async def _count(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            self.frames[track.kind] += 1
            if track.kind == "video":
                self.sizes.add((frame.width, frame.height))


async def main(base: str, room: str, identity: str) -> None:
    """Publish, say so, and go on until the process ends."""
    async with Client(base, f"/whip/{room}/{identity}") as client:
        await client.publish()
        print("publishing", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
