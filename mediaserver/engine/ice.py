"""ICE-lite (RFC 8445 2.5) in the engine: authenticated binding requests are answered here and decide where media goes.

A lite agent sends no checks. A peer lives while its requests keep coming; control judges that by `last_check`. Media
goes to the first address that was authenticated, then to whichever is nominated (USE-CANDIDATE), or to the one that
keeps checking when the old one has gone silent: so a client whose address changes keeps its session. Requests for an
unknown ufrag are dropped unanswered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.stun import (
    BINDING_REQUEST,
    begin_integrity,
    end_integrity,
    parse_stun,
    username_hash,
    write_binding_success,
    write_fingerprint,
)
from mediaserver.engine.access import transport_of
from mediaserver.engine.buckets import may_check
from mediaserver.engine.commands import take_commands
from mediaserver.engine.layout import ADDRESS_CHANGED, ICE_CONNECTED, SECOND
from mediaserver.engine.news import tell_peer
from mediaserver.engine.send import CONTROLS, MESSAGE_SIZE, VECTOR_SIZE, make_room, message_at, vector_at
from mediaserver.engine.tables import AF_INET, address_key, drop_addresses, find_address, find_ufrag, put_address
from packetio.batch import CONTROL_BYTES, PACKET_INFO, SLOT, SOCKADDR
from packetio.memory import bytes_at, copy_bytes, numbers_at
from packetio.native import evp_sha1, hmac

SILENT = 3 * SECOND  # ns without a check after which another address of the peer takes over unasked
ADDRESSES = 4  # addresses that one transport may hold
STUN_SCRATCH = 2048  # offset in the worker's scratch where answers are built
IP_LEVEL, IPV6_LEVEL, IP_PKTINFO, IPV6_PKTINFO = 0, 41, 8, 50


@kernel
def handle_stun(w: Any, slot: int, size: int, control_size: int) -> None:
    """Answer one binding request, if it is authentic."""
    b = bytes_at(w.data + slot * SLOT, SLOT)
    stun = w.stun
    w.stun_in += 1
    if parse_stun(b, 0, size, stun) != 0 or stun.kind != BINDING_REQUEST or stun.integrity_at == 0:
        w.drop_stun += 1
        return
    hashed = username_hash(b, int64(stun.username_at), int64(stun.username_size))
    ti = find_ufrag(w, hashed)
    if ti == 0 and take_commands(w) > 0:  # the check may have overtaken the command that makes it known
        ti = find_ufrag(w, hashed)
    if ti == 0:
        w.drop_stun += 1
        return
    t = transport_of(w, ti)
    old = hashed != t.ufrag
    if not may_check(w, t) or not authentic(w, t, b, old):
        w.drop_stun += 1
        return
    validated(w, ti, t, slot, control_size, stun.use_candidate != 0)
    answer(w, t, b, slot, control_size, old)


@kernel
def digest(w: Any, t: Any, address: int, size: int, old: bool) -> None:
    """HMAC-SHA1 of `size` bytes at `address` with the transport's password, to w.sha1."""
    key = t.old_password.ctypes.data if old else t.password.ctypes.data
    key_size = t.old_password_size if old else t.password_size
    hmac(evp_sha1(), key, np.int32(key_size), address, size, w.sha1.ctypes.data, 0)


@kernel
def authentic(w: Any, t: Any, b: Any, old: bool) -> bool:
    """Whether MESSAGE-INTEGRITY (RFC 8489 14.5) is right."""
    at = int64(w.stun.integrity_at)
    high, low = b[2], b[3]
    begin_integrity(b, 0, at)
    digest(w, t, b.ctypes.data, at, old)
    b[2], b[3] = high, low
    wrong = 0
    for k in range(20):
        wrong |= int64(w.sha1[k]) ^ int64(b[at + 4 + k])
    return wrong == 0


@kernel
def validated(w: Any, ti: int, t: Any, slot: int, control_size: int, nominated: bool) -> None:
    """An authenticated check came from the slot's sender: bind the address, and send there if it should be."""
    name = w.names + slot * 32
    address_key(bytes_at(name, 32), 0, w.words)
    if find_address(w, w.words) != ti:
        bind_address(w, ti, t, name)
    t.last_check = w.now
    current = same_address(t, bytes_at(name, 32))
    if current:
        t.remote_check = w.now
    elif t.remote_size == 0 or nominated or w.now - t.remote_check > SILENT:
        first = t.remote_size == 0
        copy_bytes(t.remote.ctypes.data, name, SOCKADDR)
        t.remote_size = 16 if int64(t.remote[0]) == AF_INET else SOCKADDR
        t.remote_check = w.now
        copy_packet_info(w, t, slot, control_size)
        tell_peer(w, ti, t, ICE_CONNECTED if first else ADDRESS_CHANGED)
    t.connected = 1


