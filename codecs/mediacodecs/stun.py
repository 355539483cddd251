"""STUN (RFC 8489) as ICE uses it (RFC 8445): binding requests read, answered and written.

Only what kernels can do is here: HMAC-SHA1 is the caller's. To check a message, keep its length field, call
`begin_integrity(b, at, integrity_at)`, take the HMAC over b[at:integrity_at], put the length back and compare with
b[integrity_at + 4:][:20]. To sign one, after its writer: `begin_integrity`, HMAC, `end_integrity`, `write_fingerprint`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import be16, be32, put16, put32
from mediacodecs.checksum import crc32
from mediacodecs.checksum import ufrag_hash as ufrag_hash
from mediacodecs.checksum import username_hash as username_hash
from mediacodecs.frame import MALFORMED, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

BINDING_REQUEST, BINDING_INDICATION, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0011, 0x0101, 0x0111
HEADER = 20  # bytes: type, length, cookie, transaction id
COOKIE = 0x2112A442
TRANSACTION = 12  # bytes of a transaction id
USERNAME, INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES = 0x0006, 0x0008, 0x0009, 0x000A  # attribute types
XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE = 0x0020, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A
INTEGRITY_BYTES, FINGERPRINT_BYTES = 24, 8  # of the whole attributes
FINGERPRINT_XOR = 0x5354554E
USERNAME_MAX = 513  # bytes: two ufrags of 256 and a colon (RFC 8445 section 5.3)
FAMILY_4, FAMILY_6 = 1, 2  # address families of the wire
TIE_BREAKER = 8  # bytes
PEER_REFLEXIVE = 110 << 24 | 65535 << 8 | 255  # PRIORITY of a request: as of such a candidate (RFC 8445 7.1.1, 5.1.2)
COLON = 0x3A

STUN = np.dtype(
    [
        ("kind", "u2"),  # message type
        ("transaction_at", "u4"),
        ("username_at", "u4"),
        ("username_size", "u2"),  # 0: none
        ("use_candidate", "u1"),
        ("ice_controlling", "u1"),  # 1: the sender says that it controls
        ("priority", "u4"),  # 0: none
        ("integrity_at", "u4"),  # offset of MESSAGE-INTEGRITY's attribute header; 0: none
        ("fingerprint_at", "u4"),  # of FINGERPRINT's; 0: none
        ("error", "u2"),  # error code, 300 to 699; 0: none
        ("unknown", "u2"),  # first attribute that must be understood and isn't (answer 420); 0: none
        ("mapped_family", "u1"),  # of XOR-MAPPED-ADDRESS: 4 or 6; 0: none
        ("mapped_port", "u2"),
        ("mapped", "u1", (16,)),  # its address, in the first 4 or in all bytes
    ],
    align=True,
)


@kernel
def clear_stun(stun: Any) -> None:
    """Make a STUN record say nothing."""
    stun.kind = 0
    stun.transaction_at = 0
    stun.username_at = 0
    stun.username_size = 0
    stun.use_candidate = 0
    stun.ice_controlling = 0
    stun.priority = 0
    stun.integrity_at = 0
    stun.fingerprint_at = 0
    stun.error = 0
    stun.unknown = 0
    stun.mapped_family = 0
    stun.mapped_port = 0
    for k in range(16):
        stun.mapped[k] = 0


@kernel
def parse_stun(b: Bytes, at: int, end: int, stun: Any) -> int:
    """Fill a STUN record from the datagram b[at:end]. Returns OK, TRUNCATED or MALFORMED; then stun says nothing.

    Strict: the length must be the datagram's and each known attribute must have its size. Of two attributes of a type
    the first counts. What follows MESSAGE-INTEGRITY is not authenticated and ignored, but for FINGERPRINT, which must
    be last.
    """
    clear_stun(stun)
    if end - at < HEADER:
        return TRUNCATED
    size = be16(b, at + 2)
    if b[at] > 0x3F or size & 3 or be32(b, at + 4) != COOKIE or size != end - at - HEADER:
        return MALFORMED
    stun.kind = be16(b, at)
    stun.transaction_at = at + 8
    to = int64(at + HEADER)
    while to < end:
        kind = be16(b, to)
        size = be16(b, to + 2)
        if to + 4 + size > end or stun.fingerprint_at:
            return MALFORMED
        if stun.integrity_at == 0 or kind == FINGERPRINT:
            if not read_attribute(b, at, kind, to, size, stun):
                return MALFORMED
        to += 4 + (size + 3 & ~3)
    return OK


@kernel
def read_attribute(b: Bytes, at: int, kind: int, to: int, size: int, stun: Any) -> bool:
    """Note one attribute, whose header is at b[to], of the message at b[at]. False: malformed."""
    if kind == USERNAME:
        if stun.username_at == 0:
            stun.username_at = to + 4
            stun.username_size = size
        return size <= USERNAME_MAX
    if kind == INTEGRITY:
        stun.integrity_at = to
        return size == INTEGRITY_BYTES - 4
    if kind == FINGERPRINT:
        stun.fingerprint_at = to
        return size == 4
    if kind == PRIORITY:
        if size == 4 and stun.priority == 0:
            stun.priority = be32(b, to + 4)
        return size == 4
    if kind == USE_CANDIDATE:
        stun.use_candidate = 1
        return size == 0
    if kind == ICE_CONTROLLED or kind == ICE_CONTROLLING:
        if kind == ICE_CONTROLLING:
            stun.ice_controlling = 1
        return size == 8
    if kind == ERROR_CODE:
        return read_error(b, to, size, stun)
    if kind == XOR_MAPPED_ADDRESS:
        return read_mapped(b, at, to, size, stun)
    if kind < 0x8000 and not is_understood(kind) and stun.unknown == 0:
        stun.unknown = kind
    return True


@kernel
def is_understood(kind: int) -> bool:
    """Whether a type that must be understood, and that we don't use, is one of RFC 8489 all the same."""
    return kind == 0x0001 or kind == UNKNOWN_ATTRIBUTES or 0x0014 <= kind <= 0x0015 or 0x001C <= kind <= 0x001E


