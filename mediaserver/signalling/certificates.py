"""HTTPS with a certificate that may be renewed while the node runs.

Certificate and key are read again on SIGHUP, and when one of the files has changed, which is looked at once a minute. A
pair that is broken, or half written, changes nothing but the log: the old one stays until a good one is there. New
connections get the new pair; those that are there keep what they agreed on.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from config.schema import Http
from mediaserver.logs import get_logger

log = get_logger("weir.http")
LOOK = 60.0  # seconds between two looks at the files
Stamp = tuple[tuple[int, int, int], ...]


def tls_context(certificate: str, private_key: str) -> ssl.SSLContext:
    """A server's context. Raises OSError or ssl.SSLError when the pair can't be read or does not fit."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private_key, password="")  # a password would be asked for at the terminal
    return context


def stamp(*files: str) -> Stamp | None:
    """What changes when a file does; None while one is not there."""
    try:
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in map(os.stat, files))
    except OSError:
        return None


class Certificates:
    """The present context, and where it comes from. Raises as `tls_context` does."""

    def __init__(self, certificate: str, private_key: str) -> None:
        self._files = (certificate, private_key)
        self._seen = stamp(*self._files)
        self.context = tls_context(*self._files)

    @classmethod
    def of(cls, http: Http) -> Certificates | None:
        """None where the configuration names no certificate."""
        if http.certificate is None or http.private_key is None:
            return None
        return cls(http.certificate, http.private_key)

    def reload(self) -> bool:
        """Read the pair again; False, and an error in the log, when it can't be used."""
        self._seen = stamp(*self._files)
        try:
            self.context = tls_context(*self._files)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            log.error("the certificate could not be read again, the old one stays", file=self._files[0], reason=reason)
            return False
        log.info("the certificate was read again", file=self._files[0])
        return True

    def look(self) -> None:
        """Read the pair again if a file has changed."""
        if stamp(*self._files) != self._seen:
            self.reload()

    async def watch(self, pause: float = LOOK) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(pause)
            self.look()
