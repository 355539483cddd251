"""STUN and TURN servers for clients, as Link headers (RFC 9725 4.4).

A TURN server that shares a secret with us (coturn's use-auth-secret) takes names that say when they run out, with an
HMAC of the name as password: what leaks is of use for a while only, and the secret never leaves the node.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable

from config.schema import IceServer


def credentials(server: IceServer, name: str, now: float) -> tuple[str, str] | None:
    """User name and password for one client; None where the server needs none. `now` in seconds since 1970.

    With a secret, draft-uberti-behave-turn-rest-00 section 2.2: "expiry:name", and its HMAC-SHA1 in base64.
    """
    if server.secret is not None:
        username = f"{int(now + server.ttl)}:{name}"
        digest = hmac.digest(server.secret.encode(), username.encode(), hashlib.sha1)
        return username, base64.b64encode(digest).decode()
    return (server.username, server.credential or "") if server.username else None


def quoted(text: str) -> str:
    """A quoted-string (RFC 9110 5.6.4)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def ice_links(servers: Iterable[IceServer], session: str) -> list[str]:
    """Links to servers. A hash tells sessions apart in the TURN server's log, where no id should be."""
    links, name = [], hashlib.sha256(session.encode()).hexdigest()[:16]
    for server in servers:
        found = credentials(server, name, time.time())
        more = ""
        if found:
            more = f'; username={quoted(found[0])}; credential={quoted(found[1])}; credential-type="password"'
        links += [f'<{url}>; rel="ice-server"{more}' for url in server.urls]
    return links
