"""The certificate a process shows in its DTLS handshakes.

WebRTC trusts no authority: the SDP carries the certificate's hash and the handshake proves that whoever sent the SDP
holds its key (RFC 8122, RFC 8827 6.5). So one self-signed certificate, made at start, serves all peers of a process.
ECDSA on P-256 because every browser takes it and because it signs in some 20 µs.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha-512": hashes.SHA512,
    "sha-384": hashes.SHA384,
    "sha-256": hashes.SHA256,
}  # those believed in, strongest first; the names of RFC 8122 5
VALID_DAYS = 3650  # peers check the hash and not the dates; outlive any process


@dataclass(frozen=True, slots=True)
class Certificate:
    """A private key, its self-signed certificate and `fingerprint`, the sha-256 of the latter as 'AA:BB:…'."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    fingerprint: str

    @classmethod
    def generate(cls, now: datetime.datetime | None = None) -> Certificate:
        """A fresh key and certificate, valid from the day before `now` (the wall clock's, unless given)."""
        now = now or datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(8))])
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        certificate = builder.sign(key, hashes.SHA256())
        return cls(key, certificate, fingerprint(certificate, "sha-256"))


def fingerprint(certificate: x509.Certificate, algorithm: str) -> str:
    """The hash of a certificate in SDP notation, upper case (RFC 8122 5); `algorithm` is a key of HASHES."""
    return certificate.fingerprint(HASHES[algorithm]()).hex(":").upper()
