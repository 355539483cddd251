"""STUN as a full ICE agent in the controlling role needs it (RFC 8489, RFC 8445 7): requests to send, answers to check.

The node under test is ICE-lite: it answers checks and sends none, so this is all that a load client speaks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import zlib

BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
COOKIE = 0x2112A442
USERNAME, MESSAGE_INTEGRITY, PRIORITY, USE_CANDIDATE = 0x0006, 0x0008, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLING = 0x8028, 0x802A
FINGERPRINT_XOR = 0x5354554E
HOST_PRIORITY = 110 << 24 | 65535 << 8 | 255  # of a peer-reflexive candidate (RFC 8445 7.1.1)
HEADER = 20  # bytes


def new_transaction() -> bytes:
    """Twelve random bytes."""
    return secrets.token_bytes(12)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _header(kind: int, size: int, transaction: bytes) -> bytes:
    return struct.pack("!HHI", kind, size, COOKIE) + transaction


def _integrity(message: bytes, password: bytes) -> bytes:
    """HMAC-SHA1 over a message whose length field counts the attribute itself already (RFC 8489 14.5)."""
    return hmac.digest(password, message, hashlib.sha1)


def binding_request(username: str, password: str, transaction: bytes, tie_breaker: int, nominate: bool = True) -> bytes:
    """A connectivity check; username is `remote:local` ufrag, password the remote one, tie_breaker 64 bits."""
    body = _attribute(USERNAME, username.encode())
    body += _attribute(ICE_CONTROLLING, tie_breaker.to_bytes(8))
    body += _attribute(USE_CANDIDATE, b"") if nominate else b""
    body += _attribute(PRIORITY, HOST_PRIORITY.to_bytes(4))
    signed = _header(BINDING_REQUEST, len(body) + 24, transaction) + body
    body += _attribute(MESSAGE_INTEGRITY, _integrity(signed, password.encode()))
    message = _header(BINDING_REQUEST, len(body) + 8, transaction) + body
    return message + _attribute(FINGERPRINT, (zlib.crc32(message) ^ FINGERPRINT_XOR).to_bytes(4))


def is_success(message: bytes, transaction: bytes, password: str) -> bool:
    """Whether this is the authentic success response to our request of that transaction."""
    if len(message) < HEADER or message[:2] != b"\x01\x01" or message[8:20] != transaction:
        return False
    at = HEADER
    while at + 4 <= len(message):
        kind, size = struct.unpack_from("!HH", message, at)
        if kind == MESSAGE_INTEGRITY:
            signed = _header(BINDING_SUCCESS, at + 24 - HEADER, transaction) + message[HEADER:at]
            return hmac.compare_digest(message[at + 4 : at + 24], _integrity(signed, password.encode()))
        at += 4 + size + (-size % 4)
    return False
