"""WHIP (RFC 9725): publish by one POST, trickle or restart ICE by PATCH, leave by DELETE."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mediacodecs.sdp import IceFragment, SdpError, parse_fragment, serialise_fragment
from mediaserver.rooms.room import Publisher
from mediaserver.signalling.answers import LocalTransport, host_candidates
from mediaserver.signalling.context import CONTEXT
from mediaserver.signalling.grants import Bearer, allow, allow_sources
from mediaserver.signalling.ice_servers import ice_links
from mediaserver.signalling.joins import counted, created, resource_path
from mediaserver.signalling.negotiation import NegotiationError, read_publisher_offer
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.requests import (
    accepts,
    bearer_of,
    check_alive,
    limit_joins,
    name_of,
    session_of,
    share_of,
    text_body,
)

FRAGMENT = "application/trickle-ice-sdpfrag"


SOURCES = {"camera": False, "screen_share": True}
"""What `?source=` may say of an offer's video, and whether that is a screen."""


def is_screen(request: web.Request) -> bool:
    """Whether `?source=` says that a screen is published. Raises Problem 400."""
    source = request.query.get("source", "camera")
    if source not in SOURCES:
        raise Problem(400, f"source is one of {', '.join(SOURCES)}, not {source[:40]!a}.")
    return SOURCES[source]


def check_sources(bearer: Bearer, offer: str, *, screen: bool) -> None:
    """Raise Problem 403 when the offer has a track that the token's canPublishSources leaves out."""
    if bearer.sources is None:
        return
    try:
        kinds = {media.kind for media in read_publisher_offer(offer).media}
    except NegotiationError as error:
        raise Problem(error.status, str(error), reason="offer") from error
    allow_sources(bearer, kinds, screen=screen)


async def post(request: web.Request) -> web.Response:
    """POST an offer: 201 with the answer."""
    context, bearer = request.app[CONTEXT], bearer_of(request)
    room, identity = name_of(request, "room"), name_of(request, "identity")
    allow(bearer, room=room, publish=True, identity=identity)
    limit_joins(request)
    screen = is_screen(request)
    accepts(request, "application/sdp")
    offer = await text_body(request, "application/sdp")
    check_sources(bearer, offer, screen=screen)
    session, answer = context.sessions.publish(room, identity, offer, source=share_of(request))
    return created(
        session, answer, resource_path(request, "whip", session.id), ice_links(context.ice_servers, session.id)
    )


def restart_reply(local: LocalTransport, mid: str | None) -> str:
    """The fragment with our new credentials, and our candidates, which replace those of the answer."""
    candidates = host_candidates(local)
    fragment = IceFragment(ufrag=local.ufrag, pwd=local.pwd, candidates=candidates, end_of_candidates=True, mid=mid)
    return serialise_fragment(fragment, ice_lite=True)


def check_etag(request: web.Request, etag: str) -> bool:
    """RFC 9725 4.3: If-Match names the ICE session, or * asks for a restart (True). Raises Problem 412 or 428."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        raise Problem(428, "PATCH needs If-Match: the ETag of the ICE session, or * to restart ICE.")
    tags = [tag.strip() for tag in wanted.split(",")]
    if "*" in tags:
        return True
    if f'"{etag}"' not in tags:
        raise Problem(412, "If-Match does not name the current ICE session.")
    return False


def patch_for(kind: type[Any]) -> Any:
    """The PATCH handler of a resource of this kind of participant."""

    async def patch(request: web.Request) -> web.Response:
        """PATCH a fragment: 204 for candidates, which a lite agent has no use for; 200 for an ICE restart."""
        session = session_of(request, kind)
        text = await text_body(request, FRAGMENT)
        check_alive(request, session)
        restart = check_etag(request, session.etag)
        try:
            fragment = parse_fragment(text)
        except SdpError as error:
            raise Problem(400, str(error)) from error
        if not restart:
            return web.Response(status=204)
        if not fragment.ufrag or not fragment.pwd:
            raise Problem(400, "An ICE restart needs a=ice-ufrag and a=ice-pwd.")
        session.peer.restart_ice(fragment.pwd)
        session.renew_etag()
        body = restart_reply(request.app[CONTEXT].sessions.local(session.peer), fragment.mid)
        return web.Response(
            status=200, body=body.encode(), content_type=FRAGMENT, headers={"ETag": f'"{session.etag}"'}
        )

    return patch


def delete_for(kind: type[Any]) -> Any:
    """The DELETE handler of a resource of this kind of participant."""

    async def delete(request: web.Request) -> web.Response:
        """DELETE: the session ends."""
        session = session_of(request, kind)
        request.app[CONTEXT].sessions.end(session, "the client left")
        return web.Response(status=200)

    return delete


def add_resource(app: web.Application, path: str, kind: type[Any]) -> None:
    """Routes that WHIP and WHEP sessions have in common."""
    app.router.add_patch(path, patch_for(kind))
    app.router.add_delete(path, delete_for(kind))


def add_routes(app: web.Application, base: str) -> None:
    """WHIP's routes below a path."""
    app.router.add_post(f"{base}/whip/{{room}}/{{identity}}", counted("whip", post))
    add_resource(app, f"{base}/whip/{{room}}/{{identity}}/{{id}}", Publisher)
