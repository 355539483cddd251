"""What the joins of WHIP and WHEP have in common: they are counted, and answered by 201 with a session's path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web

from mediaserver.logs import get_logger
from mediaserver.seldom import Seldom
from mediaserver.signalling.context import CONTEXT
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.requests import client_of, count_refusal, is_unlimited, source_of_request
from mediaserver.signalling.sessions import Session

log = get_logger("weir.http")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHOWN = 128  # characters of a name that was refused, in a log line


def counted(kind: str, post: Handler) -> Handler:
    """A join handler whose outcomes are counted and logged by reason; refusals of one source not all of them."""
    refused = Seldom()

    async def handler(request: web.Request) -> web.StreamResponse:
        joins = request.app[CONTEXT].sessions.joins
        try:
            response = await post(request)
        except Problem as problem:
            answer = count_refusal(request, problem)
            joins[kind, answer.reason] += 1
            unsaid = 0 if is_unlimited(request) else refused.due(source_of_request(request), time.monotonic())
            if unsaid is not None:
                tell(request, kind, answer, unsaid)
            raise answer from problem.__cause__
        joins[kind, "ok"] += 1
        return response

    return handler


def tell(request: web.Request, kind: str, problem: Problem, unsaid: int) -> None:
    """The log line of a refused join, and how many were passed over before it."""
    names = {"room": shown(request.match_info["room"]), "participant": shown(request.match_info["identity"])}
    more = {"unsaid": unsaid} if unsaid else {}
    log.info("join refused", kind=kind, status=problem.status, reason=problem.detail, **names, **more)


def shown(name: str) -> str:
    """A name that may be anything, for a log that is one line for each line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:SHOWN])


def resource_path(request: web.Request, kind: str, session_id: str) -> str:
    """The path of a session as the client has to ask for it: below the proxy's prefix, if there is one."""
    room, identity = (quote(request.match_info[part], safe="") for part in ("room", "identity"))
    return f"{client_of(request).prefix}/{kind}/{room}/{identity}/{session_id}"


def created(session: Session, answer: str, path: str, links: list[str]) -> web.Response:
    """201 with the answer (RFC 9725 4.2)."""
    response = web.Response(status=201, body=answer.encode(), content_type="application/sdp")  # which has no charset
    response.headers["Location"] = path
    response.headers["ETag"] = f'"{session.etag}"'
    response.headers["Accept-Patch"] = "application/trickle-ice-sdpfrag"
    for link in links:  # a field each: GStreamer and OBS do not find those behind a comma
        response.headers.add("Link", link)
    return response
