"""Access tokens: JSON Web Tokens (RFC 7519) signed with HS256. What they grant is read in `grants`."""

from __future__ import annotations

import re

import jwt

from config.schema import Auth
from mediaserver.signalling.grants import CHALLENGE, Bearer, Grants
from mediaserver.signalling.problems import Problem

LEEWAY = 10  # seconds by which clocks may differ
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, AttributeError, RecursionError)
"""What the decoder raises over claims of odd types and sizes, besides its own errors."""


def refused(detail: str) -> Problem:
    """401 with the challenge that RFC 6750 asks for."""
    return Problem(401, detail, headers=CHALLENGE)


class Tokens:
    """Checks bearer tokens against the configured keys."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self._grants = Grants()

    def spares(self, *, local: bool) -> bool:
        """Whether the configuration lets a client go without a token; `local`: it is on this machine."""
        return not self.auth.required or (self.auth.loopback_without_token and local)

    def bearer(self, headers: list[str], *, expired: bool = False) -> Bearer:
        """Whom the Authorization headers name; `expired`: a token that has run out will do. Raises Problem 401."""
        if not headers:
            raise refused("This needs an access token: Authorization: Bearer …")
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise refused("The Authorization header is not of the form: Bearer TOKEN.")
        if not TOKEN.fullmatch(token.strip()):
            raise refused("The token can't be accepted: it is not three parts of base64url with dots between.")
        return self._grants.bearer(self._claims(token.strip(), expired))

    def _claims(self, token: str, expired: bool) -> dict[str, object]:
        rules: jwt.types.Options = {"require": ["exp"], "verify_exp": not expired}
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            secret = self.auth.keys.get(issuer) if isinstance(issuer, str) else None
            if secret is None:
                raise refused(f"The token's issuer {ascii(issuer)[:80]} is not a key of this node.")
            claims: dict[str, object] = jwt.decode(token, secret, algorithms=["HS256"], leeway=LEEWAY, options=rules)
        except UNREADABLE as error:
            raise refused(f"The token can't be accepted: {ascii(str(error))[1:-1][:200]}.") from None
        return claims
