"""Sealing with EVP from pieces: libsrtp opens every packet, across roll-over, and knows it as its own."""

from __future__ import annotations

import os
import random
import struct

import numpy as np
import pytest
from pylibsrtp import Policy, Session

from mediacodecs.kernel import kernel
from packetio import srtp
from packetio.memory import Table, pointer_to
from packetio.srtp import CM80, GCM, PROFILES, SrtpContexts

KEYS = np.dtype([("evp", "u8"), ("salt_low", "u8"), ("salt_high", "u4")], align=True)
keys_at, sealer_at = pointer_to(KEYS), pointer_to(srtp.SEALER)


@kernel
def seal_pieces(sealer: int, keys: int, ssrc: int, index: int, head: int, pieces: np.ndarray) -> int:
    s, k = sealer_at(sealer), keys_at(keys)
    srtp.begin_gcm(s, k, ssrc, index, head, 12)
    to = head + 12
    for n in range(pieces.size // 2):
        to = srtp.add_gcm(k, to, pieces[2 * n], pieces[2 * n + 1])
    return srtp.end_gcm(s, k, to) - head


def test_libsrtp_opens_what_is_sealed_from_pieces() -> None:
    rng = random.Random(3)
    master = os.urandom(28)
    contexts = SrtpContexts(GCM, master, os.urandom(28))
    keys, sealer, out = Table(KEYS, 1), srtp.make_sealer(), np.zeros(4096, np.uint8)
    row = keys.rows[0]
    row.evp, row.salt_low, row.salt_high = contexts.evp, contexts.salt_low, contexts.salt_high
    opener = Session(Policy(key=master, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[GCM]))
    for index in range(65500, 65600):
        parts = [np.frombuffer(rng.randbytes(rng.choice([1, 2, 7, 16, 301, 450])), np.uint8) for _ in range(3)]
        head = struct.pack("!BBHII", 0x80, 96, index & 0xFFFF, index, 0xDECAFBAD)
        out[:12] = np.frombuffer(head, np.uint8)
        pieces = np.array([x for part in parts for x in (part.ctypes.data, part.size)], np.int64)
        size = seal_pieces(sealer.address, keys.address, 0xDECAFBAD, index, out.ctypes.data, pieces)
        assert opener.unprotect(out[:size].tobytes()) == head + b"".join(part.tobytes() for part in parts)
    contexts.close()


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_contexts_of_two_peers_understand_each_other(profile: str) -> None:
    one, two = os.urandom(srtp.KEY_BYTES[profile]), os.urandom(srtp.KEY_BYTES[profile])
    a, b = SrtpContexts(profile, one, two), SrtpContexts(profile, two, one)
    packet = struct.pack("!BBHII", 0x80, 96, 7, 7, 7) + b"payload"
    sealed = a._outbound.protect(packet)
    assert len(sealed) == len(packet) + srtp.TAG_BYTES[profile]
    assert b._inbound.unprotect(sealed) == packet
    a.close()
    b.close()
