"""Choosing layers and listening to events by the WHEP extensions, against peers that really send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mediaserver.signalling import events as stream_module
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import VP8_TYPE, Joined, Running, token

JSON = {"Content-Type": "application/json"}


class Reader:
    """An event stream being read: the events so far."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.events: list[tuple[str, Any]] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        name = ""
        async for line in self.response.content:
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                self.events.append((name, json.loads(value)))

    def last(self, name: str) -> Any:
        """The newest data of an event; None before there is one."""
        return next((data for event, data in reversed(self.events) if event == name), None)

    def of(self, name: str, mid: str) -> Any:
        """The newest data of an event about a media section."""
        return next((d for event, d in reversed(self.events) if event == name and d.get("mediaId") == mid), None)


@asynccontextmanager
async def events(node: Running, viewer: Joined, *names: str) -> AsyncIterator[Reader]:
    status, headers, _ = await node.ask("POST", f"{viewer.location}/sse", data=json.dumps(names), headers=JSON)
    assert status == 201
    async with node.http.get(
        headers["Location"], headers={"Origin": "https://a.example"} | token("lobby", None)
    ) as response:
        assert response.status == 200 and response.content_type == "text/event-stream"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        reader = Reader(response)
        yield reader
        reader.task.cancel()


async def test_events_tell_what_flows_and_who_watches(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice")
    async with events(node, viewer) as reader:
        await until(lambda: reader.of("inactive", "1"))
        assert "reason" not in reader.of("inactive", "1") and reader.last("viewercount") == {"viewercount": 1}
        publisher = await node.join("/whip/lobby/alice")
        publisher.send_video(size=(320, 180))
        await until(lambda: reader.of("active", "1"))
        await until(lambda: (reader.last("layers") or {}).get("1", {}).get("current") == "")
        (layer,) = reader.last("layers")["1"]["active"]
        assert (layer["encodingId"], layer["width"], layer["height"]) == ("", 320, 180)
        await node.join("/whep/lobby/alice", connect=False)
        await until(lambda: reader.last("viewercount") == {"viewercount": 2})
        seen = len(reader.events)
        assert (await node.ask("DELETE", publisher.location))[0] == 200
        await until(lambda: ("inactive", "1") in [(e, d.get("mediaId")) for e, d in reader.events[seen:]])


async def test_stream_ends_with_its_session(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "PERIOD", 60.0)  # so that nothing but the end itself wakes it
    viewer = await node.join("/whep/lobby/alice", connect=False)
    async with events(node, viewer) as reader:
        await until(lambda: reader.events)
        assert (await node.ask("DELETE", viewer.location))[0] == 200
        await asyncio.wait_for(reader.task, 5)


async def test_codec_that_the_viewer_lacks_pauses_the_track_visibly(
    node: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    viewer = await node.join(
        "/whep/lobby/alice", change=lambda sdp: sdp.replace(f"{VP8_TYPE} VP8/", f"{VP8_TYPE} VP9/")
    )
    publisher = await node.join("/whip/lobby/alice")
    async with events(node, viewer, "active", "inactive") as reader:
        publisher.send_video()
        await until(lambda: (reader.of("inactive", "1") or {}).get("reason"))
        assert "VP8" in reader.of("inactive", "1")["reason"]
        assert await node.metric("weir_subscriptions_paused") == 1
        assert not viewer.packets


async def test_streams_and_names_are_checked(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice", connect=False)
    url = f"{viewer.location}/sse"
    for body in ('["unheard-of"]', "{}", "x", "[" * 100_000, "[[]]", "[1]"):
        await node.refused(400, "POST", url, data=body, headers=JSON)
    await node.refused(415, "POST", url, data="[]", headers={"Content-Type": "text/plain"})
    await node.refused(404, "GET", url + "/nobody")
    await node.refused(404, "DELETE", url + "/nobody")
    _, headers, _ = await node.ask("POST", url, data="[]", headers=JSON)
    first = headers["Location"]
    for _ in range(4):
        await node.ask("POST", url, data="[]", headers=JSON)
    await node.refused(404, "GET", first)


async def test_stream_ends_when_it_is_deleted_and_readers_are_bounded(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice", connect=False)
    _, headers, _ = await node.ask("POST", f"{viewer.location}/sse", data="[]", headers=JSON)
    url = headers["Location"]
    readers = [Reader(await node.http.get(url)) for _ in range(4)]
    await until(lambda: all(reader.events for reader in readers))
    await node.refused(429, "GET", url)
    assert (await node.ask("DELETE", url))[0] == 200
    await asyncio.wait_for(asyncio.gather(*(reader.task for reader in readers)), 5)


LAYER_ERRORS: list[tuple[Any, int]] = [
    ("x", 400),
    ([], 400),
    ({"encodingId": 5}, 400),
    ({"encodingId": "x" * 17}, 400),
    ({"maxSpatialLayerId": -1}, 400),
    ({"maxTemporalLayerId": True}, 400),
    ({"mediaId": "9"}, 404),
    ({"mediaId": ["1"]}, 404),
]


@pytest.mark.parametrize(("body", "status"), LAYER_ERRORS)
async def test_bad_layer_choice_is_refused(node: Running, body: Any, status: int) -> None:
    viewer = await node.join("/whep/lobby/alice", connect=False)
    await node.refused(status, "POST", f"{viewer.location}/layer", data=json.dumps(body), headers=JSON)


async def test_layer_that_the_track_has_not_is_404_and_known_ones_are_taken(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice", connect=False)
    url = f"{viewer.location}/layer"
    assert (await node.ask("POST", url, data='{"encodingId": "h"}', headers=JSON))[0] == 200, "no publisher yet"
    await node.join("/whip/lobby/alice")
    _, problem = await node.refused(404, "POST", url, data='{"encodingId": "h"}', headers=JSON)
    assert "'h'" in problem["detail"]
    limits = {"mediaId": "1", "encodingId": "auto", "maxTemporalLayerId": 1}
    assert (await node.ask("POST", url, data=json.dumps(limits), headers=JSON))[0] == 200
    session = next(s for s in node.node.sessions.sessions.values() if s.id == viewer.location.rsplit("/", 1)[1])
    _, video = session.participant.subscriptions  # type: ignore[union-attr]
    await until(lambda: int(video.engine.record.max_temporal) == 1)
    assert (await node.ask("DELETE", url))[0] == 200
    await until(lambda: int(video.engine.record.max_temporal) == 255)
