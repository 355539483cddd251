"""From a client's socket to its streams: batched receive, the bad network, demultiplexing, SRTP, RTX, counting.

Arrivals are the kernel's receive stamps, or, behind an impaired link, the time at which the link lets the datagram go.
What is neither RTP nor RTCP is control's: STUN and DTLS go up as events.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.capture import capture, capture_at, captured_at, reserve
from loadtest.engine.frames import note_packet, position_of
from loadtest.engine.held import DOWN, held_at, hold
from loadtest.engine.layout import (
    EARLY_SIZE,
    ENDS,
    ENGINE,
    EVENT_BYTES,
    EVENT_SIZE,
    KEY,
    MS,
    NO_TYPE,
    PADDING,
    REPAIRED,
    SECOND,
    STARTS,
    VIDEO,
    early_at,
    event_at,
    offset,
)
from loadtest.engine.links import release_time
from loadtest.engine.packets import NTP_OFFSET
from loadtest.engine.post import MESSAGE_SIZE, clock, length_at
from loadtest.engine.repair import note_gap
from loadtest.engine.requests import take_packet
from loadtest.engine.streams import find_primary, find_stream, note_latency, open_stream, stream_of
from loadtest.engine.synthetic import WRONG, body_at, check_body
from mediacodecs.bits import be16, be32
from mediacodecs.extensions import ABS_CAPTURE_TIME, TWCC, parse_extensions
from mediacodecs.frame import int64
from mediacodecs.h264 import HAS_SPS
from mediacodecs.kernel import kernel
from mediacodecs.payload import parse_payload
from mediacodecs.reception import count_reception
from mediacodecs.rtcp import BYE, SR, is_rtcp, next_rtcp, read_sender_info
from mediacodecs.rtp import parse_rtp
from mediacodecs.twcc import twcc_receive
from packetio.batch import CONTROL_BYTES, MESSAGE, SLOT, arrival_of
from packetio.memory import bytes_at, copy_bytes, load_acquire, pointer_to, store_release
from packetio.native import recvmmsg, srtp_unprotect, srtp_unprotect_rtcp, write_fd

message_at = pointer_to(MESSAGE)
MSG_DONTWAIT, MSG_TRUNC = 0x40, 0x20
SHORTEST = 12  # bytes: nothing that we know is smaller
REPLAY_FAIL, REPLAY_OLD = 9, 10  # libsrtp: a packet that came before, or too old to tell
WORDS = offset(ENGINE, "words")
HEAD, TAIL = offset(ENGINE, "event_head") - WORDS, offset(ENGINE, "event_tail") - WORDS  # from e.words
EARLY, LONGEST = 5 * MS, 60 * SECOND  # ns: a one-way latency below -EARLY or above LONGEST is not believed
OPEN_VIDEO, OPEN_AUDIO = 1, 2  # bits of CLIENT.opened
LENGTH_AT = 64  # offset in e.words of the length that libsrtp changes


@kernel
def drain_client(e: Any, c: Any) -> int:
    """Take what a client's socket has, a batch at most; returns the number of datagrams."""
    n = int64(recvmmsg(np.int32(c.fd), e.messages, np.uint32(e.slots), np.int32(MSG_DONTWAIT), 0))
    if n <= 0:
        return int64(0)
    e.now = clock(e)
    e.received += n
    for slot in range(n):
        message = message_at(e.messages + slot * MESSAGE_SIZE)
        if message.flags & MSG_TRUNC:
            c.garbage += 1
        else:
            stamp = arrival_of(e.controls, slot, int64(message.control_size), e.realtime, e.now)
            judge(e, c, e.buffer + slot * SLOT, int64(message.size), stamp)
        message.control_size = CONTROL_BYTES
        message.flags = 0
    return n


@kernel
def take_early(e: Any, c: Any) -> None:
    """Delay what came before the client was ours like all the rest: it was on its way when the handshake ended."""
    for k in range(c.early_count):
        row = early_at(c.early + k * EARLY_SIZE)
        release = int64(row.release)
        held = hold(held_at(e.held), release, c.token, DOWN, int64(row.address), int64(row.length), release)
        e.held_lost += not held
    c.early_count = 0


@kernel
def judge(e: Any, c: Any, address: int, size: int, stamp: int) -> None:
    """Let the client's network decide: lost, held, or here."""
    if c.down.active:
        stamp = release_time(c.down, stamp, size)
        if stamp < 0:
            return
        if stamp > e.now:
            e.held_lost += not hold(held_at(e.held), stamp, c.token, DOWN, address, size, stamp)
            return
    take(e, c, address, size, stamp)


@kernel
def take(e: Any, c: Any, address: int, size: int, stamp: int) -> None:
    """One datagram of SLOT bytes of room that arrived at `stamp` (ns), by its first byte (RFC 7983)."""
    b = bytes_at(address, SLOT)
    first = int64(b[0])
    c.octets += size
    if size < SHORTEST:
        c.garbage += 1
    elif 128 <= first <= 191:
        if is_rtcp(b, 0):
            take_rtcp(e, c, address, size, stamp)
        else:
            take_rtp(e, c, address, size, stamp)
    elif first <= 3 or 20 <= first <= 63:
        pass_up(e, c, address, size)
    else:
        c.garbage += 1


