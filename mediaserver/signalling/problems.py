"""Errors as JSON problems (RFC 9457): a status, a title, and a sentence that says what was wrong."""

from __future__ import annotations

import json
from http import HTTPStatus

from aiohttp import web


class Problem(Exception):
    """A request that can't be served."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None, reason: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}
        self.reason = reason or HTTPStatus(status).phrase.lower().replace(" ", "-")

    def response(self) -> web.Response:
        """As it goes to the client."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return web.Response(
            status=self.status, text=json.dumps(body), content_type="application/problem+json", headers=self.headers
        )
