"""Other people's clients, each publishing and watching: `make test-peers`. What is seen becomes docs/CLIENTS.md."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.browser import codec as codec_of
from tests.e2e.waiting import eventually
from tests.peers.clients import PUBLISHED, WAIT, WATCHED, Clients, Look, Seen, seen_by
from tests.peers.table import ALIVE, HIGH, LAYERS, Table

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300, func_only=True)]

PICTURES, SOUNDS = 40, 50  # that have to come
SIXTY = 60 * 25  # pictures of the test source in 60 s


def every(clients: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Each client with each of its codecs."""
    return [(client, codec) for client, codecs in clients.items() for codec in codecs]


async def shown(look: Look, what: str, *, pictures: int = PICTURES, seconds: float = WAIT) -> Seen:
    """Wait until so many pictures and some sound came."""
    return await eventually(look, lambda s: s.pictures >= pictures and s.sounds >= SOUNDS, what, seconds=seconds)


@pytest.mark.parametrize("client,codec", every(PUBLISHED))
async def test_chromium_sees_and_hears_what_the_client_publishes(
    clients: Clients, table: Table, room: str, client: str, codec: str
) -> None:
    with table.note((client, codec, "publishes")) as note:
        async with clients.publishing(client, codec, room):
            tab = await clients.tabs.watch(clients.node, room)
            seen = await shown(lambda: seen_by(tab), f"what {client} publishes in {codec}")
            assert codec_of(await tab.watcher()).lower() == f"video/{codec}"
            note.text = seen.text()


@pytest.mark.parametrize("client,codec", every(WATCHED))
async def test_client_sees_and_hears_what_chromium_publishes(
    clients: Clients, table: Table, room: str, client: str, codec: str
) -> None:
    with table.note((client, codec, "watches")) as note:
        await clients.tabs.publish(clients.node, room, codec=codec)
        async with clients.watching(client, codec, room) as look:
            seen = await shown(look, f"{client} watches {codec}")
            assert (seen.width, seen.height) == (320, 180)
            note.text = seen.text()


async def test_gstreamer_is_alive_after_60_seconds_both_ways(clients: Clients, table: Table, room: str) -> None:
    with table.note(ALIVE) as note:
        async with (
            clients.publishing("GStreamer webrtcbin", "vp8", room),
            clients.watching("GStreamer webrtcbin", "vp8", room) as look,
        ):
            seen = await shown(look, "60 s of pictures", pictures=SIXTY, seconds=200)
            note.text = seen.text()


@pytest.mark.parametrize("codec,widths", [("vp8", [320, 640, 1280]), ("vp9", [1280])])
async def test_firefox_publishes_the_layers_that_it_really_encodes(
    clients: Clients, table: Table, room: str, codec: str, widths: list[int]
) -> None:
    """Asked for three layers of VP9 it would encode 320x180 thrice and announce 720p: the page asks it for one."""
    with table.note(LAYERS[codec]) as note:
        await clients.firefox.publish(clients.node, room, codec=codec, simulcast=1, resolution=720)

        async def measured() -> list[int]:
            participant: Any = await clients.node.participant(room, "alice")
            tracks = participant["tracks"] if participant else []
            layers = [layer for track in tracks if track["kind"] == "video" for layer in track["layers"]]
            return sorted(int(layer["width"] or 0) for layer in layers if layer["active"])

        await eventually(measured, lambda found: found == widths, "the layers' sizes", seconds=WAIT)
        tab = await clients.tabs.watch(clients.node, room)
        for layer, width in zip("qhf" if len(widths) > 1 else "f", widths, strict=True):
            if len(widths) > 1:
                await tab.page.evaluate(f"weir.watchers[0].client?.selectLayer('{layer}')")
            await tab.width(lambda found, width=width: found == width, f"{width} pixels", seconds=WAIT)
        note.text = f"Chromium shows each: {', '.join(str(width) for width in widths)} pixels wide"


async def test_h264_high_of_ffmpeg_reaches_a_viewer_that_offers_less(clients: Clients, table: Table, room: str) -> None:
    with table.note(HIGH) as note:
        async with (
            clients.publishing("FFmpeg whip muxer", "h264", room),
            clients.watching("libdatachannel", "h264", room) as look,
        ):
            seen = await shown(look, "High")
            note.text = seen.text()
