"""Access tokens: JSON Web Tokens signed with HS256, with LiveKit's `video` grants (room, roomJoin, canPublish …)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import jwt

from config.schema import Auth
from mediaserver.signalling.problems import Problem

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="weir"'}
LEEWAY = 10  # seconds by which clocks may differ


@dataclass(frozen=True)
class Bearer:
    """Who asks, and what they may. `room` None: any; `lists`: may see all rooms."""

    identity: str | None = None
    room: str | None = None
    publish: bool = True
    subscribe: bool = True
    lists: bool = True


def is_loopback(address: str | None) -> bool:
    """Whether a request came from this machine."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


class Tokens:
    """Checks bearer tokens against the configured keys."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth

    def bearer(self, header: str | None, *, local: bool, expired: bool = False) -> Bearer:
        """Who the Authorization header says it is; `expired`: a token that has run out will do. Raises Problem 401."""
        if header is None:
            if not self.auth.required or (self.auth.loopback_without_token and local):
                return Bearer()
            raise Problem(401, "This needs an access token: Authorization: Bearer …", headers=CHALLENGE)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(401, "The Authorization header is not of the form: Bearer TOKEN.", headers=CHALLENGE)
        return self._read(token.strip(), expired)

    def _read(self, token: str, expired: bool) -> Bearer:
        rules: jwt.types.Options = {"require": ["exp"], "verify_exp": not expired}
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            secret = self.auth.keys.get(issuer) if isinstance(issuer, str) else None
            if secret is None:
                raise Problem(401, f"The token's issuer {issuer!r} is not a key of this node.", headers=CHALLENGE)
            claims = jwt.decode(token, secret, algorithms=["HS256"], leeway=LEEWAY, options=rules)
        except jwt.PyJWTError as error:
            raise Problem(401, f"The token can't be accepted: {error}.", headers=CHALLENGE) from error
        return bearer_of(claims)


def bearer_of(claims: dict[str, object]) -> Bearer:
    """What verified claims grant. Raises Problem 401 when they have no form."""
    video = claims.get("video") or {}
    subject = claims.get("sub")
    if not isinstance(video, dict) or not isinstance(subject, str | None):
        raise Problem(401, "The token's claims have no form that is known here.", headers=CHALLENGE)
    room = video.get("room")
    joins = bool(video.get("roomJoin"))
    return Bearer(
        identity=subject,
        room=room if isinstance(room, str) else "",
        publish=joins and bool(video.get("canPublish", True)),
        subscribe=joins and bool(video.get("canSubscribe", True)),
        lists=bool(video.get("roomList")),
    )


def allow(bearer: Bearer, *, room: str, publish: bool, identity: str | None = None) -> None:
    """Raise Problem 403 when the bearer may not do this."""
    if bearer.room is not None and bearer.room != room:
        raise Problem(403, f"The token is for room {bearer.room!r}, not {room!r}.")
    if publish and not bearer.publish:
        raise Problem(403, "The token does not grant publishing (roomJoin and canPublish).")
    if publish and bearer.identity is not None and identity is not None and bearer.identity != identity:
        raise Problem(403, f"The token is for the identity {bearer.identity!r}, not {identity!r}.")
    if not publish and not bearer.subscribe:
        raise Problem(403, "The token does not grant watching (roomJoin and canSubscribe).")
