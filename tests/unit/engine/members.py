"""Members for tests of addresses: ICE agents with as many sockets as they like, at a worker whose clock a test moves.

Checks are written and answers read by aioice, which shares nothing with the node's own code.
"""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
from aioice import stun

from mediaserver.engine.handles import hash_of, hmac_key, put_text
from mediaserver.engine.paths import proven_by_handshake
from mediaserver.engine.receive import demultiplex
from mediaserver.engine.send import flush
from mediaserver.engine.tables import put_ufrag
from packetio.batch import pack_sockaddr
from tests.unit.engine.desk import Desk, FarEnd
from tests.unit.engine.peers import datagrams


def new_socket() -> socket.socket:
    """A UDP socket on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def deliver(desk: Desk, data: bytes, sock: socket.socket) -> None:
    """Let the worker receive a datagram from a socket's address, whoever sent it; what it says leaves at once."""
    slots = desk.worker.receive_slots
    slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
    name = pack_sockaddr(*sock.getsockname(), socket.AF_INET)
    slots.names.rows[: len(name)] = np.frombuffer(name, np.uint8)
    demultiplex(desk.w, 0, len(data), 0)
    flush(desk.w)


class Member(FarEnd):
    """A peer whose checks nobody has seen yet. `sent` and `got`: bytes by socket, as the network would count them."""

    def __init__(self, desk: Desk, *, name: str = "ours", password: str = "its own", calls: bool = False) -> None:
        super().__init__(desk)
        desk.ends.append(self)
        self.name, self.key, self.password = name, f"password of {name}", password
        t = self.record
        t.remote_size = t.secured = 0
        t.ufrag, t.password_size = hash_of(name), put_text(t.password, self.key)
        t.peer_password_size, t.calls = put_text(t.peer_password, hmac_key(password)), int(calls)
        t.ssrc_limit = 8
        put_ufrag(desk.w, int(t.ufrag), self.index)
        self.sent: dict[socket.socket, int] = {}
        self.got: dict[socket.socket, int] = {}
        self.others: list[socket.socket] = []

    def another(self) -> socket.socket:
        """One more socket, as after a change of network; or a stranger's, whose address is forged."""
        self.others.append(new_socket())
        return self.others[-1]

    def request(
        self, *, nominate: bool = False, fingerprint: bool = True, transaction: bytes | None = None, key: str = ""
    ) -> bytes:
        """A connectivity check."""
        message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        if transaction is not None:
            message.transaction_id = transaction
        message.attributes["USERNAME"] = f"{self.name}:theirs"
        message.attributes["PRIORITY"] = 1
        message.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            message.attributes["USE-CANDIDATE"] = None
        message.add_message_integrity((key or self.key).encode())
        if fingerprint:
            message.add_fingerprint()
        return bytes(message)

    def put(self, data: bytes, sock: socket.socket | None = None) -> None:
        """Send a datagram from a socket, by default the first."""
        sock = sock or self.sock
        self.sent[sock] = self.sent.get(sock, 0) + len(data)
        deliver(self.desk, data, sock)

    def check(self, sock: socket.socket | None = None, **how: Any) -> bytes:
        """Send a check; returns it."""
        data = self.request(**how)
        self.put(data, sock)
        return data

    def waiting(self, sock: socket.socket | None = None) -> list[bytes]:
        """What has come to a socket since the last look."""
        sock = sock or self.sock
        flush(self.desk.w)
        found = list(datagrams(sock))
        self.got[sock] = self.got.get(sock, 0) + sum(map(len, found))
        return found

    def stun(self, sock: socket.socket | None = None) -> tuple[list[stun.Message], list[stun.Message]]:
        """(answers to our checks, authentic; the node's own requests, authentic) since the last look."""
        found = [data for data in self.waiting(sock) if data[0] <= 3]
        answers = [authentic(data, self.key) for data in found if data[0] == 1]
        return answers, [authentic(data, self.password) for data in found if data[0] == 0 and len(data) < 400]

    def answer(self, request: stun.Message, sock: socket.socket | None = None, **how: Any) -> None:
        """Answer a request of the node's."""
        self.put(self.response(request, **how), sock)

    def response(
        self, request: stun.Message, *, key: str = "", error: int = 0, transaction: bytes | None = None
    ) -> bytes:
        """A success response, or an error response; by default with the request's transaction id."""
        kind = stun.Class.ERROR if error else stun.Class.RESPONSE
        message = stun.Message(stun.Method.BINDING, kind, transaction_id=transaction or request.transaction_id)
        if error:
            message.attributes["ERROR-CODE"] = (error, "No")
        else:
            message.attributes["XOR-MAPPED-ADDRESS"] = ("127.0.0.1", 1)
        message.add_message_integrity((key or self.password).encode())
        message.add_fingerprint()
        return bytes(message)

    def connect(self, *, answers: bool = True) -> None:
        """Check, and agree on keys over the first address; `answers`: show that it is a full agent, too."""
        self.check(nominate=True)
        self.record.secured = 1
        self.record.proven = self.record.moves
        self.prove()
        self.desk.w.now += 1
        self.check(nominate=True)
        for request in self.stun()[1] if answers else ():
            self.answer(request)
        self.waiting()

    def prove(self) -> None:
        """What the worker does when it gets the keys."""
        proven_by_handshake(self.record)

    def media(self, sock: socket.socket | None = None) -> None:
        """Send an authentic RTCP packet."""
        self.put(self.sealer.protect_rtcp(bytes([0x80, 201, 0, 1]) + (7).to_bytes(4)), sock)

    @property
    def remote(self) -> int:
        """The port that media goes to."""
        return int.from_bytes(bytes(self.record.remote[2:4]))

    def close(self) -> None:
        for sock in self.others:
            sock.close()


def authentic(data: bytes, key: str) -> stun.Message:
    """A message whose MESSAGE-INTEGRITY and FINGERPRINT are right. AssertionError or ValueError when they aren't."""
    message = stun.parse_message(data)
    assert message.check_message_integrity(key.encode())
    assert "FINGERPRINT" in message.attributes
    return message


def port(sock: socket.socket) -> int:
    """Where a socket is."""
    return int(sock.getsockname()[1])
