"""What a client sends: reels played on a clock, frame by frame, sealed and posted; and a sender report every second.

A frame's time is its capture time, and the next one's follows from the ticks of the RTP clock, so that time stamps and
capture times lie on one line for ever. When the loop comes much too late, or a source is muted, time passes without
frames, but none of the reel is left out: a decoder must not miss a picture that others refer to. Only a keyframe
request leaves frames out, those before the next keyframe.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from loadtest.engine.layout import (
    AUDIO,
    HISTORY_ENTRY,
    MS,
    NAME,
    NO_TYPE,
    OPEN,
    SECOND,
    SOURCE,
    SOURCE_SIZE,
    VIDEO,
    source_at,
)
from loadtest.engine.packets import frame_of, history_of, ntp_of, packet_of, reel_at, write_packet
from loadtest.engine.post import LISTS_AT, clock, flush, length_at, post, post_rtcp, slot_address
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp_write import write_sdes_cname, write_sender_report
from packetio.memory import bytes_at
from packetio.native import srtp_protect

MOST_LATE = 200 * MS  # ns that are caught up in one go
SHORTEST = 1 * MS  # ns of a frame at least, whatever the reel says
REPORT_INTERVAL = 1 * SECOND
NEVER = (1 << 62) - 1
ENDLESS = -1
FIRST_SEQUENCES = 1 << 14  # far from a turn of 16 bits, which libsrtp could not tell from an old packet at first
MASK32 = 0xFFFFFFFF


@kernel
def source_of(e: Any, c: Any, k: int) -> Any:
    """The k-th source of a client."""
    return source_at(e.sources + int64(c.sources[k]) * SOURCE_SIZE)


@kernel
def serve_sources(e: Any, c: Any) -> int:
    """Send what is due of client c; returns when more is, in ns."""
    soonest = int64(NEVER)
    if c.stopped:
        return soonest
    for k in range(c.source_count):
        s = source_of(e, c, k)
        if s.state == OPEN and s.running:
            soonest = min(soonest, serve_source(e, c, s))
    flush(e, c)
    return soonest


@kernel
def serve_source(e: Any, c: Any, s: Any) -> int:
    """Send what is due of one source that runs; returns when more is, in ns."""
    if s.next_due == 0:
        s.next_due = s.frame_due = e.now
    while s.running and s.next_due <= e.now:
        if s.position or begin_frame(e, s):
            send_due(e, c, s)
            e.now = clock(e)
    if s.running == 0:
        return int64(NEVER)
    if s.packets and s.muted == 0:
        if s.next_report <= e.now:
            sender_report(e, c, s)
        return int64(min(s.next_due, s.next_report))
    return int64(s.next_due)


@kernel
def begin_frame(e: Any, s: Any) -> bool:
    """Choose the frame that is due; False: the source is muted and its time passes, or it has come to its end."""
    late = e.now - s.next_due
    s.late = max(s.late, late)
    e.late = max(e.late, late)
    reel = reel_at(s.reel)
    if late > MOST_LATE:
        row = frame_of(reel, s.frame)
        lost = late // length_of(reel, row)
        if s.frames_left >= 0:
            lost = min(lost, s.frames_left)
        s.skipped += lost
        for _ in range(lost):
            pass_time(s, reel, row)
    if s.frames_left == 0:
        s.running = 0
        return False
    if s.muted:
        pass_time(s, reel, frame_of(reel, s.frame))
        return False
    if s.want_key:
        s.want_key = 0
        find_keyframe(s, reel)
    return True


@kernel
def length_of(reel: Any, row: Any) -> int:
    """ns that a frame lasts."""
    return int64(max(int64(row.ticks) * SECOND // reel.clock_rate, SHORTEST))


@kernel
def pass_time(s: Any, reel: Any, row: Any) -> None:
    """Let the time of one frame pass: the next is captured then."""
    s.timestamp += int64(row.ticks)
    s.frame_due += length_of(reel, row)
    s.next_due = s.frame_due
    if s.frames_left > 0:
        s.frames_left -= 1


@kernel
def find_keyframe(s: Any, reel: Any) -> None:
    """Go on at the reel's next keyframe, or at its first frame."""
    for frame in range(s.frame, reel.frames):
        if frame_of(reel, frame).keyframe:
            if frame != s.frame:
                go_to(s, reel, frame)
            return
    s.turn += 1
    go_to(s, reel, 0)


