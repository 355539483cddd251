"""Sampled clients decode what they got: frames are put together from the capture ring, decoded, and read back.

Decoding is slow work, so it has a thread of its own, which sleeps in PyAV without the interpreter's lock. What it can't
keep up with is dropped at the ring and counted, never queued without end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.clips.decode import Decoder
from loadtest.engine.capture import CapturedPacket, CaptureRing
from loadtest.results.distribution import Histogram
from mediacodecs.frame import OPUS

PAUSE = 0.005  # seconds between looks at an empty ring
REORDER = 64  # packets of a stream that wait for one that is missing


@dataclass
class Stream:
    """One stream being put together: packets by sequence number, the next one that is wanted, the frame at hand."""

    decoder: Decoder
    waiting: dict[int, CapturedPacket] = field(default_factory=dict)
    next: int = -1
    frame: list[CapturedPacket] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether it is sound: each packet is a frame that can be decoded."""
        return self.decoder.codec == OPUS

    def interrupt(self) -> None:
        """Something is missing: what refers to it is not decoded, the next keyframe is."""
        self.frame.clear()
        self.decoder.started = self.sound


class Decoding:
    """The decoding thread. `capture_time(client, number)` is when a publisher captured a frame, ns; 0: unknown."""

    def __init__(self, ring: CaptureRing, capture_time: Callable[[int, int], int]) -> None:
        self._ring, self._capture_time = ring, capture_time
        self._streams: dict[tuple[int, int], Stream] = {}
        self._undecodable: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self.latency = Histogram()
        self.unknown = 0  # packets of codecs that can't be decoded here

    def start(self) -> None:
        """Begin to empty the ring."""
        self._thread.start()

    def stop(self) -> None:
        """Decode what is in the ring, and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def counts(self) -> dict[str, int]:
        """clients, frames, errors and unread pictures until now; of video."""
        streams = dict(self._streams)
        videos = [stream.decoder for stream in streams.values() if not stream.sound]
        clients = {client for client, _ in streams}
        return {
            "clients": len(clients),
            "frames": sum(decoder.frames for decoder in videos),
            "errors": sum(decoder.errors for decoder in videos),
            "unread": sum(decoder.unread for decoder in videos),
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            while not self._stop.is_set() and (packet := self._ring.pop()) is not None:
                self.take(packet)
            self._stop.wait(PAUSE)
        for _ in range(self._ring.count):  # what is in it now: more may come for ever
            if (packet := self._ring.pop()) is None:
                return
            self.take(packet)

    def take(self, packet: CapturedPacket) -> None:
        """One packet, in whatever order; frames leave in order, and a hole is jumped after REORDER packets."""
        stream = self._stream(packet)
        if stream is None:
            return
        if stream.next < 0:
            stream.next = packet.sequence
        if packet.sequence < stream.next:
            return
        stream.waiting[packet.sequence] = packet
        if len(stream.waiting) > REORDER and stream.next not in stream.waiting:
            stream.next = min(stream.waiting)
            stream.interrupt()
        while (following := stream.waiting.pop(stream.next, None)) is not None:
            stream.next += 1
            self._add(stream, following)

    def _stream(self, packet: CapturedPacket) -> Stream | None:
        key = packet.client, packet.stream
        if key not in self._streams and packet.codec not in self._undecodable:
            try:
                self._streams[key] = Stream(Decoder(packet.codec))
            except ValueError:
                self._undecodable.add(packet.codec)
        self.unknown += key not in self._streams
        return self._streams.get(key)

    def _add(self, stream: Stream, packet: CapturedPacket) -> None:
        """One packet of a stream, in order."""
        if not packet.payload:
            return  # padding
        if stream.frame and stream.frame[0].timestamp != packet.timestamp:
            self._decode(stream)  # it has no marker
        if not stream.frame and not packet.start:
            stream.interrupt()
            return
        stream.frame.append(packet)
        if packet.marker or stream.sound:
            self._decode(stream)

    def _decode(self, stream: Stream) -> None:
        frame = stream.frame
        pictures = stream.decoder.feed([packet.payload for packet in frame], any(one.keyframe for one in frame))
        now = time.monotonic_ns()
        for picture in pictures:
            captured = frame[0].captured
            if not captured and picture.number is not None:
                captured = self._capture_time(frame[0].client, picture.number)
            if captured and picture.number is not None:
                self.latency.record(now - captured)
        stream.frame = []
