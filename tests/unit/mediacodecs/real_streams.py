"""Real streams for the tests: PyAV encodes, FFmpeg's RTP muxer cuts the packets (aiortc's packetisers elsewhere)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

RECEIVE_BUFFER = 1 << 22  # bytes; one encoded frame must fit, it is read after the muxer has written it


@dataclass(frozen=True)
class Sent:
    """One RTP payload and what the encoder said of its frame."""

    payload: bytes
    marker: bool
    timestamp: int
    keyframe: bool
    frame: int


def pictures(width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    """Moving noise, so that frames need several packets; seeded."""
    noise = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for k in range(count):
        frame = av.VideoFrame.from_ndarray(np.roll(noise, 3 * k, axis=1), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        yield frame


def tones(count: int) -> Iterator[av.AudioFrame]:
    """20 ms pieces of a 440 Hz tone."""
    for k in range(count):
        wave = np.sin(np.arange(k * 960, (k + 1) * 960) * 2 * np.pi * 440 / 48000) * 8000
        frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None, :], format="s16", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = k * 960, 48000, Fraction(1, 48000)
        yield frame


def encode(encoder: str, size: tuple[int, int], count: int, options: dict[str, str]) -> Iterator[av.Packet]:
    """Encoded frames without a container."""
    codec = av.CodecContext.create(encoder, "w")
    codec.width, codec.height = size
    codec.pix_fmt, codec.time_base, codec.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    codec.options = options
    for frame in [*pictures(*size, count), None]:
        yield from codec.encode(frame)


def muxed(encoder: str, size: tuple[int, int], count: int, options: dict[str, str]) -> list[Sent]:
    """What FFmpeg's RTP muxer sends for an encoded stream (audio when the encoder is Opus)."""
    sent: list[Sent] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        url = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1200"
        with av.open(url, "w", format="rtp", options={"strict": "experimental"}) as output:
            audio = encoder == "libopus"
            stream = output.add_stream(encoder, rate=48000 if audio else 25, options=options)
            if not audio:
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for frame in [*(tones(count) if audio else pictures(*size, count)), None]:
                for packet in stream.encode(frame):
                    number = sent[-1].frame + 1 if sent else 0
                    output.mux(packet)
                    sent += drain(receiver, packet.is_keyframe, number)
            sent_before = len(sent)
        assert len(sent) == sent_before and not list(drain(receiver, False, 0))
    return sent


def drain(receiver: socket.socket, keyframe: bool, number: int) -> Iterator[Sent]:
    """The RTP packets that have arrived; RTCP is left out."""
    while True:
        try:
            packet = receiver.recv(2048)
        except BlockingIOError:
            return
        if packet[1] & 0x7F < 64 or packet[1] & 0x7F >= 96:
            yield Sent(packet[12:], packet[1] > 127, int.from_bytes(packet[4:8], "big"), keyframe, number)
