"""Publishers on a clock: one compiled loop on its own thread sends the video and audio of them all, sealed by libsrtp.

Video is 25 frames/s of 10 packets, spread evenly or a frame's in one burst; sizes within a frame differ by a byte, as
libwebrtc's do. A window (`begin`) is an exact number of frames, so that what arrived can be held against what was sent.
Python only tells the loop that a keyframe is wanted (PLI, FIR) and reads the history to answer a NACK.
"""

from __future__ import annotations

import os
import secrets
import threading
from typing import Any

import numpy as np

from loadtest.media import OPUS_HEADER, OPUS_TOC, put_number, write_body, write_vp8
from loadtest.offers import AUDIO_MID, LEVEL_ID, MID_ID, OPUS_TYPE, TWCC_ID, VIDEO_MID, VP8_TYPE
from loadtest.words import set_word
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.batch import MESSAGE, VECTOR
from packetio.memory import Table, bytes_at, copy_bytes, load_acquire, pointer_to
from packetio.native import clock_gettime, ppoll, sendmmsg, srtp_protect

SECOND = 1_000_000_000
FRAME_NS, AUDIO_NS = SECOND // 25, SECOND // 50
VIDEO_STEP, AUDIO_STEP = 90000 // 25, 48000 // 50  # RTP time stamp units
PACKETS_A_FRAME, VIDEO_PAYLOAD, AUDIO_PAYLOAD = 10, 1100, 80
HEADER = 24  # bytes: RTP header and one extension block of 8
SLOT, SLOTS = 2048, 64  # send slots: a frame's packets at most
HISTORY, HISTORY_SLOT = 512, 1280  # packets kept in the clear for RTX, and bytes of each
IDLE = 5_000_000  # ns of sleep when nothing is due sooner
ENDLESS = -1
MONOTONIC = 1
AUDIO_MID_BYTE, VIDEO_MID_BYTE = ord(AUDIO_MID), ord(VIDEO_MID)

PUBLISHER = np.dtype(
    [
        ("fd", "i8"),  # a connected socket; 0: not in use
        ("outbound", "u8"),  # libsrtp context of this loop alone
        ("running", "i8"),  # set last by control; cleared by the loop at the end of the window
        ("frames_left", "i8"),  # ENDLESS, or frames until the window ends
        ("audio_left", "i8"),
        ("burst", "i8"),  # 1: a frame's packets at once
        ("per_frame", "i8"),
        ("frame_ns", "i8"),
        ("payload", "i8"),  # bytes of a video packet behind its header; half of a frame's packets have one more
        ("want_key", "i8"),  # 1: the next frame shall be a keyframe
        ("next_video", "i8"),  # ns
        ("next_audio", "i8"),
        ("position", "i8"),  # of the next packet in its frame
        ("keyframe", "i8"),  # the frame being sent is one
        ("picture_id", "i8"),
        ("video_ssrc", "i8"),
        ("audio_ssrc", "i8"),
        ("video_sequence", "i8"),
        ("audio_sequence", "i8"),
        ("video_time", "i8"),
        ("audio_time", "i8"),
        ("twcc", "i8"),
        ("counter", "i8"),
        ("sent_video", "i8"),
        ("sent_audio", "i8"),
        ("sent_bytes", "i8"),  # of video payload, for sender reports
        ("audio_bytes", "i8"),
        ("keyframes", "i8"),
        ("failures", "i8"),  # of sendmmsg
        ("late", "i8"),  # ns: largest lateness against the clock
        ("history", "i8"),
        ("history_size", "i4", (HISTORY,)),
    ],
    align=True,
)
PACER = np.dtype(
    [
        ("stop", "i8"),
        ("count", "i8"),
        ("rows", "i8"),
        ("messages", "i8"),
        ("buffer", "i8"),
        ("vectors", "i8"),
        ("filled", "i8"),
        ("now", "i8"),
        ("fake_now", "i8"),  # tests set the clock; 0: the real one
        ("words", "i8", (4,)),
        ("timeout", "i8", (2,)),
    ],
    align=True,
)
assert PACER.fields is not None
STOP, COUNT = PACER.fields["stop"][1], PACER.fields["count"][1]
publisher_at, pacer_at, vector_at = pointer_to(PUBLISHER), pointer_to(PACER), pointer_to(VECTOR)
length_at = pointer_to(np.dtype([("value", "i4")]))
PUBLISHER_SIZE, MESSAGE_SIZE, VECTOR_SIZE = PUBLISHER.itemsize, MESSAGE.itemsize, VECTOR.itemsize


@kernel
def clock(p: Any) -> int:
    """CLOCK_MONOTONIC in ns."""
    if p.fake_now:
        return int64(p.fake_now)
    clock_gettime(np.int32(MONOTONIC), p.words.ctypes.data)
    return int64(p.words[0] * SECOND + p.words[1])


