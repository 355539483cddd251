"""The HTTP application: routes, errors as JSON problems, probes, metrics and the list of rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from mediaserver.logs import get_logger
from mediaserver.signalling import pages, whep, whip
from mediaserver.signalling.connections import Connection
from mediaserver.signalling.context import CONTEXT, Context
from mediaserver.signalling.cors import add_cors, allowed_methods, options
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.requests import bearer_of, count_refusal, limit_requests, own_page_only

log = get_logger("weir.http")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a JSON problem, and answer OPTIONS for every resource."""
    try:
        limit_requests(request)
        if request.method == "OPTIONS":
            return options(request)
        return await handler(request)
    except Problem as problem:
        return count_refusal(request, problem).response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return refusal(request, error)
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:
        log.exception("a request failed", method=request.method, path=ascii(request.path)[:200])
        return Problem(500, "The node made a mistake; its log says which.").response()


@web.middleware
async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that it has a request to answer: from here on, time is the handler's matter."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    if not isinstance(protocol, Connection):
        return await handler(request)
    protocol.begin()
    try:
        return await handler(request)
    finally:
        protocol.end()


def refusal(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """The router's own refusals as JSON problems."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = allowed_methods(error)
        detail = f"{ascii(request.method)[1:-1][:40]} is not for this resource; it takes {allowed}."
        return count_refusal(request, Problem(405, detail, headers={"Allow": allowed})).response()
    detail = f"{ascii(request.method)[1:-1][:40]} {ascii(request.path)[1:-1][:200]}: {error.reason}."
    return count_refusal(request, Problem(error.status, detail)).response()


async def add_safety(request: web.Request, response: web.StreamResponse) -> None:
    """No answer is taken for something else, loaded by other sites without CORS, or tells of versions."""
    response.headers["Server"] = "weir"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")


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
    own_page_only(request)
    body = request.app[CONTEXT].metrics()  # here and not in a thread: rooms must not change meanwhile
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def rooms(request: web.Request) -> web.Response:
    """GET /api/rooms: who publishes what, in the rooms that the bearer may see; `?room=` asks for one of them."""
    bearer, one = bearer_of(request), request.query.get("room")
    known = request.app[CONTEXT].sessions.rooms
    found = known.values() if one is None else [known[one]] if one in known else []
    seen = [room.describe() for room in found if bearer.lists or bearer.room == room.name]
    return web.json_response({"rooms": seen})


def add_routes(app: web.Application, base: str) -> None:
    """All routes below a path, "" or /some/path."""
    app.router.add_get(f"{base}/healthz", healthz)
    app.router.add_get(f"{base}/readyz", readyz)
    if app[CONTEXT].config.metrics.enabled:
        app.router.add_get(f"{base}/metrics", metrics)
    app.router.add_get(f"{base}/api/rooms", rooms)
    whip.add_routes(app, base)
    whep.add_routes(app, base)
    pages.add_routes(app, base)


def make_app(context: Context) -> web.Application:
    """The application; below http.base_path as well as without it: some proxies take a path off, some don't."""
    app = web.Application(middlewares=[timed, errors], client_max_size=context.config.http.max_body)
    app[CONTEXT] = context
    app.on_response_prepare.append(add_cors)
    app.on_response_prepare.append(add_safety)
    for base in sorted({"", context.config.http.base_path}):
        add_routes(app, base)
    return app
