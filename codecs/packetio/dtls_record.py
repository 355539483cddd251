"""DTLS 1.2 records, as far as one can see them from outside (RFC 6347 4.1 and 4.2).

OpenSSL does the protocol. Around it somebody has to cut what it wrote into datagrams, to notice that the peer repeats
itself, and to read one last alert when OpenSSL's connection is gone to save memory. All of it is functions on bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALERT, HANDSHAKE = 21, 22  # content types
HEADER_BYTES = 13  # type, version, epoch, sequence, length
_MESSAGE_HEADER_BYTES = 12  # of a handshake message: type, length, message_seq, fragment offset, fragment length
_NONCE_BYTES, _TAG_BYTES = 8, 16  # AES-GCM: what a record carries besides its text (RFC 5288 3)


class Record(NamedTuple):
    """One record: its content type, its epoch (0 is plain text) and all its bytes, header included."""

    type: int
    epoch: int
    data: bytes


def records(data: bytes) -> Iterator[Record]:
    """The records of a datagram, or of several in a row. A cut one ends the iteration and is left out."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        end = at + HEADER_BYTES + int.from_bytes(data[at + 11 : at + 13])
        if end > len(data):
            return
        yield Record(data[at], int.from_bytes(data[at + 3 : at + 5]), data[at:end])
        at = end


def datagrams(data: bytes, mtu: int) -> list[bytes]:
    """Records in a row, packed whole and in order into datagrams of up to `mtu` bytes (a larger record goes alone)."""
    packed: list[bytes] = []
    for record in records(data):
        if packed and len(packed[-1]) + len(record.data) <= mtu:
            packed[-1] += record.data
        else:
            packed.append(record.data)
    return packed


def whole_records(datagram: bytes) -> bytes:
    """A datagram without the records that are cut, or too short to have been sealed with AES-GCM.

    RFC 6347 4.1.2.7 has such noise dropped in silence, but OpenSSL 3.4 and 3.5 end the association over it.
    """
    least = HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES
    return b"".join(record.data for record in records(datagram) if record.epoch == 0 or len(record.data) >= least)


def message_sequences(datagram: bytes) -> list[int]:
    """message_seq of the handshake messages a datagram carries in plain text (RFC 6347 4.2.2), one per record."""
    return [
        int.from_bytes(record.data[HEADER_BYTES + 4 : HEADER_BYTES + 6])
        for record in records(datagram)
        if record.type == HANDSHAKE and record.epoch == 0 and len(record.data) >= HEADER_BYTES + _MESSAGE_HEADER_BYTES
    ]


class AlertReader(NamedTuple):
    """What reads a peer's alerts after the handshake: the AES-128-GCM key and implicit nonce it writes with."""

    key: bytes  # 16 bytes
    salt: bytes  # 4 bytes

    @classmethod
    def derive(cls, master: bytes, client_random: bytes, server_random: bytes, peer_is_client: bool) -> AlertReader:
        """From a handshake's secrets, for the suites ending in AES128-GCM-SHA256 (RFC 5246 6.3, RFC 5288 3)."""
        block = _prf_sha256(master, b"key expansion" + server_random + client_random, 40)
        return cls(block[:16], block[32:36]) if peer_is_client else cls(block[16:32], block[36:40])

    def read(self, record: Record) -> tuple[int, int] | None:
        """Level and description of an alert record; None if it isn't one or isn't the peer's."""
        header, body = record.data[:HEADER_BYTES], record.data[HEADER_BYTES:]
        size = len(body) - _NONCE_BYTES - _TAG_BYTES
        if record.type != ALERT or record.epoch == 0 or size != 2:
            return None
        bound = header[3:11] + header[:3] + size.to_bytes(2)
        try:
            text = AESGCM(self.key).decrypt(self.salt + body[:_NONCE_BYTES], body[_NONCE_BYTES:], bound)
        except InvalidTag:
            return None
        return text[0], text[1]


def _prf_sha256(secret: bytes, seed: bytes, size: int) -> bytes:
    """P_SHA256 (RFC 5246 5); the label is part of the seed."""
    out, chain = b"", seed
    while len(out) < size:
        chain = hmac.digest(secret, chain, hashlib.sha256)
        out += hmac.digest(secret, chain + seed, hashlib.sha256)
    return out[:size]
