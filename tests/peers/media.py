"""Media for stacks that have no codecs: RTP made of a test clip, and RTP that is decoded and counted.

Both ends are plain UDP on loopback, beside the client program. The clip carries the number of each picture, which is
read again from what comes out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import socket
import struct
from typing import Any

from loadtest.clips.decode import Decoder
from loadtest.clips.encode import (
    AUDIO_FRAME,
    CODECS,
    AudioProfile,
    EncodedFrame,
    VideoProfile,
    encode_audio,
    encode_video,
)
from loadtest.clips.reel import packetize
from tests.conftest import be_ordinary

HOST = "127.0.0.1"
RATE, WIDTH, HEIGHT = 25, 320, 180
VIDEO_PT, AUDIO_PT = 96, 111
FIXED, EXTENDED, PADDED, COUNT, MARKER = 12, 0x10, 0x20, 0x0F, 0x80  # of an RTP header (RFC 3550 section 5.1)


@functools.cache
def video(codec: str) -> tuple[VideoProfile, list[EncodedFrame]]:
    """Four seconds of the test picture that begin with a keyframe."""
    profile = VideoProfile(codec, WIDTH, HEIGHT, RATE, 300)
    return profile, encode_video(profile)


@functools.cache
def sound() -> list[EncodedFrame]:
    """Two seconds of the test tone."""
    return encode_audio(AudioProfile())


class RtpSource:
    """Sends the clip in real time to the two ports that a program listens on, until it is cancelled."""

    def __init__(self, codec: str, ports: dict[str, Any]) -> None:
        self.codec, self.ports = codec, ports
        self.socket = socket.socket(type=socket.SOCK_DGRAM)

    async def run(self) -> None:
        """Both kinds, each at its pace."""
        profile, frames = await asyncio.to_thread(video, self.codec)
        be_ordinary()  # the AV1 encoder makes its thread, and so perhaps ours, a real-time one
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._video(profile, frames))
                tasks.create_task(self._audio())
        finally:
            self.socket.close()

    async def _video(self, profile: VideoProfile, frames: list[EncodedFrame]) -> None:
        sequence, begun = 1000, asyncio.get_running_loop().time()
        for number in range(1_000_000):
            frame = dataclasses.replace(frames[number % len(frames)], number=number)  # picture ids go on
            payloads = packetize(profile, frame)
            for k, payload in enumerate(payloads):
                last = k == len(payloads) - 1
                self._send("video", VIDEO_PT | MARKER * last, sequence, number * 90000 // RATE, payload)
                sequence += 1
            await self._pace(begun + (number + 1) / RATE)

    async def _audio(self) -> None:
        frames, begun = await asyncio.to_thread(sound), asyncio.get_running_loop().time()
        for number in range(1_000_000):
            self._send("audio", AUDIO_PT, 5000 + number, number * AUDIO_FRAME, frames[number % len(frames)].data)
            await self._pace(begun + (number + 1) / 50)

    async def _pace(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))

    def _send(self, kind: str, second: int, sequence: int, timestamp: int, payload: bytes) -> None:
        ssrc = 0x1000 if kind == "audio" else 0x2000
        header = struct.pack("!BBHII", 0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        self.socket.sendto(header + payload, (HOST, self.ports[kind]))


class Stream(asyncio.DatagramProtocol):
    """RTP of one kind, decoded frame by frame. `size` is that of the last picture, (width, height)."""

    def __init__(self, codec: str) -> None:
        self.decoder, self.packets, self.size = Decoder(CODECS[codec]), 0, (0, 0)
        self.numbers = 0  # pictures whose number was read
        self._timestamp, self._held = -1, {}  # type: tuple[int, dict[int, bytes]]

    def datagram_received(self, data: bytes, address: Any) -> None:
        second, sequence, timestamp = data[1], *struct.unpack_from("!HI", data, 2)
        at = FIXED + 4 * (data[0] & COUNT)
        if data[0] & EXTENDED:
            at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4])
        payload = data[at : len(data) - (data[-1] if data[0] & PADDED else 0)]
        self.packets += 1
        if not payload:
            return
        if timestamp != self._timestamp:
            self._timestamp, self._held = timestamp, {}
        self._held[sequence] = payload
        if second & MARKER or self.decoder.started and self.decoder.codec == CODECS["opus"]:
            self._decode()

    def _decode(self) -> None:
        payloads = [self._held[k] for k in sorted(self._held, key=lambda k: (k - min(self._held)) & 0xFFFF)]
        for picture in self.decoder.feed(payloads, True):
            self.size = (picture.luma.shape[1], picture.luma.shape[0])
            self.numbers += picture.number is not None


class RtpSink:
    """Takes what a program receives; an asynchronous context. `ports` are for the program's arguments."""

    def __init__(self, codec: str) -> None:
        self.audio, self.video = Stream("opus"), Stream(codec)

    async def __aenter__(self) -> RtpSink:
        loop = asyncio.get_running_loop()
        self._ends, self.ports = [], []  # type: tuple[list[asyncio.DatagramTransport], list[str]]
        for stream in (self.audio, self.video):
            transport, _ = await loop.create_datagram_endpoint(lambda stream=stream: stream, (HOST, 0))  # type: ignore[misc]
            self._ends.append(transport)
            self.ports.append(str(transport.get_extra_info("sockname")[1]))
        return self

    async def __aexit__(self, *error: object) -> None:
        for end in self._ends:
            end.close()
