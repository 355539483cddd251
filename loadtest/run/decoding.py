"""Sampled clients decode what they got: frames are put together from the capture ring, decoded, and read back.

Decoding is slow work, so it has a thread of its own, which sleeps in PyAV without the interpreter's lock. What it can't
keep up with is dropped at the ring and counted, never queued without end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.clips.decode import Decoder
from loadtest.engine.capture import CapturedPacket, CaptureRing
from loadtest.results.distribution import Histogram
from loadtest.run.figures import Figures
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


@dataclass
class Tally:
    """What was decoded since a time; frames, errors and unread pictures are of video."""

    clients: set[int] = field(default_factory=set)  # tokens
    frames: int = 0
    errors: int = 0
    unread: int = 0
    latency: Histogram = field(default_factory=Histogram)


class Decoding:
    """The decoding thread. `capture_time(number)` is when the publisher captured a frame, ns; 0: unknown."""

    def __init__(self, ring: CaptureRing, capture_time: Callable[[int], int]) -> None:
        self._ring, self._capture_time = ring, capture_time
        self._streams: dict[tuple[int, int], Stream] = {}
        self._undecodable: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._gone: deque[int] = deque()  # tokens of clients that left
        self._unknown = 0  # packets of codecs that can't be decoded here
        self._failures, self._failure = 0, ""  # packets that we failed at, and why the first time
        self.tally = Tally()

    def start(self) -> None:
        """Begin to empty the ring."""
        self._thread.start()

    def stop(self) -> None:
        """Decode what is in the ring, and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def count_anew(self) -> None:
        """From now on `counts` and `figures` are of what comes."""
        self.tally = Tally()

    def forget(self, client: int) -> None:
        """A client (its token) has left: its decoders go when what it left in the ring is decoded."""
        self._gone.append(client)

    def counts(self) -> dict[str, int]:
        """clients, frames, errors and unread pictures, of video."""
        tally = self.tally
        return {
            "clients": len(tally.clients),
            "frames": tally.frames,
            "errors": tally.errors,
            "unread": tally.unread,
        }

    def figures(self) -> Figures:
        """The counts and latencies under the names of `results.figures`; none when nobody decodes."""
        counts, latency = self.counts(), Histogram(self.tally.latency.counts)
        if not counts["clients"]:
            return {}
        found: Figures = {f"decode.{name}": count for name, count in counts.items()}
        return found | {"decode.latency.p50": latency.quantile(0.5), "decode.latency.p95": latency.quantile(0.95)}

    def notes(self) -> list[str]:
        """What a reader must know: what was not decoded, and why."""
        found = []
        if self._unknown:
            found.append(f"{self._unknown} packets were of codecs that can't be decoded here")
        if self._failures:
            found.append(f"decoding failed at {self._failures} packets: {self._failure}")
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            gone = [self._gone.popleft() for _ in range(len(self._gone))]
            while not self._stop.is_set() and (packet := self._ring.pop()) is not None:
                self._try(packet)
            self._drop(gone)
            self._stop.wait(PAUSE)
        for _ in range(self._ring.count):  # what is in it now: more may come for ever
            if (packet := self._ring.pop()) is None:
                return
            self._try(packet)

    def _try(self, packet: CapturedPacket) -> None:
        """A fault of ours must not end the thread: what it did not decode would look like a bad target."""
        try:
            self.take(packet)
        except Exception as error:
            self._failures += 1
            self._failure = self._failure or f"{type(error).__name__}: {error}"

    def _drop(self, clients: list[int]) -> None:
        """Streams of clients that have left, with their decoders."""
        for key in [key for key in self._streams if key[0] in clients] if clients else ():
            del self._streams[key]

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
        self._unknown += key not in self._streams
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
        frame, decoder, tally = stream.frame, stream.decoder, self.tally
        stream.frame = []
        before = decoder.frames, decoder.errors, decoder.unread
        pictures = decoder.feed([packet.payload for packet in frame], any(one.keyframe for one in frame))
        tally.clients.add(frame[0].client)
        if stream.sound:
            return
        tally.frames += decoder.frames - before[0]
        tally.errors += decoder.errors - before[1]
        tally.unread += decoder.unread - before[2]
        now = time.monotonic_ns()
        for picture in pictures:
            if picture.number is not None and (captured := frame[0].captured or self._capture_time(picture.number)):
                tally.latency.record(now - captured)
