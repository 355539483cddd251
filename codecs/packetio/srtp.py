"""SRTP contexts: libsrtp for receiving, SRTCP and AES-CM; OpenSSL's EVP directly for sending AES-128-GCM.

`seal_gcm` encrypts from the packet log straight into the send arena (RFC 7714), so forwarding needs no copy. Its caller
owns what libsrtp would check: an outgoing index (roll-over counter and sequence number, 48 bits) is never used for two
different packets. Everything sealed here opens in libsrtp; tests do so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pylibsrtp import Policy, Session

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.memory import Table
from packetio.native import evp_cipher, evp_encrypt_init, evp_get_params, library, session_pointer

GCM, CM80 = "SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"
PROFILES = {GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM, CM80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80}
KEY_BYTES = {GCM: 28, CM80: 30}  # master key and salt
TAG_BYTES = {GCM: 16, CM80: 10}  # what a profile adds to an RTP packet
WINDOW = 4096  # packets of libsrtp's replay window: retransmissions come late

SEALER = np.dtype(
    [
        ("key", "u8"), ("type", "u4"), ("pad", "u4"), ("data", "u8"), ("size", "u8"), ("returned", "u8"),
        ("end", "u8", (5,)),
        ("iv", "u1", (16,)),
        ("name", "u1", (8,)),
    ],
    align=True,
)  # two OSSL_PARAMs, {"tag", octet string, 16 bytes} and the end, then the nonce being built  # fmt: skip

IV_AT = 80  # offset of SEALER.iv
assert SEALER.fields is not None and SEALER.fields["iv"][1] == IV_AT


def make_sealer() -> Table:
    """One SEALER, scratch memory of one thread's `seal_gcm` calls."""
    table = Table(SEALER, 1)
    row = table.rows[0]
    row.name[:4] = np.frombuffer(b"tag\0", np.uint8)
    row.key = table.address + SEALER.fields["name"][1]  # type: ignore[index]
    row["type"], row["size"] = 5, 16
    return table


def derive_rtp_keys(master: bytes) -> tuple[bytes, bytes]:
    """The RTP session key (16 bytes) and salt (12 bytes) of a 28-byte GCM master (RFC 3711 4.3, RFC 7714 11)."""
    key, salt = master[:16], master[16:28] + bytes(2)

    def derive(label: int, size: int) -> bytes:
        block = bytearray(salt)
        block[7] ^= label
        return Cipher(algorithms.AES(key), modes.CTR(bytes(block) + bytes(2))).encryptor().update(bytes(size))

    return derive(0, 16), derive(2, 12)


class SrtpContexts:
    """The native contexts of one peer: `inbound` and `outbound` libsrtp pointers, and for GCM an EVP pointer and salt.

    Only the worker that owns the transport may use the pointers; `close` only after it has let go of them.
    """

    def __init__(self, profile: str, local_master: bytes, remote_master: bytes) -> None:
        def session(master: bytes, kind: int) -> Session:
            policy = Policy(key=master, ssrc_type=kind, srtp_profile=PROFILES[profile])
            policy.window_size = WINDOW
            return Session(policy)

        self.profile = profile
        self._inbound = session(remote_master, Policy.SSRC_ANY_INBOUND)
        self._outbound = session(local_master, Policy.SSRC_ANY_OUTBOUND)
        self.inbound, self.outbound = session_pointer(self._inbound), session_pointer(self._outbound)
        self.evp, self.salt_high, self.salt_low = 0, 0, 0
        if profile == GCM:
            key, salt = derive_rtp_keys(local_master)
            self.evp = int(library.EVP_CIPHER_CTX_new())
            library.EVP_EncryptInit_ex(self.evp, library.EVP_aes_128_gcm(), None, key, None)
            self.salt_high, self.salt_low = int.from_bytes(salt[:4], "big"), int.from_bytes(salt[4:], "big")

    def protect(self, packet: bytes) -> bytes:
        """One RTP packet sealed by libsrtp, for callers in Python that own the contexts."""
        return bytes(self._outbound.protect(packet))

    def protect_rtcp(self, packet: bytes) -> bytes:
        """The same for RTCP."""
        return bytes(self._outbound.protect_rtcp(packet))

    def close(self) -> None:
        """Free the contexts; the pointers are dead from here on."""
        if self.evp:
            library.EVP_CIPHER_CTX_free(self.evp)
        self.evp = self.inbound = self.outbound = 0
        del self._inbound, self._outbound


@kernel
def write_nonce(iv: Any, keys: Any, ssrc: int, index: int) -> None:
    """(0, 0, SSRC, index) xor salt, 12 bytes (RFC 7714 8.1). `keys` has salt_high and salt_low; index is 48 bits."""
    high = int64(keys.salt_high) ^ (ssrc >> 16)
    low = int64(keys.salt_low) ^ ((ssrc & 0xFFFF) << 48 | index)
    for k in range(4):
        iv[k] = (high >> (24 - 8 * k)) & 255
    for k in range(8):
        iv[4 + k] = (low >> (56 - 8 * k)) & 255


@kernel
def begin_gcm(sealer: Any, keys: Any, ssrc: int, index: int, head: int, head_size: int) -> int:
    """Start sealing one packet: nonce and associated data. Returns 1, or 0 on failure."""
    write_nonce(sealer.iv, keys, ssrc, index)
    ok = evp_encrypt_init(int64(keys.evp), 0, 0, 0, sealer.iv.ctypes.data)
    return int64(ok & (evp_cipher(int64(keys.evp), 0, head, np.uint32(head_size)) >= 0))


@kernel
def add_gcm(keys: Any, to: int, source: int, size: int) -> int:
    """Encrypt one more piece of the payload to `to`; returns the address behind it."""
    evp_cipher(int64(keys.evp), to, source, np.uint32(size))
    return to + size


@kernel
def end_gcm(sealer: Any, keys: Any, to: int) -> int:
    """Write the tag at `to`; returns the address behind it, or 0 on failure."""
    ok = evp_cipher(int64(keys.evp), 0, 0, np.uint32(0)) >= 0
    sealer.data = to
    ok &= evp_get_params(int64(keys.evp), sealer.iv.ctypes.data - IV_AT) == 1
    return to + 16 if ok else 0
