"""What WHIP, WHEP and the API ask of every request: who sends it, under which names, with what body, and how often.

The token is looked at first, and costs a signature; only then is a join counted, or a body read. Refusals have a
bucket of their own for each source: strangers empty it for each other, and whoever brings a good token has one of its
own beside it, so that no neighbour behind the same address can keep it out.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mediaserver.signalling.addresses import is_loopback
from mediaserver.signalling.context import CONTEXT
from mediaserver.signalling.grants import Bearer
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.proxies import Client
from mediaserver.signalling.ratelimit import source_of
from mediaserver.signalling.sessions import Session
from mediaserver.signalling.tokens import refused

NAME_MAX = 128
DOTS = {".", ".."}  # browsers and proxies take such a segment, percent-encoded or not, out of a path (RFC 3986 5.2.4)
STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")
CLIENT = web.RequestKey("client", Client)
PAYER = web.RequestKey("payer", str)
"""Whose bucket of refusals a request draws on."""
JUDGED = web.RequestKey("judged", bool)
CLOSE = {"Connection": "close"}  # what is left of a broken body can't be told from the next request
COSTLY = 10.0  # requests that one for all metrics counts as: it takes some milliseconds
BROKEN = (web.RequestPayloadError, HttpProcessingError)


def name_of(request: web.Request, part: str) -> str:
    """A room's or participant's name from the path. Raises Problem 400."""
    name = request.match_info[part]
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable() or not name.strip():
        raise Problem(400, f"The name of the {part} has 1 to {NAME_MAX} printable characters.")
    if DOTS.intersection(name.replace("\\", "/").split("/")):
        raise Problem(
            400, f"The name of the {part} has a part that is . or .., and paths lose such parts on their way."
        )
    if not is_encoded(request.raw_path):
        raise Problem(400, "The path is not percent-encoded UTF-8.")
    return name


def is_encoded(path: str) -> bool:
    """Whether a path means the same to everybody: each % begins an octet, and the octets are UTF-8 (RFC 3986 2.1)."""
    try:
        unquote_to_bytes(path.encode()).decode()
    except UnicodeError:
        return False
    return STRAY.search(path) is None


def client_of(request: web.Request) -> Client:
    """Who sends a request, seen through the proxies that are trusted."""
    found = request.get(CLIENT)
    if found is None:
        proxies = request.app[CONTEXT].proxies
        found = request[CLIENT] = proxies.client(request.remote or "", request.scheme, request.headers)
    return found


def source_of_request(request: web.Request) -> str:
    """What limits count as one source: the client's IPv4 address, or the /64 of its IPv6 address."""
    return source_of(client_of(request).address)


def share_of(request: web.Request) -> str | None:
    """The source that a join's share is counted for; None: it is free of that."""
    return None if is_unlimited(request) else source_of_request(request)


def is_local(request: web.Request) -> bool:
    """Whether the client itself is on this machine, and not a proxy that speaks for others."""
    client = client_of(request)
    return client.direct and is_loopback(client.address)


def bearer_of(request: web.Request, *, expired: bool = False) -> Bearer:
    """Who asks. `expired`: a token that has run out will do. Raises Problem 401, or 429 after too many refusals."""
    context = request.app[CONTEXT]
    headers = request.headers.getall("Authorization", [])
    if not headers and context.tokens.spares(local=is_local(request)):
        objection = context.origins.objection(client_of(request), request.headers)
        if objection:
            raise refused(objection)
        bearer = Bearer()
    else:
        bearer = context.tokens.bearer(headers, expired=expired)
    request[PAYER] = f"{source_of_request(request)} {bearer.key} {bearer.identity}"
    check_refusals(request)
    return bearer


def own_page_only(request: web.Request) -> None:
    """Where a node takes requests without a token, what needs none is for its own names and pages too. Raises 401.

    A page can write headers: neither that of a proxy nor that of a token which is none makes it another's request.
    """
    context = request.app[CONTEXT]
    if not context.tokens.spares(local=is_loopback(request.remote)):
        return
    if "Authorization" in request.headers:
        bearer_of(request)
    elif objection := context.origins.objection(client_of(request), request.headers):
        raise refused(objection)


def is_unlimited(request: web.Request) -> bool:
    """Whether the limits on joins and refusals do not concern this client."""
    return request.app[CONTEXT].config.limits.unlimited_loopback_joins and is_local(request)


def too_often(wait: float, what: str) -> Problem:
    """429, with the seconds to wait."""
    headers = {"Retry-After": str(math.ceil(wait))}
    return Problem(429, f"Too many {what} came from this address; wait and try again.", headers=headers, reason="rate")


