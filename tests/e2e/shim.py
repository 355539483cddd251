"""A bad network on loopback: a UDP relay between peers and the node that loses datagrams by a seed and can move.

It runs on a thread of its own, so that what it does to packets depends on nothing else in the test. Every peer
has an upstream socket of its own; `move` gives all of them new ones, as a NAT or a change from Wi-Fi to mobile does.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import threading
from types import TracebackType

HOST = "127.0.0.1"
Address = tuple[str, int]


class Shim:
    """Relays datagrams to the node's UDP port; a context. `port` is where peers send to."""

    def __init__(self, upstream: int, *, loss: float = 0.0, seed: int = 1) -> None:
        self.upstream, self.loss = (HOST, upstream), loss
        self.up, self.down = random.Random(seed), random.Random(seed + 1)
        self.lost = {"up": 0, "down": 0}
        self.relayed = {"up": 0, "down": 0}
        self.front = self._socket()
        self.front.bind((HOST, 0))
        self.port = int(self.front.getsockname()[1])
        self.peers: dict[Address, socket.socket] = {}
        self._wake, self._wish = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="shim")

    def __enter__(self) -> Shim:
        self._selector.register(self.front, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.write(self._wish, b"q")
        self._thread.join()
        self._selector.close()
        for sock in (self.front, *self.peers.values()):
            sock.close()
        os.close(self._wake)
        os.close(self._wish)

    def move(self) -> None:
        """Send from new ports from now on; the old ones are gone."""
        os.write(self._wish, b"m")

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self.front:
                    self._forward_up()
                elif key.fd == self._wake:
                    if os.read(self._wake, 1) == b"q":
                        return
                    self._move()
                elif key.data in self.peers and self.peers[key.data] is key.fileobj:
                    self._forward_down(key.fileobj, key.data)

    def _move(self) -> None:
        for address, sock in list(self.peers.items()):
            self._selector.unregister(sock)
            sock.close()
            self.peers[address] = self._open(address)

    def _open(self, address: Address) -> socket.socket:
        sock = self._socket()
        sock.connect(self.upstream)
        self._selector.register(sock, selectors.EVENT_READ, address)
        return sock

    def _forward_up(self) -> None:
        try:
            data, address = self.front.recvfrom(65536)
        except OSError:
            return
        if address not in self.peers:
            self.peers[address] = self._open(address)
        if self._keep("up", self.up):
            self._send(self.peers[address].send, data)

    def _forward_down(self, sock: socket.socket, address: Address) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            return
        if self._keep("down", self.down):
            self._send(lambda d: self.front.sendto(d, address), data)

    def _keep(self, way: str, dice: random.Random) -> bool:
        kept = dice.random() >= self.loss
        (self.relayed if kept else self.lost)[way] += 1
        return kept

    @staticmethod
    def _send(send: object, data: bytes) -> None:
        assert callable(send)
        try:
            send(data)
        except OSError:
            pass  # lost, as on any network
