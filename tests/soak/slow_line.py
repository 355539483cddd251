"""A burst through UDP whose line is slow: run by a test in a network namespace of its own, where lo is that line.

Prints how many packets were sent, how many came, how many were dropped and how often the worker waited.
"""

from __future__ import annotations

import socket

from mediaserver.engine import layout as L
from mediaserver.engine.send import flush, queue_message
from tests.unit.engine.desk import Desk
from tests.unit.engine.peers import datagrams

PACKETS, SIZE, TRAIN = 120, 1000, 3  # all of them fit the receiver's buffer
SEND_BUFFER = 8192


def main() -> None:
    desk = Desk()
    end = desk.peer()
    desk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    desk.w.send_wait = 60 * L.SECOND
    for k in range(PACKETS // TRAIN):
        queue_message(desk.w, end.record, k * TRAIN * SIZE, (k + 1) * TRAIN * SIZE, SIZE, 0)
    flush(desk.w)
    end.sock.settimeout(10)
    came = [end.sock.recv(2048) for _ in range(PACKETS - int(desk.w.drop_send))]
    end.sock.setblocking(False)
    came += list(datagrams(end.sock))
    print(PACKETS, len(came), int(desk.w.drop_send), int(desk.w.send_waits))
    desk.close()


if __name__ == "__main__":
    main()
