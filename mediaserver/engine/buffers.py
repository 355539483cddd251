"""What the kernel gave of the socket buffers that were asked for: told once, at the start.

Without the right to exceed them (CAP_NET_ADMIN), the kernel cuts silently to net.core.rmem_max and wmem_max, which are
212,992 bytes on most systems: less than one keyframe to a few dozen viewers.
"""

from __future__ import annotations

import socket

from mediaserver.logs import get_logger
from packetio.batch import buffer_sizes

log = get_logger("weir.engine")


def report_buffers(sock: socket.socket, receive: int, send: int) -> None:
    """Log the buffers of a worker's socket beside the sizes asked for, in bytes; a warning says what to set."""
    got_receive, got_send = buffer_sizes(sock)
    sizes = {"receive": got_receive, "send": got_send, "receive_asked": receive, "send_asked": send}
    if got_receive >= receive and got_send >= send:
        log.info("socket buffers of each worker", **sizes)
        return
    log.warning(
        "the kernel gave smaller socket buffers than asked: bursts wait longer, and more is lost when they don't fit",
        **sizes,
        to_set=f"sysctl -w net.core.rmem_max={receive} net.core.wmem_max={send}",
    )
