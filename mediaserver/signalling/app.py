"""The HTTP application: routes, CORS, problems, and what WHIP and WHEP have in common."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from config.schema import Config
from mediaserver.logs import get_logger
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.ratelimit import RateLimit, source_of
from mediaserver.signalling.sessions import Session, Sessions
from mediaserver.signalling.tokens import Bearer, Tokens, is_loopback

log = get_logger("weir.http")
WEB = Path(__file__).parent.parent / "web"
EXPOSED = "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate"
METHODS = "GET, POST, PATCH, DELETE, OPTIONS"
PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")  # headers of a proxy, behind which everybody seems local
BODY_TIMEOUT = 10.0  # seconds that a client may take to send a body
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
    faults: Callable[[], list[str]]  # of the workers
    obstacles: Callable[[], list[str]]  # to joins: the faults, and a node that comes up or goes


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def name_of(request: web.Request, part: str) -> str:
    """A room's or participant's name from the path. Raises Problem 400."""
    name = request.match_info[part]
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise Problem(400, f"A {part} has 1 to {NAME_MAX} printable characters.")
    return name


def is_local(request: web.Request) -> bool:
    """Whether the client itself is on this machine, and not a proxy that speaks for others."""
    return is_loopback(request.remote) and not any(name in request.headers for name in PROXIED)


def bearer_of(request: web.Request, *, expired: bool = False) -> Bearer:
    """Who asks. `expired`: a token that has run out will do. Raises Problem 401."""
    tokens = request.app[CONTEXT].tokens
    return tokens.bearer(request.headers.get("Authorization"), local=is_local(request), expired=expired)


def accepts(request: web.Request, content_type: str) -> None:
    """Raise Problem 406 when the client can't take an answer of this type (RFC 9110 12.5.1)."""
    ranges = ",".join(request.headers.getall("Accept", ["*/*"])).lower().split(",")
    names = {one.partition(";")[0].strip() for one in ranges if not one.replace(" ", "").endswith((";q=0", ";q=0.0"))}
    if not names & {content_type, content_type.partition("/")[0] + "/*", "*/*", ""}:
        raise Problem(406, f"The answer is {content_type}, which the Accept header leaves out.")


async def text_body(request: web.Request, content_type: str) -> str:
    """The body, which must be of this type. Raises Problem 400, 408, 413 or 415."""
    if request.content_type != content_type:
        name = "Accept-Patch" if request.method == "PATCH" else "Accept-Post"
        found = request.content_type if "Content-Type" in request.headers else "without a type"
        raise Problem(415, f"The body must be {content_type}, not {found}.", headers={name: content_type})
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return (await request.read()).decode()
    except TimeoutError:
        raise Problem(408, f"The body took more than {BODY_TIMEOUT:.0f} s.") from None
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[CONTEXT].config.http.max_body
        raise Problem(413, f"The body is larger than {limit} bytes.") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}.") from error


async def json_body(request: web.Request) -> Any:
    """The body as JSON. Raises Problem 400, 408, 413 or 415."""
    text = await text_body(request, "application/json")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from error


def source_of_request(request: web.Request) -> str | None:
    """The source address that a join's share is counted for; None: it is free of that."""
    if request.app[CONTEXT].config.limits.unlimited_loopback_joins and is_local(request):
        return None
    return source_of(request.remote or "")


def limit_joins(request: web.Request) -> None:
    """Count a join from this source. Raises Problem 429."""
    context = request.app[CONTEXT]
    if context.config.limits.unlimited_loopback_joins and is_local(request):
        return
    wait = context.joins.take(request.remote or "", time.monotonic())
    if wait > 0:
        headers = {"Retry-After": str(math.ceil(wait))}
        raise Problem(429, "Too many joins came from this address; wait and try again.", headers=headers, reason="rate")


def counted(kind: str, post: Handler) -> Handler:
    """A join handler whose outcomes are counted and logged by reason."""

    async def handler(request: web.Request) -> web.StreamResponse:
        joins = request.app[CONTEXT].sessions.joins
        try:
            response = await post(request)
        except Problem as problem:
            joins[kind, problem.reason] += 1
            names = {"room": request.match_info["room"], "participant": request.match_info["identity"]}
            log.info("join refused", kind=kind, status=problem.status, reason=problem.detail, **names)
            raise
        joins[kind, "ok"] += 1
        return response

    return handler