@kernel
def write_header(b: Any, kind: int, sequence: int, time: int, ssrc: int) -> None:
    """A fixed RTP header with X set, marker in bit 7 of `kind`, and a cleared one-byte extension block (RFC 8285)."""
    b[0] = 0x90
    b[1] = kind & 255
    put_number(b, 2, sequence & 0xFFFF, 2)
    put_number(b, 4, time & 0xFFFFFFFF, 4)
    put_number(b, 8, ssrc, 4)
    put_number(b, 12, 0xBEDE0002, 4)
    put_number(b, 16, 0, 8)


@kernel
def write_video(p: Any, pub: Any, b: Any) -> int:
    """The next video packet, in the clear; returns its size."""
    first, last = pub.position == 0, pub.position == pub.per_frame - 1
    if first:
        pub.keyframe = pub.want_key
        pub.want_key = 0
        pub.keyframes += pub.keyframe
        pub.picture_id += 1
        pub.video_time += VIDEO_STEP
        pub.frames_left -= pub.frames_left > 0
    write_header(b, VP8_TYPE | (128 if last else 0), pub.video_sequence, pub.video_time, pub.video_ssrc)
    b[16] = MID_ID << 4
    b[17] = VIDEO_MID_BYTE
    b[18] = TWCC_ID << 4 | 1
    put_number(b, 19, pub.twcc & 0xFFFF, 2)
    end = HEADER + pub.payload + (1 if pub.position * 2 >= pub.per_frame else 0)
    at = write_vp8(b, HEADER, first, pub.keyframe == 1, pub.picture_id)
    write_body(b, at, end, p.now, pub.counter)
    slot = pub.video_sequence % HISTORY
    copy_bytes(pub.history + slot * HISTORY_SLOT, b.ctypes.data, end)
    pub.history_size[slot] = end
    pub.video_sequence += 1
    pub.twcc += 1
    pub.counter += 1
    pub.sent_video += 1
    pub.sent_bytes += end - HEADER
    pub.position = 0 if last else pub.position + 1
    return int64(end)


@kernel
def write_audio(p: Any, pub: Any, b: Any) -> int:
    """The next audio packet, in the clear; returns its size."""
    pub.audio_time += AUDIO_STEP
    pub.audio_left -= pub.audio_left > 0
    write_header(b, OPUS_TYPE, pub.audio_sequence, pub.audio_time, pub.audio_ssrc)
    b[16] = MID_ID << 4
    b[17] = AUDIO_MID_BYTE
    b[18] = LEVEL_ID << 4
    b[19] = 30  # -30 dBov
    b[HEADER] = OPUS_TOC
    write_body(b, HEADER + OPUS_HEADER, HEADER + AUDIO_PAYLOAD, p.now, pub.counter)
    pub.audio_sequence += 1
    pub.counter += 1
    pub.sent_audio += 1
    pub.audio_bytes += AUDIO_PAYLOAD
    return HEADER + AUDIO_PAYLOAD


@kernel
def seal(p: Any, pub: Any, size: int) -> None:
    """Protect the packet in the next send slot and queue it."""
    address = p.buffer + p.filled * SLOT
    length = length_at(p.words.ctypes.data)
    length.value = size
    if pub.outbound:
        srtp_protect(pub.outbound, address, p.words.ctypes.data)
    vector_at(p.vectors + p.filled * VECTOR_SIZE).size = length.value
    p.filled += 1


@kernel
def send(p: Any, pub: Any) -> None:
    """Send what is queued."""
    done = 0
    while done < p.filled:
        n = sendmmsg(np.int32(pub.fd), p.messages + done * MESSAGE_SIZE, np.uint32(p.filled - done), np.int32(0))
        if n <= 0:
            pub.failures += 1
            done += 1
        else:
            done += n
    p.filled = 0


@kernel
def serve(p: Any, pub: Any) -> int:
    """Send what is due of one publisher; returns when more is, in ns."""
    while (pub.frames_left != 0 or pub.position != 0) and pub.next_video <= p.now:
        pub.late = max(pub.late, p.now - pub.next_video)
        for _ in range(pub.per_frame if pub.burst else 1):
            size = write_video(p, pub, bytes_at(p.buffer + p.filled * SLOT, SLOT))
            seal(p, pub, size)
        send(p, pub)
        pub.next_video += pub.frame_ns if pub.burst else pub.frame_ns // pub.per_frame
        p.now = clock(p)
    while pub.audio_left != 0 and pub.next_audio <= p.now:
        size = write_audio(p, pub, bytes_at(p.buffer, SLOT))
        seal(p, pub, size)
        send(p, pub)
        pub.next_audio += AUDIO_NS
    more = pub.frames_left != 0 or pub.position != 0
    if not more and pub.audio_left == 0:
        pub.running = 0
    video = pub.next_video if more else p.now + IDLE
    return int64(min(video, pub.next_audio if pub.audio_left else p.now + IDLE))