@kernel
def pass_up(e: Any, c: Any, address: int, size: int) -> None:
    """Hand a STUN or DTLS datagram to control; lost, and counted, when control does not keep up."""
    words = e.words.ctypes.data
    head = int64(e.event_head)
    if size > EVENT_BYTES or head - load_acquire(words + TAIL) >= e.event_slots:
        e.events_lost += 1
        return
    event = event_at(e.events + head % e.event_slots * EVENT_SIZE)
    event.token, event.length = c.token, size
    copy_bytes(event.payload.ctypes.data, address, size)
    store_release(words + HEAD, head + 1)
    e.words[15] = 1
    write_fd(np.int32(e.wake), words + 120, 8)


@kernel
def take_rtcp(e: Any, c: Any, address: int, size: int, stamp: int) -> None:
    """Open one datagram of RTCP: sender reports are for our streams, the rest for our sources."""
    length = length_at(e.words.ctypes.data + LENGTH_AT)
    length.value = size
    if c.inbound == 0 or srtp_unprotect_rtcp(c.inbound, address, e.words.ctypes.data + LENGTH_AT) != 0:
        c.refused += 1
        return
    c.rtcp += 1
    b = bytes_at(address, SLOT)
    end = int64(length.value)
    at = int64(0)
    while at < end:
        at = next_rtcp(b, at, end, e.rtcp)
        if at < 0:
            c.garbage += 1
            return
        if e.rtcp.packet_type == SR and read_sender_info(b, e.rtcp, e.sender_info):
            note_sender_report(e, c, stamp)
        if c.source_count and e.rtcp.packet_type != BYE:
            take_packet(e, c, b)


@kernel
def note_sender_report(e: Any, c: Any, stamp: int) -> None:
    """Keep when which sender report of a stream came: receiver reports refer to it."""
    row = find_stream(e, c, int64(e.rtcp.ssrc))
    if row:
        s = stream_of(e, row)
        s.sr_middle = int64(e.sender_info.ntp >> np.uint64(16)) & 0xFFFFFFFF
        s.sr_arrival = stamp


@kernel
def take_rtp(e: Any, c: Any, address: int, size: int, stamp: int) -> None:
    """Open and parse one RTP packet, and find its stream."""
    b = bytes_at(address, SLOT)
    if c.counted_only:
        count_sealed(e, c, b, stamp)
        return
    length = length_at(e.words.ctypes.data + LENGTH_AT)
    length.value = size
    status = srtp_unprotect(c.inbound, address, e.words.ctypes.data + LENGTH_AT) if c.inbound else np.int32(1)
    if status != 0:
        refuse(e, c, b, int64(status))
        return
    if parse_rtp(b, 0, int64(length.value), e.rtp) != 0:
        c.garbage += 1
        return
    note_arrival(c, stamp)
    ssrc, payload_type = int64(e.rtp.ssrc), int64(e.rtp.payload_type)
    parse_extensions(b, e.rtp, c.kinds, e.extensions)
    if e.extensions.size[TWCC] == 2:
        twcc_receive(c.twcc, be16(b, int64(e.extensions.at[TWCC])), stamp)
        c.twcc_media = ssrc
    if int64(c.repairs[payload_type]) != NO_TYPE:
        take_rtx(e, c, b, stamp)
        return
    row = find_stream(e, c, ssrc)
    if row == 0:
        row = open_stream(e, c, ssrc, payload_type, stamp)
    if row == 0 or int64(c.codecs[payload_type]) == 0:
        c.excess += 1
        return
    take_media(e, c, row, b, 0, stamp)


@kernel
def note_arrival(c: Any, stamp: int) -> None:
    """Count an RTP packet of the client's."""
    c.packets += 1
    if c.first_packet == 0:
        c.first_packet = stamp
    c.last_packet = stamp


@kernel
def count_sealed(e: Any, c: Any, b: Any, stamp: int) -> None:
    """Count an RTP packet that stays sealed, by its header, which is in the clear: all that a crowd in a load needs."""
    note_arrival(c, stamp)
    ssrc, payload_type = be32(b, 8), int64(b[1]) & 127
    if int64(c.repairs[payload_type]) != NO_TYPE:
        c.rtx += 1
        return
    row = find_stream(e, c, ssrc)
    if row == 0:
        row = open_stream(e, c, ssrc, payload_type, stamp)
    if row == 0:
        c.excess += 1
        return
    s = stream_of(e, row)
    position = position_of(s, be16(b, 2), 0, stamp)
    if position >= 0 and note_packet(s, position, 0, be32(b, 4), stamp):
        s.last_packet = max(s.last_packet, stamp)
        s.packets += 1
        s.received += 1