def session_of(request: web.Request, kind: type[Any]) -> Session:
    """The session that the path names, checked against who asks. Raises Problem 401, 403 or 404.

    A token that has run out since the join still ends or mends what it began.
    """
    bearer = bearer_of(request, expired=True)
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
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def allowed_methods(error: web.HTTPException | None) -> str:
    """What a resource takes, by the router's refusal of something else."""
    known = error.allowed_methods if isinstance(error, web.HTTPMethodNotAllowed) else set(METHODS.split(", "))
    return ", ".join(sorted(known | {"OPTIONS"}))


def with_cors(request: web.Request, response: web.StreamResponse, config: Config) -> None:
    """Let pages of the configured origins read the answer."""
    origin = request.headers.get("Origin")
    allowed = config.http.cors_origins
    if "*" not in allowed:
        response.headers["Vary"] = "Origin"
    if origin is None or ("*" not in allowed and origin not in allowed):
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = HEADERS
        response.headers["Access-Control-Max-Age"] = "86400"


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a JSON problem, and answer OPTIONS for every resource."""
    if request.method == "OPTIONS":
        return options(request)
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        return refusal(request, error)
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:
        names = {"room": request.match_info.get("room"), "participant": request.match_info.get("identity")}
        log.exception("a request failed", method=request.method, path=request.path, **names)
        return Problem(500, "The node made a mistake; its log says which.").response()


def refusal(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """The router's own refusals as JSON problems."""
    if error.status < 400:
        return error
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = allowed_methods(error)
        detail = f"{request.method} is not for this resource; it takes {allowed}."
        return Problem(405, detail, headers={"Allow": allowed}).response()
    return Problem(error.status, f"{request.method} {request.path}: {error.reason}.").response()


def options(request: web.Request) -> web.Response:
    """OPTIONS: CORS preflight, and what WHIP asks for (RFC 9725 4.2)."""
    allowed = allowed_methods(request.match_info.http_exception)
    headers = {"Allow": allowed}
    headers |= {"Accept-Post": "application/sdp"} if "POST" in allowed else {}
    headers |= {"Accept-Patch": "application/trickle-ice-sdpfrag"} if "PATCH" in allowed else {}
    return web.Response(status=204, headers=headers)


async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
    """CORS headers on every answer, streams included."""
    with_cors(request, response, request.app[CONTEXT].config)


async def healthz(request: web.Request) -> web.Response:
    """The node is alive: this thread answers, and every worker runs its rounds. Else only a new start helps."""
    return probe(request.app[CONTEXT].faults(), "ok")


async def readyz(request: web.Request) -> web.Response:
    """The node takes joins."""
    return probe(request.app[CONTEXT].obstacles(), "ready")


def probe(faults: list[str], well: str) -> web.Response:
    """200 and the word for a node that is well, or 503 and why it is not."""
    return web.json_response(
        {"status": f"not {well}", "faults": faults} if faults else {"status": well}, status=503 if faults else 200
    )


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    body = request.app[CONTEXT].metrics()  # here and not in a thread: rooms must not change meanwhile
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def rooms(request: web.Request) -> web.Response:
    """GET /api/rooms: who publishes what, in the rooms that the bearer may see."""
    bearer = bearer_of(request)
    found = request.app[CONTEXT].sessions.rooms.values()
    seen = [room.describe() for room in found if bearer.lists or bearer.room == room.name]
    return web.json_response({"rooms": seen})


async def page(request: web.Request) -> web.StreamResponse:
    """The page and its modules."""
    file = WEB / (request.path.strip("/") or "index.html")
    headers = {"Content-Type": TYPES[file.suffix], "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return web.FileResponse(file, headers=headers)


def make_app(context: Context) -> web.Application:
    """The application with all routes."""
    from mediaserver.signalling import whep, whip

    app = web.Application(middlewares=[errors], client_max_size=context.config.http.max_body)
    app[CONTEXT] = context
    app.on_response_prepare.append(add_cors)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    if context.config.metrics.enabled:
        app.router.add_get("/metrics", metrics)
    app.router.add_get("/api/rooms", rooms)
    whip.add_routes(app)
    whep.add_routes(app)
    app.router.add_get("/", page)
    for file in WEB.iterdir():
        if file.suffix in TYPES:
            app.router.add_get(f"/{file.name}", page)
    return app