@kernel
def go_to(s: Any, reel: Any, frame: int) -> None:
    """Another frame than the reel's next comes: its picture id and TL0PICIDX shall follow those sent last."""
    s.frame = frame
    row = packet_of(reel, int64(frame_of(reel, frame).first))
    if s.last_picture >= 0 and row.picture_id_at >= 0:
        s.picture_offset = s.last_picture + 1 - int64(row.picture_id) & 0x7FFF
    if s.last_tl0 >= 0 and row.tl0_at >= 0:
        s.tl0_offset = s.last_tl0 + 1 - int64(row.tl0) & 255


@kernel
def send_due(e: Any, c: Any, s: Any) -> None:
    """Send the frame's next packet, or all of them in a burst; after the last the frame is done."""
    reel = reel_at(s.reel)
    row = frame_of(reel, s.frame)
    if s.position:
        s.late = max(s.late, e.now - s.next_due)
        e.late = max(e.late, e.now - s.next_due)
    until = int64(row.count) if s.burst else min(s.position + 1, int64(row.count))
    while s.position < until:
        send_packet(e, c, s, row)
        s.position += 1
    if s.position < row.count:
        s.next_due = s.frame_due + length_of(reel, row) * s.position // int64(row.count)
    else:
        end_frame(s, reel, row)


@kernel
def end_frame(s: Any, reel: Any, row: Any) -> None:
    """The frame is sent: the next one's turn. A synthetic reel's keyframe, its first frame, is for requests only."""
    s.position = 0
    pass_time(s, reel, row)
    s.frames += 1
    s.keyframes += int64(row.keyframe)
    s.frame += 1
    if s.frame >= reel.frames:
        s.turn += 1
        go_to(s, reel, 1 if reel.synthetic and reel.frames > 1 else 0)


@kernel
def note_packet(e: Any, s: Any, row: Any) -> Any:
    """Put the frame's next packet into the history; returns its entry."""
    entry = history_of(s, s.sequence)
    entry.sequence = s.sequence
    entry.packet = int64(row.first) + s.position
    entry.marker = 1 if s.kind == VIDEO and s.position == int64(row.count) - 1 else 0
    entry.timestamp = s.timestamp
    entry.captured = s.frame_due
    entry.turn = s.turn
    entry.counter = s.counter
    entry.sent = clock(e)
    entry.picture_offset = s.picture_offset
    entry.tl0_offset = s.tl0_offset
    s.sequence += 1
    s.counter += 1
    return entry


@kernel
def send_packet(e: Any, c: Any, s: Any, row: Any) -> None:
    """Send the frame's next packet. Its sequence number is used up whether it leaves or not."""
    entry = note_packet(e, s, row)
    packet = packet_of(reel_at(s.reel), int64(entry.packet))
    if packet.picture_id_at >= 0:
        s.last_picture = int64(packet.picture_id) + s.picture_offset
    if packet.tl0_at >= 0:
        s.last_tl0 = int64(packet.tl0) + s.tl0_offset
    if seal_and_post(e, c, write_packet(e, c, s, entry, slot_address(e), 0)):
        s.packets += 1
        s.octets += int64(packet["size"])


@kernel
def seal_and_post(e: Any, c: Any, size: int) -> bool:
    """Seal the packet of `size` bytes in the next send slot and post it; False: it can't be sealed, nothing leaves."""
    length = length_at(e.words.ctypes.data + 64)
    length.value = size
    if size == 0 or c.outbound == 0 or srtp_protect(c.outbound, slot_address(e), e.words.ctypes.data + 64) != 0:
        c.failures += 1
        return False
    post(e, c, int64(length.value))
    return True