@kernel
def turn(p: Any, count: int) -> int:
    """Serve all publishers once; returns when to come again, in ns."""
    p.now = clock(p)
    soonest = p.now + IDLE
    for row in range(count):
        pub = publisher_at(p.rows + row * PUBLISHER_SIZE)
        if pub.fd and pub.running:
            soonest = min(soonest, serve(p, pub))
    return int64(soonest)


@kernel
def pace(address: int) -> None:
    """Serve until the `stop` word is set."""
    p = pacer_at(address)
    while load_acquire(address + STOP) == 0:
        until = turn(p, load_acquire(address + COUNT))
        left = until - clock(p)
        if left > 0:
            p.timeout[0], p.timeout[1] = 0, left
            ppoll(0, 0, p.timeout.ctypes.data, 0)


class Publishers:
    """The rows and the thread of all publishers of this process."""

    def __init__(self, capacity: int) -> None:
        self.table, self._pacer = Table(PUBLISHER, capacity), Table(PACER, 1)
        self.rows = self.table.rows
        self.count = 0
        self._messages, self._vectors = Table(MESSAGE, SLOTS), Table(VECTOR, SLOTS)
        self._data = Table(np.dtype("u1"), SLOT * SLOTS)
        self._history = Table(np.dtype("u1"), HISTORY * HISTORY_SLOT * capacity)
        self._vectors.rows["base"] = self._data.address + np.arange(SLOTS) * SLOT
        self._messages.rows["vector"] = self._vectors.address + np.arange(SLOTS) * VECTOR.itemsize
        self._messages.rows["vector_count"] = 1
        p = self._pacer.rows[0]
        p.rows, p.messages = self.table.address, self._messages.address
        p.buffer, p.vectors = self._data.address, self._vectors.address
        self.state = p
        self._thread = threading.Thread(target=self._run, name="publishers", daemon=True)

    def start(self) -> None:
        """Compile if need be, then begin."""
        set_word(self._pacer.address + STOP, 1)
        pace(self._pacer.address)
        set_word(self._pacer.address + STOP, 0)
        self._thread.start()

    def _run(self) -> None:
        try:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        except (OSError, AttributeError):
            pass  # without the right to it, packets are a little later when the core is busy
        pace(self._pacer.address)

    def add(self, fd: int, outbound: int, video_ssrc: int, audio_ssrc: int) -> int:
        """A publisher that does not send yet; `fd` is a connected socket. Returns its row."""
        if self.count >= self.table.count:
            raise IndexError(f"room for {self.table.count} publishers only")
        row = self.rows[self.count]
        row.outbound, row.video_ssrc, row.audio_ssrc = outbound, video_ssrc, audio_ssrc
        row.per_frame, row.frame_ns, row.payload = PACKETS_A_FRAME, FRAME_NS, VIDEO_PAYLOAD
        row.video_sequence, row.audio_sequence = secrets.randbelow(1 << 14), secrets.randbelow(1 << 14)
        row.video_time, row.audio_time = secrets.randbits(30), secrets.randbits(30)
        row.history = self._history.address + self.count * HISTORY * HISTORY_SLOT
        row.want_key = 1
        row.fd = fd
        self.count += 1
        set_word(self._pacer.address + COUNT, self.count)
        return self.count - 1

    def begin(self, index: int, now: int, *, burst: bool, frames: int = ENDLESS, phase: int = 0) -> None:
        """Send from `now + phase` ns on: `frames` frames and audio for as long, or without end."""
        row = self.rows[index]
        row.burst, row.frames_left = int(burst), frames
        row.audio_left = frames if frames == ENDLESS else frames * int(row.frame_ns) // AUDIO_NS
        row.next_video, row.next_audio = now + phase, now + phase + AUDIO_NS // 3
        row.late = 0
        row.running = 1

    def halt(self, index: int) -> None:
        """End at the next whole frame."""
        self.rows[index].frames_left = self.rows[index].audio_left = 0

    def serve_at(self, now: int) -> int:
        """One turn of the loop at a time of the caller's, for tests; returns when the next is due."""
        self.state.fake_now = now
        return int(turn(self.state, self.count))

    def packet(self, index: int, sequence: int) -> bytes:
        """A sent video packet in the clear, b'' when it is no longer kept."""
        slot = sequence % HISTORY
        size, at = int(self.rows[index].history_size[slot]), (index * HISTORY + slot) * HISTORY_SLOT
        packet = self._history.rows[at : at + size].tobytes()
        return packet if packet[2:4] == (sequence & 0xFFFF).to_bytes(2) else b""

    def stop(self) -> None:
        """End the loop."""
        set_word(self._pacer.address + STOP, 1)
        if self._thread.ident is not None:
            self._thread.join()
