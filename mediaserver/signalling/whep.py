"""WHEP (draft-ietf-wish-whep): watch by one POST; with the layer and server-sent-events extensions.

The identity in the path is the publisher's. `?layer=` wants a layer, `?lag=` milliseconds of delay.
"""

from __future__ import annotations

import secrets
from typing import Any

from aiohttp import web

from mediaserver.rooms.room import Viewer
from mediaserver.rooms.subscription import Subscription
from mediaserver.signalling import events
from mediaserver.signalling.context import CONTEXT
from mediaserver.signalling.grants import allow
from mediaserver.signalling.ice_servers import ice_links
from mediaserver.signalling.joins import counted, created, resource_path
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.requests import (
    accepts,
    bearer_of,
    check_alive,
    json_body,
    limit_joins,
    name_of,
    session_of,
    share_of,
    text_body,
)
from mediaserver.signalling.whip import add_resource

LAYER_EXTENSION = "urn:ietf:params:whep:ext:core:layer"
EVENTS_EXTENSION = "urn:ietf:params:whep:ext:core:server-sent-events"
AUTOMATIC = "auto"


def wanted_lag(request: web.Request) -> int:
    """`?lag=` in milliseconds. Raises Problem 400."""
    text, most = request.query.get("lag", "0"), request.app[CONTEXT].config.late_join.lag_max
    if not text.isdecimal() or len(text) > 9 or int(text) > most:
        raise Problem(400, f"lag is 0 to {most} milliseconds, not {text[:40]!a}.")
    return int(text)


def wanted_layer(text: str | None) -> str | None:
    """A rid, or None for the highest layer. Raises Problem 400."""
    if text is None or text in ("", AUTOMATIC):
        return None
    if len(text) > 16 or not text.isprintable():
        raise Problem(400, f"layer is a rid or {AUTOMATIC}, not {text[:40]!a}.")
    return text


async def post(request: web.Request) -> web.Response:
    """POST an offer: 201 with the answer, whether the publisher is there or not."""
    context, bearer = request.app[CONTEXT], bearer_of(request)
    room, target = name_of(request, "room"), name_of(request, "identity")
    allow(bearer, room=room, publish=False)
    limit_joins(request)
    layer, lag = wanted_layer(request.query.get("layer")), wanted_lag(request)
    accepts(request, "application/sdp")
    offer = await text_body(request, "application/sdp")
    viewer = bearer.identity or f"viewer-{secrets.token_hex(4)}"
    source = share_of(request)
    session, answer = context.sessions.watch(room, target, viewer, offer, layer=layer, lag=lag, source=source)
    path = resource_path(request, "whep", session.id)
    links = [
        f'<{path}/layer>; rel="{LAYER_EXTENSION}"',
        f'<{path}/sse>; rel="{EVENTS_EXTENSION}"; events="{",".join(events.NAMES)}"',
    ]
    return created(session, answer, path, ice_links(context.ice_servers, session.id) + links)


def subscription_for(viewer: Viewer, media_id: object) -> Subscription:
    """The section that a layer request names, by default the first of video. Raises Problem 404."""
    for subscription in viewer.subscriptions:
        if subscription.media.mid == media_id or (media_id is None and subscription.media.kind == "video"):
            return subscription
    raise Problem(404, f"There is no media section {ascii(media_id)[:60]} in this session.")


def whole(body: dict[str, Any], key: str) -> int:
    """A layer number in a request, 255 when absent. Raises Problem 400."""
    value = body.get(key, 255)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise Problem(400, f"{key} is 0 to 255, not {ascii(value)[:60]}.")
    return value


async def choose_layer(request: web.Request) -> web.Response:
    """POST {mediaId?, encodingId?, maxSpatialLayerId?, maxTemporalLayerId?}."""
    session = session_of(request, Viewer)
    body = await json_body(request)
    check_alive(request, session)
    if not isinstance(body, dict):
        raise Problem(400, "The body is not a JSON object.")
    assert isinstance(session.participant, Viewer)
    subscription = subscription_for(session.participant, body.get("mediaId"))
    rid = body.get("encodingId", AUTOMATIC)
    if not isinstance(rid, str):
        raise Problem(400, f"encodingId is a string, not {ascii(rid)[:60]}.")
    wanted = wanted_layer(rid)
    track = subscription.track
    if wanted is not None and track is not None and not track.has_rid(wanted):
        rids = ", ".join(layer.rid for layer in track.layers if layer.rid) or "none"
        raise Problem(404, f"The track has no layer {wanted!a}; it has {rids}.")
    subscription.select(wanted, whole(body, "maxSpatialLayerId"), whole(body, "maxTemporalLayerId"))
    return web.Response(status=200)


async def free_layer(request: web.Request) -> web.Response:
    """DELETE: back to the highest layer that is being sent."""
    session = session_of(request, Viewer)
    assert isinstance(session.participant, Viewer)
    for subscription in session.participant.subscriptions:
        subscription.select(None)
    return web.Response(status=200)


def add_routes(app: web.Application, base: str) -> None:
    """WHEP's routes below a path."""
    app.router.add_post(f"{base}/whep/{{room}}/{{identity}}", counted("whep", post))
    resource = f"{base}/whep/{{room}}/{{identity}}/{{id}}"
    add_resource(app, resource, Viewer)
    app.router.add_post(resource + "/layer", choose_layer)
    app.router.add_delete(resource + "/layer", free_layer)
    app.router.add_post(resource + "/sse", events.subscribe)
    app.router.add_get(resource + "/sse/{stream}", events.stream, allow_head=False)
    app.router.add_delete(resource + "/sse/{stream}", events.unsubscribe)
