"""The floor: what the kernel and the cipher alone cost per packet, with nothing of a server around them.

A compiled loop sends one 1,120-byte datagram (or a train of ten by GSO) to each of N sockets with sendmmsg, as the node
would, with or without sealing it by AES-128-GCM first, at the pace of a publisher's packets or frames.
Run: `python -m loadtest.bench.floor PORT …` prints JSON, {name: µs of CPU per packet, …}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from mediacodecs.kernel import kernel
from packetio.batch import (
    CONTROL,
    MESSAGE,
    SOL_UDP,
    UDP_SEGMENT,
    SendQueue,
    bind_udp,
    pack_sockaddr,
)
from packetio.memory import Table, pointer_to
from packetio.native import sendmmsg
from packetio.srtp import GCM, SrtpContexts, add_gcm, begin_gcm, end_gcm, make_sealer

SIZE, HEAD, TAG = 1120, 20, 16  # bytes of a datagram before sealing, of its clear part, and of the tag
TRAIN = 10
ROUNDS = 60
PAUSE = 0.004  # seconds a packet of the train: rounds come as often as a publisher's packets or frames, caches as cold
FLOOR = np.dtype(
    [
        ("fd", "i8"),
        ("messages", "i8"),
        ("targets", "i8"),
        ("train", "i8"),
        ("seal", "i8"),
        ("arena", "i8"),
        ("source", "i8"),
        ("index", "i8"),  # of the next packet: a nonce is used once
        ("failures", "i8"),
        ("evp", "u8"),
        ("salt_low", "u8"),
        ("salt_high", "u4"),
        ("pad", "u4"),
    ],
    align=True,
)
MESSAGE_SIZE = MESSAGE.itemsize
floor_at = pointer_to(FLOOR)


@kernel
def send_round(f: Any, sealer: Any) -> None:
    """One train to each destination."""
    if f.seal:
        for k in range(f.targets * f.train):
            to = f.arena + k * (SIZE + TAG)
            begin_gcm(sealer, f, 1, f.index, to, HEAD)
            end_gcm(sealer, f, add_gcm(f, to + HEAD, f.source, SIZE - HEAD))
            f.index += 1
    done = 0
    while done < f.targets:
        n = sendmmsg(np.int32(f.fd), f.messages + done * MESSAGE_SIZE, np.uint32(f.targets - done), np.int32(0))
        if n <= 0:
            f.failures += 1
            done += 1
        else:
            done += n


class Floor:
    """A socket, an arena and the messages for one case."""

    def __init__(self, ports: list[int], train: int, seal: bool) -> None:
        wire, count = SIZE + TAG, len(ports)
        self.socket = bind_udp("127.0.0.1", 0, 1 << 20, 8 << 20)
        self.queue = SendQueue(count, wire * train * count)
        self.names, self.state, self.source = (
            Table(np.dtype("u1"), 16 * count),
            Table(FLOOR, 1),
            np.zeros(SIZE, np.uint8),
        )
        self.contexts, self.sealer = SrtpContexts(GCM, bytes(28), bytes(28)), make_sealer()
        names = b"".join(pack_sockaddr("127.0.0.1", port, self.socket.family) for port in ports)
        self.names.rows[:] = np.frombuffer(names, np.uint8)
        self._fill(wire, train, count)
        f = self.state.rows[0]
        f.fd, f.messages, f.targets, f.train, f.seal = (
            self.socket.fileno(),
            self.queue.messages.address,
            count,
            train,
            seal,
        )
        f.arena, f.source = self.queue.arena.address, int(self.source.ctypes.data)
        f.evp, f.salt_low, f.salt_high = self.contexts.evp, self.contexts.salt_low, self.contexts.salt_high

    def _fill(self, wire: int, train: int, count: int) -> None:
        queue, each = self.queue, np.arange(count)
        queue.arena.rows[: wire * train * count] = 128
        queue.vectors.rows["base"] = queue.arena.address + each * wire * train
        queue.vectors.rows["size"] = wire * train
        queue.messages.rows["name"], queue.messages.rows["name_size"] = self.names.address + each * 16, 16
        if train > 1:
            controls = queue.controls.rows[: count * CONTROL.itemsize].view(CONTROL)
            controls["size"], controls["level"], controls["type"], controls["value"] = 18, SOL_UDP, UDP_SEGMENT, wire
            queue.messages.rows["control"] = queue.controls.address + each * CONTROL.itemsize
            queue.messages.rows["control_size"] = CONTROL.itemsize

    def measure(self, rounds: int) -> float:
        """The median over the rounds of µs of this thread's CPU per packet."""
        f, figures = self.state.rows[0], []
        packets = int(f.targets * f.train)
        send_round(f, self.sealer.rows[0])
        for _ in range(rounds):
            time.sleep(PAUSE * int(f.train))
            begun = time.thread_time_ns()
            send_round(f, self.sealer.rows[0])
            figures.append((time.thread_time_ns() - begun) / packets / 1000)
        return float(np.median(figures))

    def close(self) -> None:
        """Free the socket and the contexts."""
        self.socket.close()
        self.contexts.close()


def measure_floor(ports: list[int], rounds: int = ROUNDS) -> dict[str, float]:
    """µs of CPU per packet of the four cases."""
    found = {}
    for name, train, seal in (
        ("sendmmsg", 1, False),
        ("sendmmsg, GCM", 1, True),
        ("GSO of 10", TRAIN, False),
        ("GSO of 10, GCM", TRAIN, True),
    ):
        floor = Floor(ports, train, seal)
        found[name] = floor.measure(rounds)
        floor.close()
    return found


if __name__ == "__main__":
    print(json.dumps(measure_floor([int(port) for port in sys.argv[1:]])))