@kernel
def bind_address(w: Any, ti: int, t: Any, name: int) -> None:
    """Bind the sockaddr at `name`. When a transport holds too many, all go but the one that media goes to."""
    if t.addresses >= ADDRESSES:
        drop_addresses(w, ti, 0)
        address_key(bytes_at(t.remote.ctypes.data, 32), 0, w.words)
        put_address(w, w.words, ti)
        t.addresses = 1
    address_key(bytes_at(name, 32), 0, w.words)
    put_address(w, w.words, ti)
    t.addresses += 1


@kernel
def same_address(t: Any, name: Any) -> bool:
    """Whether media goes to this address already (family, port, address; not the flow label)."""
    if t.remote_size == 0:
        return False
    for k in range(t.remote_size):
        flow = 4 <= k < 8 and t.remote_size == SOCKADDR
        if t.remote[k] != name[k] and not flow:
            return False
    return True


@kernel
def find_packet_info(w: Any, slot: int, control_size: int) -> int:
    """Address of the packet-info control message of a received datagram; 0: none."""
    base = w.controls + slot * CONTROL_BYTES
    at = int64(0)
    while at + 16 <= control_size:
        words = numbers_at(base + at, 2)
        if words[0] < 16:
            return 0
        kind = words[1]
        if kind == IP_LEVEL | IP_PKTINFO << 32 or kind == IPV6_LEVEL | IPV6_PKTINFO << 32:
            return int64(base + at)
        at += (words[0] + 7) & ~7
    return 0


@kernel
def reply_info(w: Any, slot: int, control_size: int, to: int) -> int:
    """Write the control message that makes a reply leave from the address that was asked; returns its size."""
    found = find_packet_info(w, slot, control_size)
    if found == 0:
        return 0
    size = numbers_at(found, 1)[0]
    space = (size + 7) & ~7
    if space > PACKET_INFO:
        return 0
    copy_bytes(to, found, size)
    b = bytes_at(to, PACKET_INFO)
    for k in range(size, space):
        b[k] = 0
    if size == 28:  # in_pktinfo: index, spec_dst (the source of the reply), addr; the route picks the interface
        for k in range(4):
            b[16 + k] = 0
            b[20 + k] = b[24 + k]
            b[24 + k] = 0
    return int64(space)


@kernel
def copy_packet_info(w: Any, t: Any, slot: int, control_size: int) -> None:
    """Let media to the transport leave from the address that its check was sent to."""
    t.packet_info_size = reply_info(w, slot, control_size, t.packet_info.ctypes.data)


@kernel
def answer(w: Any, t: Any, b: Any, slot: int, control_size: int, old: bool) -> None:
    """Send the binding success response to where the request came from."""
    to = bytes_at(w.scratch + STUN_SCRATCH, 512)
    name = bytes_at(w.names + slot * 32, 32)
    v4 = int64(name[0]) == AF_INET
    mapped = int64(w.words[0]) == 0 and (w.words[1] >> 32) & 0xFFFFFFFF == 0xFFFF
    address = bytes_at(w.names + slot * 32 + (4 if v4 else 20 if mapped else 8), 16)
    port = int64(name[2]) << 8 | int64(name[3])
    family = 4 if v4 or mapped else 6
    at = write_binding_success(to, 0, b, int64(w.stun.transaction_at), address, family, port)
    begin_integrity(to, 0, at)
    digest(w, t, to.ctypes.data, at, old)
    end = write_fingerprint(to, 0, end_integrity(to, 0, at, w.sha1))
    reply(w, slot, control_size, w.scratch + STUN_SCRATCH, end)


@kernel
def reply(w: Any, slot: int, control_size: int, source: int, size: int) -> None:
    """Queue one datagram to the sender of a received one; it leaves before the slot is used again."""
    make_room(w, size)
    k = w.queued
    start = w.queued_bytes
    copy_bytes(w.arena + start, source, size)
    vector = vector_at(w.out_vectors + k * VECTOR_SIZE)
    vector.base, vector.size = w.arena + start, size
    message = message_at(w.out_messages + k * MESSAGE_SIZE)
    message.name = w.names + slot * 32
    message.name_size = 16 if int64(bytes_at(w.names + slot * 32, 1)[0]) == AF_INET else SOCKADDR
    message.control = w.out_controls + k * CONTROLS
    message.control_size = reply_info(w, slot, control_size, w.out_controls + k * CONTROLS)
    numbers_at(w.out_segments, w.out_count)[k] = 1
    numbers_at(w.out_arrivals, w.out_count)[k] = 0
    w.queued = k + 1
    w.queued_bytes = start + size
