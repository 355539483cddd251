"""Makes access tokens in LiveKit's form, so that its SDKs and back ends work with Weir's keys and the other way round.

A token is a JWT (RFC 7519) signed with HS256: `iss` is the key's name, `sub` the participant's identity, `video` the
grants. Checking tokens is the signalling's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import jwt

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token lets its bearer do."""

    room: str
    identity: str
    publish: bool = True
    subscribe: bool = True


def mint(grant: Grant, *, key: str, secret: str, now: int, ttl: int) -> str:
    """A signed token, valid from now (seconds since 1970) for ttl seconds."""
    claims = {
        "iss": key,
        "sub": grant.identity,
        "nbf": now,
        "exp": now + ttl,
        "video": {
            "room": grant.room,
            "roomJoin": True,
            "canPublish": grant.publish,
            "canSubscribe": grant.subscribe,
        },
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def seconds(text: str) -> int:
    """The seconds in a span such as 90s, 15m, 6h or 7d. Raises ValueError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd]?)", text)
    if not match:
        raise ValueError(f"{text!r} is no span of time: write 90s, 15m, 6h or 7d")
    return int(match[1]) * UNITS[match[2] or "s"]
