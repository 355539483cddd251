"""RTCP and single packets through libsrtp from Python: for what is too rare to need a kernel."""

from __future__ import annotations

from ctypes import c_void_p as _pointer

import numpy as np

from packetio.memory import Table
from packetio.native import library
from packetio.srtp import SrtpContexts

ROOM = 64  # bytes that protection may add
_buffer, _length = Table(np.dtype("u1"), 2048 + ROOM), Table(np.dtype("i4"), 1)


def _run(name: str, context: int, packet: bytes) -> bytes:
    """One libsrtp call in place; b'' when it refuses. Only for the event loop's thread: the buffer is shared."""
    _buffer.rows[: len(packet)] = np.frombuffer(packet, np.uint8)
    _length.rows[0] = len(packet)
    arguments = (_pointer(context), _pointer(_buffer.address), _pointer(_length.address))
    if getattr(library, name)(*arguments) != 0:
        return b""
    return bytes(_buffer.rows[: int(_length.rows[0])].tobytes())


def protect_rtcp(contexts: SrtpContexts, packet: bytes) -> bytes:
    """SRTCP of a compound packet."""
    return _run("srtp_protect_rtcp", contexts.outbound, packet)


def unprotect_rtcp(contexts: SrtpContexts, packet: bytes) -> bytes:
    """The compound packet in an SRTCP packet, b'' if it is not authentic."""
    return _run("srtp_unprotect_rtcp", contexts.inbound, packet)


def protect_rtp(contexts: SrtpContexts, packet: bytes) -> bytes:
    """SRTP of one RTP packet."""
    return _run("srtp_protect", contexts.outbound, packet)