@kernel
def read_error(b: Bytes, to: int, size: int, stun: Any) -> bool:
    """ERROR-CODE (RFC 8489 section 14.8). False: malformed."""
    if size < 4:
        return False
    hundreds = int64(b[to + 6]) & 7
    rest = int64(b[to + 7])
    if stun.error == 0:
        stun.error = hundreds * 100 + rest
    return 3 <= hundreds <= 6 and rest < 100


@kernel
def read_mapped(b: Bytes, at: int, to: int, size: int, stun: Any) -> bool:
    """XOR-MAPPED-ADDRESS (RFC 8489 section 14.2). False: malformed."""
    family = int64(b[to + 5]) if size >= 4 else int64(0)
    if size != (8 if family == FAMILY_4 else 20 if family == FAMILY_6 else -1):
        return False
    if stun.mapped_family == 0:
        stun.mapped_family = 2 + 2 * family
        stun.mapped_port = be16(b, to + 6) ^ COOKIE >> 16
        for k in range(size - 4):
            stun.mapped[k] = b[to + 8 + k] ^ b[at + 4 + k]
    return True


@kernel
def fingerprint_ok(b: Bytes, at: int, stun: Any) -> bool:
    """Whether the parsed message at b[at] has a FINGERPRINT and it is right (RFC 8489 section 14.7)."""
    to = int64(stun.fingerprint_at)
    return to != 0 and be32(b, to + 4) == crc32(b, at, to) ^ FINGERPRINT_XOR


@kernel
def write_header(b: Bytes, at: int, kind: int, transaction: Bytes, transaction_at: int) -> int:
    """Write a message's header with the transaction id at transaction[transaction_at]; its length comes at the end."""
    put16(b, at, kind)
    put16(b, at + 2, 0)
    put32(b, at + 4, COOKIE)
    for k in range(TRANSACTION):
        b[at + 8 + k] = transaction[transaction_at + k]
    return int64(at + HEADER)


