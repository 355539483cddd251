"""The memory of the client engine: one record for each client, stream, source and reel, and one for the loop itself.

Control (asyncio) fills a record while its `state` is FREE, then sets OPEN with a release store; from then on the
engine's thread writes it, and control reads counters. To end a client control sets LEAVING, waits for GONE, reads the
counters for the last time and sets SPENT; the engine frees its streams and sets FREE.
A STREAM is a received SSRC, a SOURCE a sent one. Times are ns of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.links import LINK
from mediacodecs.extensions import EXTENSIONS, KINDS
from mediacodecs.frame import FRAME
from mediacodecs.missing import MISSING
from mediacodecs.reception import RECEPTION
from mediacodecs.rtcp import REPORT_BLOCK, RTCP, SENDER_INFO
from mediacodecs.rtp import RTP
from mediacodecs.twcc import TWCC_STATE
from packetio.memory import pointer_to

SECOND, MS = 1_000_000_000, 1_000_000
FREE, OPEN, LEAVING, GONE, SPENT = range(5)  # states of a client; streams and sources: FREE, OPEN
AUDIO, VIDEO = 0, 1
NO_TYPE = 255
MAX_STREAMS = 4  # media SSRCs that one client may receive
MAX_SOURCES = 4  # SSRCs that one client may send: audio, and video in up to three layers
WINDOW = 1024  # sequence numbers of a stream that are watched at once; a power of two
HISTORY = 512  # packets of a source that can be sent again; a power of two
LATENCY_BUCKETS = 256  # 8 an octave from 1 µs
NAME = 16  # bytes of mid, rid and CNAME

# Bits of a slot in a stream's window.
HAS, STARTS, ENDS, KEY, REPAIRED, PADDING = 1, 2, 4, 8, 16, 32

STREAM = np.dtype(
    [
        ("state", "i8"),
        ("codec", "i4"),  # mediacodecs.frame
        ("kind", "i4"),
        ("payload_type", "i4"),
        ("clock_rate", "i8"),
        ("ssrc", "i8"),
        ("rtx_ssrc", "i8"),  # -1: none seen
        *RECEPTION,
        *MISSING,
        # the window: what is known of the sequence numbers from `next` on, and WINDOW at most
        ("next", "i8"),  # first sequence number (widened) that has not been passed to the frame assembler
        ("marks", "u1", (WINDOW,)),
        ("stamps", "u4", (WINDOW,)),  # RTP time stamps
        ("arrivals", "i8", (WINDOW,)),
        # frames, in order
        ("frame_stamp", "i8"),  # RTP time stamp of the frame being gathered; -1: none
        ("frame_key", "i8"),  # 1: it is a keyframe
        ("frame_begun", "i8"),  # 1: its first packet is there
        ("frame_arrival", "i8"),  # ns: its newest packet
        ("waiting", "i8"),  # 1: nothing can be decoded before the next keyframe
        ("blocked_since", "i8"),  # ns since when the packet at `next` has been missing; 0: it is not
        ("frames", "i8"),  # decodable frames that were completed
        ("keyframes", "i8"),
        ("missed", "i8"),  # frames that were given up
        ("first_frame", "i8"),  # ns: the first decodable one was complete
        ("last_frame", "i8"),  # ns
        ("interval", "i8"),  # ns, smoothed time between frames
        ("freezes", "i8"),
        ("frozen", "i8"),  # ns in all
        ("longest_freeze", "i8"),  # ns
        ("width", "i4"),  # of the newest keyframe that tells
        # counters
        ("packets", "i8"),
        ("octets", "i8"),  # payload
        ("recovered", "i8"),  # packets that came by RTX or late after a NACK
        ("duplicates", "i8"),
        ("given_up", "i8"),  # packets that never came
        ("nacks", "i8"),  # packets asked for
        ("plis", "i8"),
        ("next_pli", "i8"),  # ns: not before
        ("wrong", "i8"),  # synthetic bodies that are not what was sent
        ("checked", "i8"),  # synthetic bodies that are
        ("last_packet", "i8"),  # ns
        ("latency", "i8", (LATENCY_BUCKETS,)),
        ("latency_max", "i8"),  # ns
        ("first_missing", "i8"),  # packets that never came, or by repair only
        ("key_at", "i8"),  # sequence number (widened) of the newest packet that begins a keyframe; -1: none
        ("hole", "i8"),  # 1: the packet before `next` never came, 2: nothing is known of it
        ("odd", "i8"),  # sequence number that would confirm a jump; -1: none
    ],
    align=True,
)

HISTORY_ENTRY = np.dtype(
    [
        ("sequence", "i8"),  # -1: nothing here
        ("packet", "i4"),  # row of the reel
        ("marker", "i4"),
        ("timestamp", "i8"),
        ("captured", "i8"),  # ns
        ("turn", "i8"),  # of the reel: picture ids go on
        ("counter", "i8"),  # of a synthetic body
        ("sent", "i8"),  # ns: when it left for the first time
        ("picture_offset", "i4"),  # of the source when it left
        ("tl0_offset", "i4"),
    ],
    align=True,
)

SOURCE = np.dtype(
    [
        ("state", "i8"),
        ("kind", "i4"),
        ("ssrc", "i8"),
        ("rtx_ssrc", "i8"),  # -1: no RTX
        ("payload_type", "i4"),
        ("rtx_type", "i4"),  # NO_TYPE: no RTX
        ("mid", "u1", (NAME,)),
        ("mid_size", "i4"),
        ("rid_size", "i4"),  # 0: none
        ("rid", "u1", (NAME,)),
        ("reel", "i8"),  # address of a REEL record
        ("burst", "i4"),  # 1: a frame's packets leave at once, 0: evenly paced within the frame's time
        ("running", "i4"),
        ("muted", "i4"),  # 1: nothing is sent, time goes on
        ("want_key", "i4"),  # 1: go on at the reel's next keyframe
        ("frames_left", "i8"),  # -1: without end
        ("frame", "i8"),  # row of the reel: the next frame or the one being sent
        ("position", "i8"),  # packets of it that were sent
        ("turn", "i8"),
        ("next_due", "i8"),  # ns: of the next packet (or burst)
        ("frame_due", "i8"),  # ns: of the frame being sent: its capture time
        ("sequence", "i8"),  # next, 64 bit
        ("rtx_sequence", "i8"),
        ("timestamp", "i8"),  # of the frame being sent, 64 bit
        ("counter", "i8"),  # packets ever sent
        ("packets", "i8"),
        ("octets", "i8"),
        ("frames", "i8"),
        ("keyframes", "i8"),
        ("requests", "i8"),  # PLI and FIR
        ("resent", "i8"),  # packets that a NACK asked for
        ("unanswered", "i8"),  # NACKed packets that are no longer known
        ("late", "i8"),  # ns that a packet left late, at most
        ("next_report", "i8"),
        ("history", HISTORY_ENTRY, (HISTORY,)),
        # what makes numbers in the payload go on over turns of the reel and jumps to a keyframe
        ("picture_offset", "i8"),  # is added to the reel's picture ids …
        ("tl0_offset", "i8"),  # … and TL0PICIDX
        ("last_picture", "i8"),  # newest picture id that was sent, not cut to its bits; -1: none
        ("last_tl0", "i8"),
        ("key_after", "i8"),  # ns: a keyframe request before this is not honoured
        ("skipped", "i8"),  # frames' times that passed unused, because the loop came much too late
    ],
    align=True,
)

CLIENT = np.dtype(
    [
        ("state", "i8"),
        ("fd", "i8"),  # a connected socket
        ("inbound", "u8"),  # libsrtp contexts
        ("outbound", "u8"),
        ("ssrc", "i8"),  # of our feedback
        ("cname", "u1", (NAME,)),
        ("cname_size", "i8"),
        ("kinds", "u1", (256,)),  # incoming extension id -> kind
        ("ids", "u1", (KINDS,)),  # kind -> outgoing extension id; 0: not negotiated
        ("codecs", "u1", (128,)),  # incoming payload type -> codec; 0: not negotiated
        ("repairs", "u1", (128,)),  # incoming RTX payload type -> its primary one; NO_TYPE: not RTX
        ("streams", "i4", (MAX_STREAMS,)),  # rows; 0: none
        ("sources", "i4", (MAX_SOURCES,)),
        ("stream_count", "i4"),
        ("source_count", "i4"),
        ("opened", "i4"),  # bit 0: its video is synthetic, bodies are compared; bit 1: its sound
        ("capture", "i4"),  # 1: its opened packets go to the capture ring
        ("stopped", "i4"),  # 1: it neither sends nor answers (killed), until it is removed
        ("down", LINK),
        ("up", LINK),
        ("twcc", TWCC_STATE),
        ("twcc_media", "i8"),  # SSRC that TWCC feedback names; 0: nothing to report
        ("twcc_next", "i8"),  # transport-wide number of the next packet that we send
        ("next_report", "i8"),
        ("next_twcc", "i8"),
        ("next_nack", "i8"),
        ("packets", "i8"),  # RTP that was opened
        ("octets", "i8"),  # UDP payload of all that came
        ("rtcp", "i8"),
        ("garbage", "i8"),
        ("refused", "i8"),  # libsrtp would not open it
        ("excess", "i8"),  # packets of SSRCs beyond MAX_STREAMS or of unknown payload types
        ("first_packet", "i8"),  # ns
        ("last_packet", "i8"),  # ns
        ("sent", "i8"),  # datagrams
        ("failures", "i8"),  # datagrams that the kernel would not take
        ("rtx", "i8"),  # RTX packets received
        ("group", "i8"),
        ("token", "i8"),  # generation << 24 | row: held datagrams and events of a client that has left fit no other
        ("counted_only", "i8"),  # 1: its RTP stays sealed: packets and gaps are counted, of frames nothing is known
        ("early", "i8"),  # address of `early_count` EARLY records: what came before the client was the engine's
        ("early_count", "i8"),
    ],
    align=True,
)
INDEX = (1 << 24) - 1  # of a token
EARLY = np.dtype([("release", "i8"), ("address", "i8"), ("length", "i8")])  # ns, and where the datagram lies

EVENT_BYTES = 1500
EVENT = np.dtype([("token", "i8"), ("length", "i8"), ("payload", "u1", (EVENT_BYTES,))], align=True)
# one datagram that is control's: STUN or DTLS

ENGINE = np.dtype(
    [
        ("stop", "i8"),
        ("client_used", "i8"),  # rows in use, the unused row 0 included; released by control
        ("now", "i8"),
        ("realtime", "i8"),  # ns that CLOCK_REALTIME is ahead of CLOCK_MONOTONIC
        ("fake_now", "i8"),  # tests set the clock; 0: the real one
        ("clients", "i8"),  # addresses of tables
        ("streams", "i8"),
        ("stream_free", "i8"),  # address of i8: a stack of free rows of streams
        ("stream_free_count", "i8"),
        ("sources", "i8"),
        ("held", "i8"),  # HELD: the delay queue
        ("captures", "i8"),  # CAPTURE ring; 0: none
        ("events", "i8"),  # address of the slots
        ("event_slots", "i8"),
        ("event_head", "i8"),
        ("event_tail", "i8"),  # written by control
        ("events_lost", "i8"),
        ("wake", "i8"),  # eventfd that wakes control
        ("messages", "i8"),  # receive slots
        ("buffer", "i8"),
        ("controls", "i8"),
        ("slots", "i8"),
        ("out_messages", "i8"),  # send slots, one client's at a time
        ("out_vectors", "i8"),
        ("out_buffer", "i8"),
        ("out_count", "i8"),
        ("filled", "i8"),
        ("scratch", "i8"),  # 4096 bytes: RTCP being built, lists
        ("next_sources", "i8"),  # ns: when a source is due
        ("next_pass", "i8"),  # ns: when the clients' sockets are looked at again
        # counters
        ("passes", "i8"),
        ("received", "i8"),  # datagrams
        ("sent", "i8"),
        ("idle", "i8"),  # ns asleep
        ("late", "i8"),  # ns: how late a source's packet left, at most
        ("held_lost", "i8"),  # datagrams that the delay queue had no room for: the tool's own fault
        ("maxima_wanted", "i8"),  # counts how often control has wanted maxima measured anew; released by control
        ("maxima_begun", "i8"),  # how often they have been; released by the loop
        ("words", "i8", (16,)),
        ("timeout", "i8", (2,)),
        ("rtp", RTP),
        ("rtcp", RTCP),
        ("sender_info", SENDER_INFO),
        ("report", REPORT_BLOCK),
        ("extensions", EXTENSIONS),
        ("frame", FRAME),
    ],
    align=True,
)

client_at, stream_at, source_at = pointer_to(CLIENT), pointer_to(STREAM), pointer_to(SOURCE)
engine_at, event_at, early_at = pointer_to(ENGINE), pointer_to(EVENT), pointer_to(EARLY)
CLIENT_SIZE, STREAM_SIZE, SOURCE_SIZE, EVENT_SIZE = (t.itemsize for t in (CLIENT, STREAM, SOURCE, EVENT))
EARLY_SIZE = EARLY.itemsize


def offset(dtype: np.dtype[Any], field: str) -> int:
    """Where a field lies in its record."""
    assert dtype.fields is not None
    return int(dtype.fields[field][1])
