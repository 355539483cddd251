"""A flood of garbage: datagrams of mixed kinds from addresses that the node does not know, at a chosen rate.

Random bytes, and such as begin like RTP, RTCP, STUN or DTLS, of 1 to 1,200 bytes; from SOURCES sockets in turn, four
alike in size by one GSO message, so that the sender is not what is measured. Runs as
a process of its own: `python -m loadtest.bench.flood PORT RATE SECONDS` prints the number sent.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.batch import CONTROL, MESSAGE, SOL_UDP, UDP_SEGMENT, SendQueue
from packetio.memory import Table, pointer_to
from packetio.native import clock_gettime, ppoll, sendmmsg

SOURCES, MESSAGES, BATCH, TRAIN, SLOT = 64, 256, 16, 4, 1280
KINDS = MESSAGES * TRAIN  # datagrams made
SECOND, MONOTONIC = 1_000_000_000, 1
MESSAGE_SIZE = MESSAGE.itemsize
FLOOD = np.dtype(
    [
        ("messages", "i8"),
        ("rate", "i8"),  # datagrams a second
        ("until", "i8"),  # ns
        ("sent", "i8"),
        ("fds", "i8", (SOURCES,)),
        ("words", "i8", (2,)),
        ("timeout", "i8", (2,)),
    ],
    align=True,
)
flood_at = pointer_to(FLOOD)


def garbage(seed: int, count: int = KINDS) -> list[bytes]:
    """Noise, fake RTP, fake RTCP, fake STUN with the right cookie, fake DTLS and runts, TRAIN alike in turn."""
    dice, out = np.random.default_rng(seed), []
    heads = (b"", b"\x80\x60", b"\x80\xc9", b"", b"\x16\xfe\xfd", b"\x90")
    size = 0
    for datagram in range(count):
        k = datagram // TRAIN
        if datagram % TRAIN == 0:
            size = int(dice.integers(1, 16) if k % 6 == 5 else dice.integers(20, 1200))
        noise = dice.bytes(size)
        if k % 6 == 3:
            body = noise[: size & ~3]
            out.append(b"\0\1" + len(body).to_bytes(2) + b"\x21\x12\xa4\x42" + dice.bytes(12) + body)
        else:
            out.append((heads[k % 6] + noise)[:size])
    return out


def fill(datagrams: list[bytes]) -> SendQueue:
    """The datagrams as MESSAGES trains, ready to be sent."""
    queue, each = SendQueue(MESSAGES, KINDS * SLOT), np.arange(MESSAGES)
    for k in range(MESSAGES):
        train = np.frombuffer(b"".join(datagrams[k * TRAIN : (k + 1) * TRAIN]), np.uint8)
        queue.arena.rows[k * TRAIN * SLOT : k * TRAIN * SLOT + train.size] = train
        queue.vectors.rows["size"][k] = train.size
    queue.vectors.rows["base"] = queue.arena.address + each * TRAIN * SLOT
    controls = queue.controls.rows[: MESSAGES * CONTROL.itemsize].view(CONTROL)
    controls["size"], controls["level"], controls["type"] = 18, SOL_UDP, UDP_SEGMENT
    controls["value"] = queue.vectors.rows["size"] // TRAIN
    queue.messages.rows["control"] = queue.controls.address + each * CONTROL.itemsize
    queue.messages.rows["control_size"] = CONTROL.itemsize
    return queue


@kernel
def flood_clock(f: Any) -> int:
    """CLOCK_MONOTONIC in ns."""
    clock_gettime(np.int32(MONOTONIC), f.words.ctypes.data)
    return int64(f.words[0] * SECOND + f.words[1])


@kernel
def pour(f: Any) -> None:
    """Send at the rate until the end: a batch of BATCH when that many are due."""
    begun = flood_clock(f)
    now = begun
    turn = np.int64(0)
    while now < f.until:
        due = begun + f.sent * SECOND // f.rate
        if now < due:
            f.timeout[0], f.timeout[1] = 0, due - now
            ppoll(0, 0, f.timeout.ctypes.data, 0)
        else:
            first = f.messages + (turn * BATCH % MESSAGES) * MESSAGE_SIZE
            n = sendmmsg(np.int32(f.fds[turn % SOURCES]), first, np.uint32(BATCH), np.int32(0))
            f.sent += TRAIN * max(n, 1)
            turn += 1
        now = flood_clock(f)


def run(host: str, port: int, rate: int, seconds: float, seed: int = 1) -> int:
    """Flood a UDP port; returns the number of datagrams sent."""
    queue, table = fill(garbage(seed)), Table(FLOOD, 1)
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    f = table.rows[0]
    for k, sock in enumerate(sockets):
        sock.connect((host, port))
        f.fds[k] = sock.fileno()
    f.messages, f.rate = queue.messages.address, rate
    pour(f)  # compiles; its end is in the past
    f.until, f.sent = time.monotonic_ns() + int(seconds * 1e9), 0
    pour(f)
    for sock in sockets:
        sock.close()
    return int(f.sent)


if __name__ == "__main__":
    print(run("127.0.0.1", int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
