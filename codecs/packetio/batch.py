"""Batched UDP: the kernel's message structures as records, receive slots and a send queue of GSO trains.

recvmmsg and sendmmsg are called from compiled code. Messages, vectors and control bytes are prepared once; per packet
only what changes is written. A train is one message that the kernel cuts every `segment` bytes (UDP_SEGMENT).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.memory import Table, numbers_at

MESSAGE = np.dtype(
    [
        ("name", "u8"),
        ("name_size", "u4"),
        ("pad0", "u4"),
        ("vector", "u8"),
        ("vector_count", "u8"),
        ("control", "u8"),
        ("control_size", "u8"),
        ("flags", "i4"),
        ("pad1", "i4"),
        ("size", "u4"),
        ("pad2", "u4"),
    ]
)  # struct mmsghdr
VECTOR = np.dtype([("base", "u8"), ("size", "u8")])  # struct iovec
CONTROL = np.dtype([("size", "u8"), ("level", "i4"), ("type", "i4"), ("value", "u2"), ("pad", "u2", (3,))])  # cmsg
assert MESSAGE.itemsize == 64 and VECTOR.itemsize == 16 and CONTROL.itemsize == 24

SOCKADDR = 28  # bytes of a sockaddr_in6, the larger of the two
SLOT = 2048  # bytes of a receive slot: larger datagrams are cut by the kernel and dropped (MSG_TRUNC)
CONTROL_BYTES = 128  # receive control space: time stamp (32) and packet info (40)
PACKET_INFO = 40  # bytes of a packet info control message, IPv4 (32) or IPv6 (40)

SECOND = 1_000_000_000
SOL_UDP, UDP_SEGMENT = 17, 103
SCM_TIMESTAMPNS, SOL_SOCKET, STAMP_BYTES = 35, 1, 32
SO_TIMESTAMPNS, SO_RCVBUFFORCE, SO_SNDBUFFORCE = 35, 33, 32
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 8, 49, 50, 10, 23


def bind_udp(host: str, port: int, receive_buffer: int, send_buffer: int) -> socket.socket:
    """A non-blocking UDP socket with kernel time stamps and packet info on; "::" is dual stack. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        for forced, plain, size in (
            (SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_buffer),
            (SO_SNDBUFFORCE, socket.SO_SNDBUF, send_buffer),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, size)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, size)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 2)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def buffer_sizes(sock: socket.socket) -> tuple[int, int]:
    """(receive, send) buffer of a socket as setsockopt counts it, in bytes; the kernel keeps and tells twice that."""
    receive, send = (sock.getsockopt(socket.SOL_SOCKET, which) for which in (socket.SO_RCVBUF, socket.SO_SNDBUF))
    return receive // 2, send // 2


@kernel
def arrival_of(controls: int, slot: int, control_size: int, realtime: int, now: int) -> int:
    """The kernel's receive stamp of a slot on CLOCK_MONOTONIC (ns); `now`, when there is none that can be true.

    controls: address of the slots' control bytes; realtime: ns that CLOCK_REALTIME, which may be set, is ahead.
    """
    base = controls + slot * CONTROL_BYTES
    at = int64(0)
    while at + STAMP_BYTES <= control_size:
        words = numbers_at(base + at, 4)
        size = words[0]
        if size < 16:
            break
        if words[1] == SOL_SOCKET | SCM_TIMESTAMPNS << 32:
            arrival = int64(words[2] * SECOND + words[3] - realtime)
            return arrival if now - SECOND < arrival <= now else int64(now)
        at += (size + 7) & ~7
    return int64(now)


class ReceiveSlots:
    """Messages for recvmmsg over consecutive slots, with room for the sender's address and control messages.

    Shapes: `count` messages; data (count, SLOT) u1, names (count, 32) u1, controls (count, CONTROL_BYTES) u1.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.messages = Table(MESSAGE, count)
        self.vectors = Table(VECTOR, count)
        self.data = Table(np.dtype("u1"), count * SLOT)
        self.names = Table(np.dtype("u1"), count * 32)
        self.controls = Table(np.dtype("u1"), count * CONTROL_BYTES)
        rows, step = self.messages.rows, np.arange(count)
        self.vectors.rows["base"] = self.data.address + step * SLOT
        self.vectors.rows["size"] = SLOT
        rows["name"] = self.names.address + step * 32
        rows["vector"] = self.vectors.address + step * VECTOR.itemsize
        rows["vector_count"] = 1
        rows["control"] = self.controls.address + step * CONTROL_BYTES
        rows["name_size"], rows["control_size"] = SOCKADDR, CONTROL_BYTES


class SendQueue:
    """Messages for sendmmsg over one arena: `count` messages, `size` bytes and a margin of one largest train."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self.messages = Table(MESSAGE, count)
        self.vectors = Table(VECTOR, count)
        self.controls = Table(np.dtype("u1"), count * 64)  # packet info (40) and UDP_SEGMENT (24)
        self.arena = Table(np.dtype("u1"), size + 2 * 65536)
        self.messages.rows["vector"] = self.vectors.address + np.arange(count) * VECTOR.itemsize
        self.messages.rows["vector_count"] = 1


def pack_sockaddr(host: str, port: int, family: int) -> bytes:
    """A sockaddr as the socket's family wants it: IPv4 addresses are mapped on an IPv6 socket."""
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    mapped = host if ":" in host else f"::ffff:{host}"
    return (
        struct.pack("=H", family)
        + struct.pack("!HI", port, 0)
        + socket.inet_pton(socket.AF_INET6, mapped)
        + struct.pack("=I", 0)
    )


def unpack_sockaddr(raw: Any) -> tuple[str, int]:
    """(address, port) of a sockaddr; a mapped IPv4 address is given plain."""
    data = bytes(raw)
    (family,) = struct.unpack("=H", data[:2])
    (port,) = struct.unpack("!H", data[2:4])
    if family == socket.AF_INET:
        return socket.inet_ntoa(data[4:8]), port
    address = data[8:24]
    if address[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntoa(address[12:]), port
    return socket.inet_ntop(socket.AF_INET6, address), port
