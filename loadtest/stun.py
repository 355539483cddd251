"""STUN as a full ICE agent needs it (RFC 8489, RFC 8445 7): checks to send and to answer, and answers to believe.

A lite server only answers checks; a full one sends its own, which we answer. Functions on bytes, no sockets, no clocks.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import struct
import zlib
from dataclasses import dataclass

BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
COOKIE = 0x2112A442
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, XOR_MAPPED_ADDRESS = 0x0006, 0x0008, 0x0009, 0x0020
PRIORITY, USE_CANDIDATE = 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A
FINGERPRINT_XOR = 0x5354554E
HOST_PRIORITY = 110 << 24 | 65535 << 8 | 255  # of a peer-reflexive candidate (RFC 8445 7.1.1)
ROLE_CONFLICT = 487  # RFC 8445 7.3.1.1
HEADER = 20  # bytes
INTEGRITY_SIZE, FINGERPRINT_SIZE = 24, 8  # bytes of these attributes, headers included

Address = tuple[str, int]


@dataclass(frozen=True)
class Message:
    """A binding message: what of it ICE looks at. `role` is the sender's attribute, 0 when it names none."""

    kind: int
    transaction: bytes
    username: str = ""
    role: int = 0  # ICE_CONTROLLING or ICE_CONTROLLED
    tie_breaker: int = 0
    nominates: bool = False
    error: int = 0
    integrity_at: int = 0  # offset of MESSAGE-INTEGRITY; 0: there is none


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


def _finish(kind: int, transaction: bytes, body: bytes, password: str) -> bytes:
    """The message with its MESSAGE-INTEGRITY and FINGERPRINT."""
    signed = _header(kind, len(body) + INTEGRITY_SIZE, transaction) + body
    body += _attribute(MESSAGE_INTEGRITY, _integrity(signed, password.encode()))
    message = _header(kind, len(body) + FINGERPRINT_SIZE, transaction) + body
    return message + _attribute(FINGERPRINT, (zlib.crc32(message) ^ FINGERPRINT_XOR).to_bytes(4))


def binding_request(
    username: str, password: str, transaction: bytes, tie_breaker: int, nominate: bool = True, controlling: bool = True
) -> bytes:
    """A connectivity check; username is `remote:local` ufrag, password the remote one, tie_breaker 64 bits."""
    body = _attribute(USERNAME, username.encode())
    body += _attribute(ICE_CONTROLLING if controlling else ICE_CONTROLLED, tie_breaker.to_bytes(8))
    body += _attribute(USE_CANDIDATE, b"") if nominate and controlling else b""
    body += _attribute(PRIORITY, HOST_PRIORITY.to_bytes(4))
    return _finish(BINDING_REQUEST, transaction, body, password)


def binding_success(transaction: bytes, address: Address, password: str) -> bytes:
    """The answer to a check that came from `address`; password is the answerer's own."""
    return _finish(
        BINDING_SUCCESS, transaction, _attribute(XOR_MAPPED_ADDRESS, _mapped(address, transaction)), password
    )


def binding_error(transaction: bytes, code: int, reason: str, password: str) -> bytes:
    """A refusal (RFC 8489 14.8)."""
    value = bytes((0, 0, code // 100, code % 100)) + reason.encode()
    return _finish(BINDING_ERROR, transaction, _attribute(ERROR_CODE, value), password)


def _mapped(address: Address, transaction: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (RFC 8489 14.2)."""
    ip, mask = ipaddress.ip_address(address[0].partition("%")[0]), COOKIE.to_bytes(4) + transaction
    family = 1 if ip.version == 4 else 2
    host = bytes(a ^ b for a, b in zip(ip.packed, mask, strict=False))
    return bytes((0, family)) + (address[1] ^ COOKIE >> 16).to_bytes(2) + host


def read_message(data: bytes) -> Message | None:
    """A binding request, success or error; None for anything else, for a cut message and for a wrong FINGERPRINT.

    Attributes behind MESSAGE-INTEGRITY count for nothing (RFC 8489 14.5).
    """
    if len(data) < HEADER:
        return None
    kind, size, cookie = struct.unpack_from("!HHI", data)
    if kind not in (BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR) or cookie != COOKIE or size != len(data) - HEADER:
        return None
    found = _attributes(data)
    if found is None:
        return None
    controlling = ICE_CONTROLLING in found
    role = ICE_CONTROLLING if controlling else ICE_CONTROLLED if ICE_CONTROLLED in found else 0
    code = found.get(ERROR_CODE, (0, b""))[1]
    return Message(
        kind=kind,
        transaction=data[8:20],
        username=found.get(USERNAME, (0, b""))[1].decode(errors="replace"),
        role=role,
        tie_breaker=int.from_bytes(found[role][1][:8]) if role else 0,
        nominates=USE_CANDIDATE in found,
        error=(code[2] & 7) * 100 + code[3] if len(code) >= 4 else 0,
        integrity_at=found.get(MESSAGE_INTEGRITY, (0, b""))[0],
    )


def _attributes(data: bytes) -> dict[int, tuple[int, bytes]] | None:
    """{kind: (offset, value)} up to MESSAGE-INTEGRITY, the first of a kind; None if cut or with a wrong FINGERPRINT."""
    found: dict[int, tuple[int, bytes]] = {}
    at = HEADER
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("!HH", data, at)
        value = data[at + 4 : at + 4 + size]
        if len(value) < size:
            return None
        if kind == FINGERPRINT:
            return found if value == (zlib.crc32(data[:at]) ^ FINGERPRINT_XOR).to_bytes(4) else None
        if MESSAGE_INTEGRITY not in found:
            found.setdefault(kind, (at, value))
        at += 4 + size + (-size % 4)
    return found


def is_authentic(data: bytes, message: Message, password: str) -> bool:
    """Whether the message, read from `data`, carries the MESSAGE-INTEGRITY of that password."""
    at = message.integrity_at
    if not at or data[at + 2 : at + 4] != b"\x00\x14":  # 20 bytes
        return False
    signed = _header(message.kind, at + INTEGRITY_SIZE - HEADER, message.transaction) + data[HEADER:at]
    return hmac.compare_digest(data[at + 4 : at + 24], _integrity(signed, password.encode()))