@kernel
def sender_report(e: Any, c: Any, s: Any) -> None:
    """Send a sender report with CNAME: the time stamp of now, on the line of the frames' capture times."""
    reel = reel_at(s.reel)
    ns = e.now - s.frame_due
    ticks = ns // SECOND * reel.clock_rate + ns % SECOND * reel.clock_rate // SECOND
    seconds, fraction = ntp_of(e, e.now)
    b = bytes_at(e.scratch, LISTS_AT)
    at = write_sender_report(
        b, 0, s.ssrc, seconds << 32 | fraction, s.timestamp + ticks & MASK32, s.packets & MASK32, s.octets & MASK32
    )
    at = write_sdes_cname(b, at, s.ssrc, c.cname, c.cname_size)
    s.next_report = e.now + REPORT_INTERVAL
    post_rtcp(e, c, at)


def fill_source(
    row: Any,
    *,
    kind: int,
    ssrc: int,
    payload_type: int,
    reel: int,
    rtx_ssrc: int = -1,
    rtx_type: int = NO_TYPE,
    mid: str = "",
    rid: str = "",
    burst: bool = False,
) -> None:
    """Make a SOURCE record anew; it does not run before `begin_source`.

    reel: address of a REEL, which the caller keeps alive. An SSRC must be new to its SRTP context: sequence
    numbers begin at random, and an index must never seal two packets. ValueError.
    """
    for name, value in {"ssrc": ssrc, "rtx_ssrc": max(rtx_ssrc, 0)}.items():
        if not 0 <= value <= MASK32:
            raise ValueError(f"{name} is 32 bits, not {value}")
    if kind not in (AUDIO, VIDEO) or not 0 <= payload_type <= 127:
        raise ValueError(f"no source of kind {kind} with payload type {payload_type}")
    if (rtx_ssrc < 0) != (rtx_type == NO_TYPE) or rtx_ssrc == ssrc:
        raise ValueError(f"RTX has a payload type and an SSRC of its own, not {rtx_type} and {rtx_ssrc}")
    for field in SOURCE.names or ():
        row[field] = np.zeros((), SOURCE[field].base)
    row.history = np.array([(-1,) + (0,) * (len(HISTORY_ENTRY.names or ()) - 1)], HISTORY_ENTRY)
    row.kind, row.ssrc, row.payload_type, row.reel = kind, ssrc, payload_type, reel
    row.rtx_ssrc, row.rtx_type = rtx_ssrc, rtx_type
    set_name(row, "mid", mid)
    set_name(row, "rid", rid)
    row.burst, row.frames_left = int(burst), ENDLESS
    row.sequence, row.rtx_sequence = secrets.randbelow(FIRST_SEQUENCES), secrets.randbelow(FIRST_SEQUENCES)
    row.timestamp = secrets.randbits(31)
    row.last_picture = row.last_tl0 = -1
    row.state = OPEN


def set_name(row: Any, field: str, text: str) -> None:
    """Store a mid or rid with its size. ValueError when it is longer than an extension element may be."""
    data = text.encode()
    if len(data) > NAME:
        raise ValueError(f"{field} {text!r} is longer than {NAME} bytes")
    row[field][: len(data)] = np.frombuffer(data, np.uint8)
    row[f"{field}_size"] = len(data)


def begin_source(row: Any, at: int, *, frames: int = ENDLESS) -> None:
    """Send from time `at` on (ns, CLOCK_MONOTONIC): so many frames, or without end. The source must not be running.

    The loop may look for a source that was not due only after 2 ms, so a time some ms ahead keeps `late` honest.
    """
    row.frames_left = frames
    row.next_due = row.frame_due = at
    row.late = 0
    row.running = 1
