"""From the socket to an authenticated RTP packet: batched receive, demultiplexing, SRTP, identification.

What comes from an address that no transport has costs a table look-up and a counter. Nothing is believed of a packet
before SRTP has authenticated it. Then `intake.accept` takes over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import be16, be32, put16
from mediacodecs.extensions import TWCC, parse_extensions
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.rtcp import is_rtcp
from mediacodecs.rtp import parse_rtp
from mediacodecs.twcc import TWCC_STATE, twcc_receive
from mediaserver.engine.access import layer_of, transport_of
from mediaserver.engine.buckets import admitted, note_round
from mediaserver.engine.commands import take_commands
from mediaserver.engine.ended import has_ended
from mediaserver.engine.ice import handle_stun
from mediaserver.engine.identify import doubtful, identify, known_ssrc, settled
from mediaserver.engine.intake import accept
from mediaserver.engine.layout import NO_TYPE, OPEN, SSRC_LIVES, twcc_at
from mediaserver.engine.news import may_tell_dtls, tell_dtls
from mediaserver.engine.paths import counted, heard
from mediaserver.engine.rtcp_in import handle_rtcp
from mediaserver.engine.send import flush, tell_time
from mediaserver.engine.tables import address_key, find_address
from packetio.batch import CONTROL_BYTES, MESSAGE, SLOT, SOCKADDR, arrival_of
from packetio.memory import bytes_at, pointer_to
from packetio.native import recvmmsg, srtp_unprotect

message_at = pointer_to(MESSAGE)
length_at = pointer_to(np.dtype([("value", "i4")]))
MESSAGE_SIZE, TWCC_SIZE = MESSAGE.itemsize, TWCC_STATE.itemsize
MSG_DONTWAIT, MSG_TRUNC = 0x40, 0x20
BATCHES = 16  # that one round takes at most (1,024 datagrams, half a millisecond of garbage)


@kernel
def receive_round(w: Any) -> int:
    """Take what has come: one batch, and more while the batches are full of what is not forwarded.

    So a flood of garbage leaves the socket's buffer faster than it comes, and media is served a batch at a time.
    """
    w.media_taken = 0
    came = receive_batch(w)
    total, batches = came, 1
    while came == w.slots and w.media_taken < w.slots and batches < BATCHES:
        if w.queued:
            flush(w)  # answers to checks point into the slots that are about to be used again
        came = receive_batch(w)
        total += came
        batches += 1
    note_round(w, came == w.slots)
    return total


@kernel
def receive_batch(w: Any) -> int:
    """Take one batch from the socket; returns the number of datagrams."""
    n = recvmmsg(np.int32(w.fd), w.messages, np.uint32(w.slots), np.int32(MSG_DONTWAIT), 0)
    if n <= 0:
        return 0
    tell_time(w)
    for slot in range(n):
        message = message_at(w.messages + slot * MESSAGE_SIZE)
        w.received += 1
        w.received_bytes += int64(message.size)
        if message.flags & MSG_TRUNC:
            w.drop_truncated += 1
        else:
            demultiplex(w, slot, int64(message.size), int64(message.control_size))
        message.name_size = SOCKADDR
        message.control_size = CONTROL_BYTES
        message.flags = 0
    return int64(n)


@kernel
def demultiplex(w: Any, slot: int, size: int, control_size: int) -> None:
    """One datagram by its first byte (RFC 7983)."""
    b = bytes_at(w.data + slot * SLOT, SLOT)
    first = int64(b[0])
    if size < 12:
        w.drop_garbage += 1
    elif 128 <= first <= 191 or 20 <= first <= 63:
        address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
        ti = find_address(w, w.words)
        if ti == 0:
            w.drop_unknown += not has_ended(w, w.words, w.names + slot * 32)
        elif first < 64:
            handle_dtls(w, ti, w.data + slot * SLOT, size, first)
        elif is_rtcp(b, 0):
            handle_rtcp(w, ti, w.data + slot * SLOT, size)
        else:
            handle_rtp(w, ti, slot, size, control_size)
    elif first <= 3:
        handle_stun(w, slot, size, control_size)
    else:
        w.drop_garbage += 1


@kernel
def handle_dtls(w: Any, ti: int, address: int, size: int, first: int) -> None:
    """Hand a DTLS datagram up. Nothing here is authenticated, alerts neither: it is no sign of life, and of no end."""
    w.dtls_in += 1
    t = transport_of(w, ti)
    counted(w, t, address, size)
    if may_tell_dtls(w, t, first):
        tell_dtls(w, ti, t, address, size)


@kernel
def handle_rtp(w: Any, ti: int, slot: int, size: int, control_size: int) -> None:
    """Authenticate, parse and identify one RTP packet. What is authentic is counted, whosever it turns out to be."""
    t = transport_of(w, ti)
    if not admitted(w, t, size):
        return
    address = w.data + slot * SLOT
    b = bytes_at(address, SLOT)
    ssrc = be32(b, 8)
    reference = known_ssrc(t, ssrc)
    if t.secured == 0:
        take_commands(w)  # media may overtake the command that brings its keys
    if t.secured == 0 or (reference == -2 and t.ssrc_total >= SSRC_LIVES * t.ssrc_limit):
        w.drop_ssrc += 1
        return
    length = length_at(w.words.ctypes.data)
    length.value = size
    if srtp_unprotect(t.inbound, address, w.words.ctypes.data) != 0:
        w.drop_srtp += 1
        t.bad_srtp += 1
        return
    heard(w, t, address, size)
    t.packets_in += 1
    t.bytes_in += size
    t.ssrc_total += reference == -2  # libsrtp keeps a stream for it from now on, whatever is in the packet
    if parse_rtp(b, 0, int64(length.value), w.rtp) != 0:
        w.drop_garbage += 1
        return
    arrival = arrival_of(w.controls, slot, control_size, w.realtime, w.now)
    parse_extensions(b, w.rtp, t.kinds, w.extensions)
    if t.twcc and w.extensions.size[TWCC] == 2:
        twcc_receive(twcc_at(w.twccs + t.twcc * TWCC_SIZE), be16(b, int64(w.extensions.at[TWCC])), arrival)
    before = settled(reference)
    reference = look_again(w, ti, t, b, ssrc) if before < 0 or doubtful(w, reference) else before
    if reference < 0:
        w.drop_ssrc += t.state == OPEN
        return
    if reference & 1 and not unwrap_rtx(w, t, b, reference >> 1):
        return
    accept(w, t, reference >> 1, address, arrival, ssrc, reference & 1, reference == before)


@kernel
def look_again(w: Any, ti: int, t: Any, b: Any, ssrc: int) -> int:
    """What an SSRC refers to that is not settled; -1: nothing, or the peer is gone."""
    take_commands(w)  # a new stream may overtake the command that adds its layer
    return identify(w, ti, t, b, ssrc) if t.state == OPEN else int64(-1)


@kernel
def unwrap_rtx(w: Any, t: Any, b: Any, layer_index: int) -> bool:
    """Turn an RTX packet (RFC 4588) in b into the packet that it repeats; False: nothing in it (a probe).

    The header moves two bytes towards the payload, over the original sequence number.
    """
    rtp = w.rtp
    w.rtx_in += 1
    primary = int64(t.repairs[rtp.payload_type])
    if primary == NO_TYPE or int64(rtp.payload_end) < int64(rtp.payload_at) + 2:
        return False
    if layer_of(w, layer_index).started == 0:
        return False
    at = int64(rtp.payload_at)
    original = be16(b, at)
    for k in range(at - 1, -1, -1):
        b[k + 2] = b[k]
    put16(b, 4, original)
    b[3] = int64(rtp.marker) << 7 | primary
    rtp.sequence = original
    rtp.payload_type = primary
    rtp.payload_at += np.uint32(2)
    rtp.ext_at += np.uint32(2)
    rtp.ext_end += np.uint32(2)
    for k in range(w.extensions.at.size):
        w.extensions.at[k] += np.uint32(2)
    return True