@kernel
def write_attribute(b: Bytes, at: int, kind: int, size: int) -> int:
    """Write an attribute's header; returns where its value goes."""
    put16(b, at, kind)
    put16(b, at + 2, size)
    return int64(at + 4)


@kernel
def write_binding_success(
    b: Bytes, at: int, src: Bytes, transaction_at: int, address: Bytes, family: int, port: int
) -> int:
    """Begin the answer to a request whose transaction id is at src[transaction_at]: at most 44 bytes.

    address, port: where the request came from; family: 4 (4 bytes of address) or 6 (16).
    Returns where MESSAGE-INTEGRITY goes.
    """
    size = 4 if family == 4 else 16
    to = write_header(b, at, BINDING_SUCCESS, src, transaction_at)
    to = write_attribute(b, to, XOR_MAPPED_ADDRESS, 4 + size)
    put16(b, to, FAMILY_4 if family == 4 else FAMILY_6)
    put16(b, to + 2, port ^ COOKIE >> 16)
    for k in range(size):
        b[to + 4 + k] = address[k] ^ b[at + 4 + k]
    return int64(to + 4 + size)


@kernel
def write_binding_request(b: Bytes, at: int, seed: Bytes, src: Bytes, username_at: int, username_size: int) -> int:
    """Begin a request of the controlled side (RFC 8445 7.1): 52 bytes and USERNAME's, which are padded to fours.

    seed: the transaction id and the tie-breaker, 20 bytes that nobody can guess. src[username_at:][:username_size]: the
    USERNAME of the peer's own request, `ours:theirs`, which is turned round. Returns where MESSAGE-INTEGRITY goes.
    """
    to = write_header(b, at, BINDING_REQUEST, seed, 0)
    to = write_turned_username(b, to, src, username_at, username_size)
    to = write_attribute(b, to, PRIORITY, 4)
    put32(b, to, PEER_REFLEXIVE)
    to = write_attribute(b, to + 4, ICE_CONTROLLED, TIE_BREAKER)
    for k in range(TIE_BREAKER):
        b[to + k] = seed[TRANSACTION + k]
    return int64(to + TIE_BREAKER)


@kernel
def write_turned_username(b: Bytes, at: int, src: Bytes, username_at: int, username_size: int) -> int:
    """USERNAME with what stands before and behind the colon of another one exchanged. Returns where it ends."""
    colon = int64(0)
    while colon < username_size and src[username_at + colon] != COLON:
        colon += 1
    to = write_attribute(b, at, USERNAME, username_size)
    end = to + (username_size + 3 & ~3)
    for k in range(colon + 1, username_size):
        b[to] = src[username_at + k]
        to += 1
    if colon < username_size:
        b[to] = COLON
        to += 1
    for k in range(colon):
        b[to] = src[username_at + k]
        to += 1
    while to < end:
        b[to] = 0
        to += 1
    return int64(end)


@kernel
def begin_integrity(b: Bytes, at: int, integrity_at: int) -> None:
    """Set the length as if MESSAGE-INTEGRITY were last (RFC 8489 14.5); the HMAC is taken over b[at:integrity_at]."""
    put16(b, at + 2, integrity_at - at - HEADER + INTEGRITY_BYTES)


@kernel
def end_integrity(b: Bytes, at: int, integrity_at: int, digest: Bytes) -> int:
    """Write MESSAGE-INTEGRITY with the HMAC-SHA1 (u1[20]) of the message at b[at]: 24 bytes. Returns where it ends."""
    to = write_attribute(b, integrity_at, INTEGRITY, INTEGRITY_BYTES - 4)
    for k in range(INTEGRITY_BYTES - 4):
        b[to + k] = digest[k]
    return int64(to + INTEGRITY_BYTES - 4)


@kernel
def write_fingerprint(b: Bytes, at: int, to: int) -> int:
    """End the message at b[at] with FINGERPRINT at b[to]: 8 bytes. Returns where the message ends."""
    end = int64(to + FINGERPRINT_BYTES)
    put16(b, at + 2, end - at - HEADER)
    put32(b, write_attribute(b, to, FINGERPRINT, 4), crc32(b, at, to) ^ FINGERPRINT_XOR)
    return end
