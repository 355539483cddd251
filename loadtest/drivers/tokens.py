"""Access tokens in LiveKit's form (RFC 7519, HS256), as Weir and LiveKit take them: one per client and room."""

from __future__ import annotations

import time
from collections.abc import Callable

import jwt

Tokens = Callable[[str, str, bool], str]  # (room, identity, publishes) -> bearer token, "" for none
TTL = 6 * 3600  # seconds, longer than any run


def same(token: str) -> Tokens:
    """One token for all clients."""
    return lambda room, identity, publishes: token


def minted(key: str, secret: str, ttl: int = TTL) -> Tokens:
    """Tokens signed with an API secret; they are valid for `ttl` seconds from the join."""

    def mint(room: str, identity: str, publishes: bool) -> str:
        now = int(time.time())
        grants = {"room": room, "roomJoin": True, "canPublish": publishes, "canSubscribe": not publishes}
        claims = {"iss": key, "sub": identity, "nbf": now - 1, "exp": now + ttl, "video": grants}
        return jwt.encode(claims, secret, algorithm="HS256")

    return mint
