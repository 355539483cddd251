"""Server-sent events of a WHEP session (the WHEP extension): active, inactive, layers, viewercount.

A client POSTs the names that it wants, then reads the stream. What it sees is the state of its own subscriptions; a
slow reader gets the newest state, not a queue of old ones.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from aiohttp import web

from mediaserver.rooms.room import Viewer
from mediaserver.signalling.app import CONTEXT, sdp_body, session_of
from mediaserver.signalling.problems import Problem

NAMES = ("active", "inactive", "layers", "viewercount")
PERIOD = 1.0  # seconds between looks at bitrates and viewers
STREAMS = 4  # event streams of one session, at most


async def subscribe(request: web.Request) -> web.Response:
    """POST a JSON list of names: 201, and where the stream is."""
    session = session_of(request, Viewer)
    text = await sdp_body(request, "application/json") if request.can_read_body else "[]"
    try:
        names = json.loads(text)
    except ValueError as error:
        raise Problem(400, f"The body is not JSON: {error}.") from error
    if not isinstance(names, list) or not all(name in NAMES for name in names):
        raise Problem(400, f"The body is a list of event names out of {', '.join(NAMES)}.")
    streams = session.streams
    while len(streams) >= STREAMS:
        del streams[next(iter(streams))]
    stream_id = secrets.token_urlsafe(8)
    streams[stream_id] = frozenset(names or NAMES)
    return web.Response(status=201, headers={"Location": f"{request.path}/{stream_id}"})


def states(viewer: Viewer) -> dict[str, dict[str, Any]]:
    """What each event would say now: key -> {event, data}. Keys tell apart events of the same name."""
    found: dict[str, dict[str, Any]] = {}
    layers: dict[str, Any] = {}
    for subscription in viewer.subscriptions:
        mid = subscription.media.mid
        if subscription.state == "active":
            found[mid] = {"event": "active", "data": {"mediaId": mid}}
        else:
            data = {"mediaId": mid, "reason": subscription.reason, "state": subscription.state}
            found[mid] = {"event": "inactive", "data": data}
        track = subscription.track
        if track is None or subscription.media.kind != "video":
            continue
        described = [
            {
                "encodingId": layer.rid or "",
                "width": layer.width,
                "height": layer.height,
                "bitrate": track.meters[layer].bitrate() // 10_000 * 10_000,
                "active": layer.active,
            }
            for layer in track.layers
        ]
        layers[mid] = {
            "active": [one for one in described if one["active"]],
            "inactive": [{"encodingId": one["encodingId"]} for one in described if not one["active"]],
            "current": (subscription.layer.rid or "") if subscription.layer is not None else None,
            "wanted": subscription.wanted or "auto",
        }
    found["layers"] = {"event": "layers", "data": layers}
    found["viewercount"] = {"event": "viewercount", "data": {"viewercount": len(viewer.room.viewers_of(viewer.target))}}
    return found


async def stream(request: web.Request) -> web.StreamResponse:
    """GET: the event stream, until the session or the client ends."""
    session = session_of(request, Viewer)
    wanted = session.streams.get(request.match_info["stream"])
    if wanted is None:
        raise Problem(404, "There is no such event stream.")
    viewer = session.participant
    assert isinstance(viewer, Viewer)
    sessions = request.app[CONTEXT].sessions
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    origin = request.headers.get("Origin")
    allowed = request.app[CONTEXT].config.http.cors_origins
    if origin is not None and ("*" in allowed or origin in allowed):
        response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    await response.prepare(request)
    sent: dict[str, dict[str, Any]] = {}
    news = asyncio.Event()
    viewer.listeners.add(news)
    try:
        while session.id in sessions.sessions:
            news.clear()
            for key, state in states(viewer).items():
                if state["event"] in wanted and sent.get(key) != state:
                    sent[key] = state
                    text = f"event: {state['event']}\ndata: {json.dumps(state['data'])}\n\n"
                    await response.write(text.encode())
            try:
                async with asyncio.timeout(PERIOD):
                    await news.wait()
            except TimeoutError:
                continue
    except (ConnectionResetError, asyncio.CancelledError):
        return response
    finally:
        viewer.listeners.discard(news)
    await response.write_eof()
    return response
