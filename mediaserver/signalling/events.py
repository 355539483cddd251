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
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.signalling.context import CONTEXT
from mediaserver.signalling.joins import resource_path
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.requests import check_alive, json_body, session_of

NAMES = ("active", "inactive", "layers", "viewercount")
PERIOD = 1.0  # seconds between looks at bitrates and viewers
QUIET = 15  # periods without news after which a comment finds out whether the reader is still there
STREAMS = 4  # event streams of one session, at most
RATE_STEP = 1.25  # a bitrate is told again when it has changed by this factor

State = dict[str, Any]  # {"event": name, "data": JSON}


async def subscribe(request: web.Request) -> web.Response:
    """POST a JSON list of names (none: all of them): 201, and where the stream is."""
    session = session_of(request, Viewer)
    names = await json_body(request) if request.can_read_body else []
    check_alive(request, session)
    if not isinstance(names, list) or not all(name in NAMES for name in names):
        raise Problem(400, f"The body is a list of event names out of {', '.join(NAMES)}.")
    streams = session.streams
    while len(streams) >= STREAMS:
        del streams[next(iter(streams))]
    stream_id = secrets.token_urlsafe(8)
    streams[stream_id] = frozenset(names or NAMES)
    return web.Response(
        status=201, headers={"Location": f"{resource_path(request, 'whep', session.id)}/sse/{stream_id}"}
    )


async def unsubscribe(request: web.Request) -> web.Response:
    """DELETE an event stream; whoever reads it comes to its end."""
    session = session_of(request, Viewer)
    if session.streams.pop(request.match_info["stream"], None) is None:
        raise Problem(404, "There is no such event stream.")
    return web.Response(status=200)


async def stream(request: web.Request) -> web.StreamResponse:
    """GET: the event stream, until the session, the stream or the client ends."""
    session = session_of(request, Viewer)
    stream_id = request.match_info["stream"]
    wanted = session.streams.get(stream_id)
    if wanted is None:
        raise Problem(404, "There is no such event stream.")
    viewer = session.participant
    assert isinstance(viewer, Viewer)
    if len(viewer.listeners) >= STREAMS:
        raise Problem(429, f"{STREAMS} event streams of this session are being read.", headers={"Retry-After": "1"})
    news = asyncio.Event()
    viewer.listeners.add(news)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    try:
        await response.prepare(request)
        sessions = request.app[CONTEXT].sessions
        teller = Teller(viewer, wanted)
        while session.id in sessions.sessions and stream_id in session.streams:
            news.clear()
            if text := teller.news():
                await response.write(text.encode())
            await wait(news)
        await response.write_eof()
    except ConnectionResetError:
        pass
    finally:
        viewer.listeners.discard(news)
    return response


async def wait(news: asyncio.Event) -> None:
    """Until something happens, and at most for a period."""
    try:
        async with asyncio.timeout(PERIOD):
            await news.wait()
    except TimeoutError:
        pass


class Teller:
    """What one reader has been told, and so what is news to it."""

    def __init__(self, viewer: Viewer, wanted: frozenset[str]) -> None:
        self.viewer, self.wanted = viewer, wanted
        self.told: dict[str, State] = {}
        self.quiet = 0

    def news(self) -> str:
        """The events to send now; a comment after a long silence."""
        text = ""
        for key, state in states(self.viewer).items():
            if state["event"] in self.wanted and is_news(state, self.told.get(key)):
                self.told[key] = state
                text += f"event: {state['event']}\ndata: {json.dumps(state['data'])}\n\n"
        self.quiet = 0 if text else self.quiet + 1
        if self.quiet >= QUIET:
            self.quiet, text = 0, ":\n\n"
        return text


def is_news(state: State, told: State | None) -> bool:
    """Whether a state differs by more than a bitrate that moves a little."""
    if told is None or state["event"] != "layers" or without_rates(state) != without_rates(told):
        return state != told
    return any(
        max(now, before) > RATE_STEP * min(now, before) for now, before in zip(rates(state), rates(told), strict=True)
    )


def without_rates(state: State) -> State:
    """The layers of a state without their bitrates."""
    return {
        mid: {**media, "active": [{**layer, "bitrate": 0} for layer in media["active"]]}
        for mid, media in state["data"].items()
    }


def rates(state: State) -> list[int]:
    """All bitrates of a state of layers."""
    return [layer["bitrate"] for media in state["data"].values() for layer in media["active"]]


def states(viewer: Viewer) -> dict[str, State]:
    """What each event would say now. Keys tell apart events of the same name."""
    found = {f"media {one.media.mid}": state_of(one) for one in viewer.subscriptions}
    layers = {
        one.media.mid: describe_layers(one, one.track)
        for one in viewer.subscriptions
        if one.track is not None and one.media.kind == "video"
    }
    found["layers"] = {"event": "layers", "data": layers}
    found["viewercount"] = {"event": "viewercount", "data": {"viewercount": viewer.room.viewer_count(viewer.target)}}
    return found


def state_of(subscription: Subscription) -> State:
    """Whether media flows; with a reason where the publisher is not simply silent, and a notice where it may fail."""
    data = {"mediaId": subscription.media.mid}
    if subscription.state == "active":
        notice = subscription.notice
        return {"event": "active", "data": data | ({"notice": notice} if notice else {})}
    data["state"] = subscription.state
    if subscription.state in ("codec", "full"):
        data["reason"] = subscription.reason
    return {"event": "inactive", "data": data}


def describe_layers(subscription: Subscription, track: Track) -> dict[str, Any]:
    """The layers of a track: those that are being sent, those that are not, and which of them the viewer gets."""
    active = [
        {
            "encodingId": layer.rid or "",
            "width": layer.width,
            "height": layer.height,
            "bitrate": track.meters[layer].bitrate(),
        }
        for layer in track.layers
        if layer.active
    ]
    return {
        "active": active,
        "inactive": [{"encodingId": layer.rid or ""} for layer in track.layers if not layer.active],
        "current": (subscription.layer.rid or "") if subscription.layer is not None else None,
        "wanted": subscription.wanted or "auto",
    }
