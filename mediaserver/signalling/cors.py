"""Pages of other origins (Fetch standard, CORS): who may read our answers, and what a preflight is told.

The API asks for a bearer token and never for a cookie, so an answer to a page of any origin gives away only what its
token would give to anybody; "*" is therefore a sound default. What needs no token is not for other pages: see
`origins`.
"""

from __future__ import annotations

from aiohttp import web

from mediaserver.signalling.context import CONTEXT

EXPOSED = "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate"
METHODS = "GET, POST, PATCH, DELETE, OPTIONS"
HEADERS = "Authorization, Content-Type, If-Match, If-None-Match"
DAY = "86400"  # seconds that a browser may remember a preflight
PRIVATE = {"/metrics"}  # below http.base_path too: for no page but those that the configuration names one by one


def allowed_methods(error: web.HTTPException | None) -> str:
    """What a resource takes, by the router's refusal of something else."""
    known = error.allowed_methods if isinstance(error, web.HTTPMethodNotAllowed) else set(METHODS.split(", "))
    return ", ".join(sorted(known | {"OPTIONS"}))


def options(request: web.Request) -> web.Response:
    """OPTIONS: CORS preflight, and what WHIP asks for (RFC 9725 4.2)."""
    allowed = allowed_methods(request.match_info.http_exception)
    headers = {"Allow": allowed}
    headers |= {"Accept-Post": "application/sdp"} if "POST" in allowed else {}
    headers |= {"Accept-Patch": "application/trickle-ice-sdpfrag"} if "PATCH" in allowed else {}
    return web.Response(status=204, headers=headers)


async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of the configured origins read the answer; on every answer, streams included."""
    http = request.app[CONTEXT].config.http
    allowed = set(http.cors_origins)
    if request.path.removeprefix(http.base_path) in PRIVATE:
        allowed.discard("*")
    origin = request.headers.get("Origin")
    if "*" not in allowed:
        response.headers["Vary"] = "Origin"
    if origin is None or ("*" not in allowed and origin not in allowed):
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = HEADERS
        response.headers["Access-Control-Max-Age"] = DAY