def check_refusals(request: web.Request) -> None:
    """Raise Problem 429 at once when this client's refusals are used up."""
    wait = request.app[CONTEXT].refusals.wait(request.get(PAYER, ""), time.monotonic())
    if wait > 0 and not is_unlimited(request):
        raise too_often(wait, "requests that had to be refused")


def count_refusal(request: web.Request, problem: Problem) -> Problem:
    """Count a request that is refused; returns the refusal, or 429 in its place when there have been too many."""
    if request.get(JUDGED) or problem.status == 429 or problem.status >= 500 or is_unlimited(request):
        return problem
    request[JUDGED] = True
    payer = request.get(PAYER) or source_of_request(request)
    wait = request.app[CONTEXT].refusals.take(payer, time.monotonic())
    return too_often(wait, "requests that had to be refused") if wait > 0 else problem


def limit_requests(request: web.Request) -> None:
    """Count a request of whatever kind from this source. Raises Problem 429, after which the connection is closed."""
    if is_unlimited(request):
        return
    cost = COSTLY if request.path.endswith("/metrics") else 1.0
    wait = request.app[CONTEXT].requests.take(source_of_request(request), time.monotonic(), cost)
    if wait > 0:
        problem = too_often(wait, "requests")
        problem.headers |= CLOSE
        raise problem


def limit_joins(request: web.Request) -> None:
    """Count a join from this source. Raises Problem 429."""
    if is_unlimited(request):
        return
    wait = request.app[CONTEXT].joins.take(source_of_request(request), time.monotonic())
    if wait > 0:
        raise too_often(wait, "joins")


def accepts(request: web.Request, content_type: str) -> None:
    """Raise Problem 406 when the client can't take an answer of this type (RFC 9110 12.5.1)."""
    ranges = ",".join(request.headers.getall("Accept", ["*/*"])).lower().split(",")
    names = {one.partition(";")[0].strip() for one in ranges if not one.replace(" ", "").endswith((";q=0", ";q=0.0"))}
    if not names & {content_type, content_type.partition("/")[0] + "/*", "*/*", ""}:
        raise Problem(406, f"The answer is {content_type}, which the Accept header leaves out.")


def check_type(request: web.Request, content_type: str) -> None:
    """Raise Problem 415 when the body is of another type, or is compressed."""
    if request.content_type != content_type:
        name = "Accept-Patch" if request.method == "PATCH" else "Accept-Post"
        found = f"{request.content_type!a}"[1:60].rstrip("'") if "Content-Type" in request.headers else "without a type"
        raise Problem(415, f"The body must be {content_type}, not {found}.", headers={name: content_type})
    coding = ",".join(request.headers.getall("Content-Encoding", []))
    if coding.strip().lower() not in ("", "identity"):
        raise Problem(415, "The body must not be compressed.", headers={"Accept-Encoding": "identity"})


async def text_body(request: web.Request, content_type: str) -> str:
    """The body, which must be of this type. Raises Problem 400, 408, 413 or 415."""
    check_type(request, content_type)
    http = request.app[CONTEXT].config.http
    try:
        async with asyncio.timeout(http.body_timeout):
            return (await request.read()).decode()
    except TimeoutError:
        raise Problem(408, f"The body took more than {http.body_timeout:g} s.", headers=CLOSE) from None
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, f"The body is larger than {http.max_body} bytes.") from None
    except BROKEN as error:
        raise Problem(400, f"The body can't be read: {ascii(str(error))[1:-1][:200]}.", headers=CLOSE) from error
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}.") from error


async def json_body(request: web.Request) -> Any:
    """The body as JSON. Raises Problem 400, 408, 413 or 415."""
    text = await text_body(request, "application/json")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {ascii(str(error))[1:-1][:200]}.") from error


def ended() -> Problem:
    """404 for a session that is none, or is one no more."""
    return Problem(404, "There is no such session, or it has ended.")


def check_alive(request: web.Request, session: Session) -> None:
    """Raise Problem 404 when a session has ended since `session_of`, as it may while a body comes."""
    if session.id not in request.app[CONTEXT].sessions.sessions:
        raise ended()


def session_of(request: web.Request, kind: type[Any]) -> Session:
    """The session that the path names, checked against who asks. Raises Problem 401, 403 or 404.

    A token that has run out since the join still ends or mends what it began.
    """
    bearer = bearer_of(request, expired=True)
    session = request.app[CONTEXT].sessions.sessions.get(request.match_info["id"])
    if session is None or not isinstance(session.participant, kind) or session.room.name != request.match_info["room"]:
        raise ended()
    if bearer.room is not None and bearer.room != session.room.name:
        raise Problem(403, "The token is for another room.")
    if bearer.identity is not None and bearer.identity != session.identity:
        raise Problem(403, "The token is for another identity than the session's.")
    return session
