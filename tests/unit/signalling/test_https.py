"""With a certificate in the configuration the same port speaks HTTPS, and nothing else; it may be renewed meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from mediaserver.signalling.certificates import Certificates
from packetio.certificate import Certificate
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import OFFER, SDP, Running, running


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


def shown_by(node: Running) -> str:
    """The fingerprint of the certificate that new connections get."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", node.node.config.http.port), timeout=20) as sock,
        context.wrap_socket(sock) as secured,
    ):
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(certificate: Certificate) -> str:
    return certificate.fingerprint.replace(":", "").lower()


async def test_renewed_certificate_is_taken_and_connections_that_are_there_stay(tmp_path: Path) -> None:
    old, new = Certificate.generate(), Certificate.generate()
    pinned = aiohttp.Fingerprint(bytes.fromhex(fingerprint(old)))
    async with running(http=files(tmp_path, old)) as node, aiohttp.ClientSession() as http:
        url = f"https://127.0.0.1:{node.node.config.http.port}/healthz"
        async with http.get(url, ssl=pinned) as response:
            await response.read()
        assert await asyncio.to_thread(shown_by, node) == fingerprint(old)
        files(tmp_path, new)
        node.node.http.reload()
        assert await asyncio.to_thread(shown_by, node) == fingerprint(new)
        async with http.get(url, ssl=pinned) as response:  # over the connection that is there
            assert response.status == 200


async def test_files_that_change_are_read_again_and_broken_ones_are_told(tmp_path: Path, lines: io.StringIO) -> None:
    old, new = Certificate.generate(), Certificate.generate()
    names = files(tmp_path, old)
    certificates = Certificates(names["certificate"], names["private_key"])
    watching = asyncio.create_task(certificates.watch(0.01))
    context = certificates.context

    def told(message: str) -> list[str]:
        found = [json.loads(line) for line in lines.getvalue().splitlines()]
        return [one["level"] for one in found if message in one["message"]]

    files(tmp_path, new)
    await until(lambda: told("was read again"))
    assert certificates.context is not context
    context = certificates.context
    for broken in (b"", b"-----BEGIN CERTIFICATE-----", (tmp_path / "private_key").read_bytes()):
        count = len(told("could not be read"))
        (tmp_path / "certificate").write_bytes(broken)
        await until(lambda count=count: len(told("could not be read")) > count)  # type: ignore[misc]
        assert set(told("could not be read")) == {"error"} and certificates.context is context
    os.remove(tmp_path / "certificate")
    count = len(told("could not be read"))
    await until(lambda: len(told("could not be read")) > count)
    files(tmp_path, old)
    await until(lambda: certificates.context is not context)
    watching.cancel()


async def test_half_made_tls_counts_and_runs_out_of_time(tmp_path: Path) -> None:
    quick = files(tmp_path, Certificate.generate()) | {"header_timeout": 0.3, "connections": 16}
    async with running(http=quick) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.node.config.http.port)
        await until(lambda: node.node.http._held == 1)
        async with asyncio.timeout(20):
            await reader.read()
        await until(lambda: node.node.http._held == 0)
        writer.close()
        assert len(await asyncio.to_thread(shown_by, node)) == 64
