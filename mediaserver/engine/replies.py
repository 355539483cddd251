"""Answers that go to where a datagram came from, and leave from the address that it was sent to."""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.send import CONTROLS, MESSAGE_SIZE, VECTOR_SIZE, make_room, message_at, vector_at
from mediaserver.engine.tables import AF_INET
from packetio.batch import CONTROL_BYTES, PACKET_INFO, SOCKADDR
from packetio.memory import bytes_at, copy_bytes, numbers_at

IP_LEVEL, IPV6_LEVEL, IP_PKTINFO, IPV6_PKTINFO = 0, 41, 8, 50


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
def reply(w: Any, slot: int, control_size: int, source: int, size: int) -> None:
    """Queue one datagram to the sender of a received one; it leaves before the slot is used again."""
    make_room(w, size)
    control = w.out_controls + w.queued * CONTROLS
    queue_to(w, w.names + slot * 32, control, reply_info(w, slot, control_size, control), source, size)


@kernel
def queue_to(w: Any, name: int, control: int, control_size: int, source: int, size: int) -> None:
    """Queue one datagram to the sockaddr at `name`, which stays as it is until then. The caller has made room."""
    k = w.queued
    start = w.queued_bytes
    copy_bytes(w.arena + start, source, size)
    vector = vector_at(w.out_vectors + k * VECTOR_SIZE)
    vector.base, vector.size = w.arena + start, size
    message = message_at(w.out_messages + k * MESSAGE_SIZE)
    message.name = name
    message.name_size = 16 if int64(bytes_at(name, 1)[0]) == AF_INET else SOCKADDR
    message.control = control
    message.control_size = control_size
    numbers_at(w.out_segments, w.out_count)[k] = 1
    numbers_at(w.out_arrivals, w.out_count)[k] = 0
    w.queued = k + 1
    w.queued_bytes = start + size