@kernel
def refuse(e: Any, c: Any, b: Any, status: int) -> None:
    """Count what libsrtp would not open: a repetition is its stream's, anything else is the client's."""
    row = find_stream(e, c, be32(b, 8)) if status == REPLAY_FAIL or status == REPLAY_OLD else int64(0)
    if row:
        stream_of(e, row).duplicates += 1
    else:
        c.refused += 1


@kernel
def take_rtx(e: Any, c: Any, b: Any, stamp: int) -> None:
    """Take an RTX packet (RFC 4588) for the one that it repeats; one with nothing in it is a probe."""
    rtp = e.rtp
    c.rtx += 1
    at = int64(rtp.payload_at)
    if int64(rtp.payload_end) < at + 2:
        return
    primary = int64(c.repairs[rtp.payload_type])
    row = find_primary(e, c, primary, int64(rtp.ssrc))
    if row == 0:
        c.excess += 1
        return
    rtp.sequence = be16(b, at)
    rtp.payload_type = primary
    rtp.payload_at = at + 2
    take_media(e, c, row, b, 1, stamp)


@kernel
def take_media(e: Any, c: Any, row: int, b: Any, repaired: int, stamp: int) -> None:
    """Count the packet in e.rtp, whose bytes are b, in its stream."""
    s = stream_of(e, row)
    rtp = e.rtp
    position = position_of(s, int64(rtp.sequence), repaired, stamp)
    if position < 0:
        return
    marks = marks_of(e, s, b, repaired)
    before = int64(s.highest)
    s.last_packet = max(s.last_packet, stamp)
    if not note_packet(s, position, marks, int64(rtp.timestamp), stamp):
        return
    note_gap(s, before, position, stamp)
    s.packets += 1
    if repaired == 0:
        s.received += 1
        count_reception(s, int64(rtp.timestamp), stamp, s.clock_rate)
    sent = int64(0)
    if marks & PADDING == 0:
        s.octets += int64(rtp.payload_end) - int64(rtp.payload_at)
        sent = sent_time(e, c, s, b)
    if sent and -EARLY <= stamp - sent <= LONGEST:
        note_latency(s, max(stamp - sent, int64(0)))
    if c.capture and e.captures:
        keep(e, c, row, b, marks, position, stamp, sent)


@kernel
def marks_of(e: Any, s: Any, b: Any, repaired: int) -> int:
    """The marks of the packet in e.rtp; for video what its payload tells of the frame, in e.frame."""
    rtp, frame = e.rtp, e.frame
    marks = REPAIRED * repaired
    if rtp.payload_end <= rtp.payload_at:
        return marks | PADDING
    if s.kind != VIDEO:
        return int64(marks)
    marks |= ENDS * int64(rtp.marker)
    parse_payload(s.codec, b, int64(rtp.payload_at), int64(rtp.payload_end), frame)
    if frame.width:
        s.width = frame.width
    if int64(frame.param_sets) & HAS_SPS:
        return marks | KEY | STARTS  # it comes before the slices of its picture
    marks |= STARTS * int64(frame.start)
    return marks | KEY * int64(frame.keyframe) if frame.spatial == 0 else marks


@kernel
def sent_time(e: Any, c: Any, s: Any, b: Any) -> int:
    """When the packet in e.rtp was sent (a body that tells it) or captured (abs-capture-time), in ns; 0: not told."""
    if c.opened & (OPEN_VIDEO if s.kind == VIDEO else OPEN_AUDIO):
        end = int64(e.rtp.payload_end)
        begin = body_at(b, int64(e.rtp.payload_at), end, s.codec)
        sent = check_body(b, begin, end) if begin >= 0 else int64(WRONG)
        if sent == WRONG:
            s.wrong += 1
            return int64(0)
        s.checked += 1
        return sent
    if e.extensions.size[ABS_CAPTURE_TIME] < 8:
        return int64(0)
    at = int64(e.extensions.at[ABS_CAPTURE_TIME])
    return be32(b, at) * SECOND + (be32(b, at + 4) * SECOND >> 32) - NTP_OFFSET - int64(e.realtime)


@kernel
def keep(e: Any, c: Any, row: int, b: Any, marks: int, position: int, stamp: int, captured: int) -> None:
    """Hand the opened packet to who decodes it; padding too, for its number must not seem to be missing."""
    ring = capture_at(e.captures)
    address = reserve(ring)
    if address == 0:
        return
    s, entry, rtp = stream_of(e, row), captured_at(address), e.rtp
    entry.client, entry.stream, entry.sequence = c.token, row, position
    entry.timestamp, entry.codec, entry.marker = rtp.timestamp, s.codec, rtp.marker
    at = int64(rtp.payload_at)
    sound = s.kind != VIDEO
    entry.keyframe = 1 if sound or marks & KEY else 0
    entry.start = 1 if sound or marks & STARTS else 0
    entry.stamp, entry.captured = stamp, captured
    capture(ring, b.ctypes.data + at, max(int64(rtp.payload_end) - at, 0))
