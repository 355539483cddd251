"""The HTTP application: routes, CORS, problems, and what WHIP and WHEP have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from config.schema import Config
from mediaserver.logs import get_logger
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.ratelimit import RateLimit
from mediaserver.signalling.sessions import Session, Sessions
from mediaserver.signalling.tokens import Bearer, Tokens, is_loopback

log = get_logger("weir.http")
WEB = Path(__file__).parent.parent / "web"
EXPOSED = "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate"
METHODS = "GET, POST, PATCH, DELETE, OPTIONS"
HEADERS = "Authorization, Content-Type, If-Match, If-None-Match"
NAME_MAX = 128
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Context:
    """What handlers share."""

    config: Config
    sessions: Sessions
    tokens: Tokens
    joins: RateLimit
    metrics: Callable[[], bytes]
    ready: Callable[[], bool]


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def name_of(request: web.Request, part: str) -> str:
    """A room's or participant's name from the path. Raises Problem 400."""
    name = request.match_info[part]
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise Problem(400, f"A {part} has 1 to {NAME_MAX} printable characters.")
    return name


def bearer_of(request: web.Request) -> Bearer:
    """Who asks. Raises Problem 401."""
    return request.app[CONTEXT].tokens.bearer(request.headers.get("Authorization"), request.remote)


async def sdp_body(request: web.Request, content_type: str) -> str:
    """The body, which must be of this type. Raises Problem 400, 413 or 415."""
    if request.content_type != content_type:
        raise Problem(
            415, f"The body must be {content_type}, not {request.content_type}.", headers={"Accept": content_type}
        )
    try:
        body = await request.read()
        return body.decode()
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[CONTEXT].config.http.max_body
        raise Problem(413, f"The body is larger than {limit} bytes.") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}.") from error


def limit_joins(request: web.Request) -> None:
    """Count a join from this source. Raises Problem 429."""
    context = request.app[CONTEXT]
    if context.config.limits.unlimited_loopback_joins and is_loopback(request.remote):
        return
    wait = context.joins.take(request.remote or "", time.monotonic())
    if wait > 0:
        headers = {"Retry-After": str(max(1, round(wait + 0.5)))}
        raise Problem(429, "Too many joins came from this address; wait and try again.", headers=headers)


def session_of(request: web.Request, kind: type[Any]) -> Session:
    """The session that the path names, checked against who asks. Raises Problem 401, 403 or 404."""
    bearer = bearer_of(request)
    session = request.app[CONTEXT].sessions.sessions.get(request.match_info["id"])
    if session is None or not isinstance(session.participant, kind) or session.room.name != request.match_info["room"]:
        raise Problem(404, "There is no such session, or it has ended.")
    if bearer.room is not None and bearer.room != session.room.name:
        raise Problem(403, "The token is for another room.")
    if bearer.identity is not None and bearer.identity != session.identity:
        raise Problem(403, "The token is for another identity than the session's.")
    return session


def ice_links(config: Config) -> list[str]:
    """Link headers for the configured STUN and TURN servers (RFC 9725 4.4)."""
    links = []
    for server in config.ice_servers:
        for url in server.urls:
            link = f'<{url}>; rel="ice-server"'
            if server.username:
                link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
            links.append(link)
    return links


def created(session: Session, answer: str, path: str, links: list[str]) -> web.Response:
    """201 with the answer (RFC 9725 4.2)."""
    response = web.Response(status=201, text=answer, content_type="application/sdp")
    response.headers["Location"] = path
    response.headers["ETag"] = f'"{session.etag}"'
    response.headers["Accept-Patch"] = "application/trickle-ice-sdpfrag"
    for link in links:
        response.headers.add("Link", link)
    return response


def refuse_method(allowed: str) -> Handler:
    """A handler that answers 405 (RFC 9725 4.2: GET, HEAD and PUT are reserved)."""

    async def handler(request: web.Request) -> web.StreamResponse:
        raise Problem(
            405, f"{request.method} is not for this resource; it takes {allowed}.", headers={"Allow": allowed}
        )

    return handler


def with_cors(request: web.Request, response: web.StreamResponse, config: Config) -> None:
    """Let pages of the configured origins read the answer."""
    origin = request.headers.get("Origin")
    allowed = config.http.cors_origins
    if origin is None or ("*" not in allowed and origin not in allowed):
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if "*" not in allowed:
        response.headers["Vary"] = "Origin"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = HEADERS
        response.headers["Access-Control-Max-Age"] = "86400"


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a JSON problem, and add CORS headers to every answer."""
    config = request.app[CONTEXT].config
    response: web.StreamResponse
    try:
        response = await handler(request)
    except Problem as problem:
        response = problem.response()
    except web.HTTPException as error:
        detail = f"{request.method} {request.path}: {error.reason}."
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        response = Problem(error.status, detail, headers=allow).response() if error.status >= 400 else error
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:
        log.exception("a request failed", path=request.path)
        response = Problem(500, "The node made a mistake; its log says which.").response()
    if not response.prepared:
        with_cors(request, response, config)
    return response


async def options(request: web.Request) -> web.Response:
    """OPTIONS: CORS preflight, and what WHIP asks for (RFC 9725 4.2)."""
    return web.Response(status=204, headers={"Accept-Post": "application/sdp", "Allow": METHODS})


async def healthz(request: web.Request) -> web.Response:
    """The process is alive."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """The node takes joins."""
    ready = request.app[CONTEXT].ready()
    return web.json_response({"status": "ready" if ready else "not ready"}, status=200 if ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    body = await asyncio.get_running_loop().run_in_executor(None, request.app[CONTEXT].metrics)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def rooms(request: web.Request) -> web.Response:
    """GET /api/rooms: who publishes what, in the rooms that the bearer may see."""
    bearer = bearer_of(request)
    found = request.app[CONTEXT].sessions.rooms.values()
    seen = [room.describe() for room in found if bearer.room is None or bearer.room == room.name]
    return web.json_response({"rooms": seen})


async def page(request: web.Request) -> web.StreamResponse:
    """The page and its modules."""
    file = WEB / (request.match_info.get("file") or "index.html")
    if file.parent != WEB or file.suffix not in TYPES or not file.is_file():
        raise Problem(404, f"There is nothing at {request.path}.")
    return web.FileResponse(file, headers={"Content-Type": TYPES[file.suffix], "Cache-Control": "no-cache"})


def make_app(context: Context) -> web.Application:
    """The application with all routes."""
    from mediaserver.signalling import whep, whip

    app = web.Application(middlewares=[errors], client_max_size=context.config.http.max_body)
    app[CONTEXT] = context
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    if context.config.metrics.enabled:
        app.router.add_get("/metrics", metrics)
    app.router.add_get("/api/rooms", rooms)
    whip.add_routes(app)
    whep.add_routes(app)
    app.router.add_route("OPTIONS", "/{path:.*}", options)
    app.router.add_get("/", page)
    app.router.add_get("/{file}", page)
    return app
