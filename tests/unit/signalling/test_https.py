"""With a certificate in the configuration the same port speaks HTTPS, and nothing else."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from packetio.certificate import Certificate
from tests.unit.signalling.nodes import OFFER, SDP, running


def files(folder: Path, certificate: Certificate) -> dict[str, str]:
    """The section `http` with a certificate and its key as PEM files."""
    pem = serialization.Encoding.PEM
    key = certificate.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for name, text in (("certificate", certificate.certificate.public_bytes(pem)), ("private_key", key)):
        (folder / name).write_bytes(text)
    return {name: str(folder / name) for name in ("certificate", "private_key")}


async def test_joins_and_page_come_over_https_with_the_configured_certificate(tmp_path: Path) -> None:
    certificate = Certificate.generate()
    shown = aiohttp.Fingerprint(bytes.fromhex(certificate.fingerprint.replace(":", "")))
    async with running(http=files(tmp_path, certificate)) as node, aiohttp.ClientSession() as http:
        host = f"127.0.0.1:{node.node.config.http.port}"
        async with http.post(f"https://{host}/whep/a/b", data=OFFER, headers=SDP, ssl=shown) as response:
            assert response.status == 201 and response.headers["Location"].startswith("/whep/a/b/")
        async with http.get(f"https://{host}/", ssl=shown) as response:
            assert response.status == 200 and response.content_type == "text/html"
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://{host}/healthz")
