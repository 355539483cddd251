"""The clients, each behind the same two questions: publish this codec here, watch that there.

What publishes is an asynchronous context that ends with the session; what watches gives a function besides, which
tells what has been seen so far.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiortc
import av

from tests.e2e.aiortc_peer import Client
from tests.e2e.browser import Tab, Tabs, got
from tests.e2e.firefox import Firefox
from tests.e2e.foreign import Foreign
from tests.e2e.node import HOST, Node
from tests.peers.media import RtpSink, RtpSource

HERE = Path(__file__).parent
E2E = HERE.parent / "e2e"
STR0M = HERE.parents[1] / ".venv" / "var" / "str0m" / "debug" / "weir-peer-str0m"
DEBIAN_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings
WAIT = 60.0  # seconds for what takes two on an idle machine

# Which codecs each can send, and which it can take.
PUBLISHED = {
    "Chromium": ("vp8", "vp9", "av1", "h264"),
    "Firefox": ("vp8", "vp9", "av1"),  # H.264 only with a plugin that it loads from its maker
    "GStreamer webrtcbin": ("vp8", "vp9", "h264"),
    "libdatachannel": ("vp8", "vp9", "av1", "h264"),
    "werift": ("vp8", "vp9", "av1", "h264"),
    "str0m": ("vp8", "vp9", "av1", "h264"),
    "@roamhq/wrtc": ("vp8", "vp9"),
    "FFmpeg whip muxer": ("h264",),
    "aiortc": ("vp8", "h264"),
}
WATCHED = {client: codecs for client, codecs in PUBLISHED.items() if client != "FFmpeg whip muxer"}
WITHOUT_CODECS = ("libdatachannel", "werift", "str0m")


@dataclass(frozen=True)
class Seen:
    """What was shown so far: the last picture's size in pixels, how many pictures, how many packets of sound."""

    width: int = 0
    height: int = 0
    pictures: int = 0
    sounds: int = 0
    dropped: int = 0  # pictures that were decoded and not shown, or not decoded
    lost: int = 0  # packets of the picture

    def text(self) -> str:
        """For the table."""
        faults = [f"{n} {what}" for n, what in ((self.dropped, "pictures dropped"), (self.lost, "packets lost")) if n]
        return ", ".join([f"{self.width}×{self.height}", f"{self.pictures} pictures", *faults, "sound"])


Look = Callable[[], Awaitable[Seen]]


async def seen_by(tab: Tab) -> Seen:
    """What a browser's page shows."""
    stats = await tab.watcher()
    names = ("frameWidth", "frameHeight", "framesDecoded")
    width, height, pictures = (got(stats, name) for name in names)
    sounds = got(stats, "packetsReceived", "audio")
    return Seen(width, height, pictures, sounds, got(stats, "framesDropped"), got(stats, "packetsLost"))


def debian(package: str) -> str:
    """The version of an installed package."""
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class Clients:
    """All of them, beside one node."""

    def __init__(self, node: Node, tabs: Tabs, firefox: Firefox, folder: Path) -> None:
        self.node, self.tabs, self.firefox, self.folder = node, tabs, firefox, folder
        self.versions: dict[str, str] = {}

    def command(self, client: str, what: str, room: str, codec: str) -> list[str]:
        """The program of a client in a process of its own."""
        url = f"{self.node.base}/{'whip' if what == 'publish' else 'whep'}/{room}/alice"
        if client == "GStreamer webrtcbin":
            return [DEBIAN_PYTHON, str(E2E / "gstreamer_peer.py"), what, url, codec, "--address", HOST]
        if client == "str0m":
            return [str(STR0M), what, url, codec]
        return ["node", str(HERE / "node" / f"{client.removeprefix('@roamhq/')}.mjs"), what, url, codec]

    @asynccontextmanager
    async def publishing(self, client: str, codec: str, room: str) -> AsyncIterator[None]:
        """Publish as alice in a room."""
        async with AsyncExitStack() as stack:
            if client == "Chromium":
                self.versions[client] = self.tabs.browser.version
                await self.tabs.publish(self.node, room, codec=codec)
            elif client == "Firefox":
                self.versions[client] = self.firefox.version
                await self.firefox.publish(self.node, room, codec=codec)
            elif client == "aiortc":
                self.versions[client] = aiortc.__version__
                peer = await stack.enter_async_context(Client(self.node.base, f"/whip/{room}/alice"))
                await peer.publish(f"video/{codec.upper()}")
                stack.push_async_callback(peer.leave)
            elif client == "FFmpeg whip muxer":
                self.versions[client] = f"{av.ffmpeg_version_info}, x264, profile High"
                await stack.enter_async_context(self._ffmpeg(room))
            else:
                await stack.enter_async_context(self._foreign(client, codec, room))
            yield

    @asynccontextmanager
    async def _ffmpeg(self, room: str) -> AsyncIterator[None]:
        url, program = f"{self.node.base}/whip/{room}/alice", str(E2E / "ffmpeg_publisher.py")
        async with Foreign(sys.executable, program, url, "60", str(self.folder), "high"):
            yield

    @asynccontextmanager
    async def _foreign(self, client: str, codec: str, room: str) -> AsyncIterator[None]:
        async with Foreign(*self.command(client, "publish", room, codec)) as peer:
            await peer.connected()
            self._told(client, peer)
            if client not in WITHOUT_CODECS:
                yield
                return
            await peer.until(lambda it: "listening" in it.events, f"{client} takes media")
            sending = asyncio.create_task(RtpSource(codec, peer.events["listening"]).run())
            try:
                yield
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _told(self, client: str, peer: Foreign) -> None:
        version = peer.version.removeprefix(client).strip()
        if client == "GStreamer webrtcbin":
            version = f"{version.removeprefix('GStreamer').strip()}, libnice {debian('libnice10')}"
        self.versions[client] = version

    @asynccontextmanager
    async def watching(self, client: str, codec: str, room: str) -> AsyncIterator[Look]:
        """Watch alice in a room."""
        async with AsyncExitStack() as stack:
            if client in ("Chromium", "Firefox"):
                opener = self.tabs if client == "Chromium" else self.firefox
                tab = await opener.watch(self.node, room)
                yield lambda: seen_by(tab)
            elif client == "aiortc":
                yield await stack.enter_async_context(self._aiortc_watches(room))
            else:
                yield await stack.enter_async_context(self._foreign_watches(client, codec, room))

    @asynccontextmanager
    async def _aiortc_watches(self, room: str) -> AsyncIterator[Look]:
        async with Client(self.node.base, f"/whep/{room}/alice") as peer:
            await peer.watch()

            async def look() -> Seen:
                width, height = max(peer.sizes, default=(0, 0))
                return Seen(width, height, peer.frames["video"], peer.frames["audio"])

            yield look
            await peer.leave()

    @asynccontextmanager
    async def _foreign_watches(self, client: str, codec: str, room: str) -> AsyncIterator[Look]:
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(RtpSink(codec))
            own = client not in WITHOUT_CODECS
            arguments = [*self.command(client, "watch", room, codec), *([] if own else sink.ports)]
            peer = await stack.enter_async_context(Foreign(*arguments))
            await peer.connected()
            self._told(client, peer)

            async def look() -> Seen:
                assert peer.process.returncode is None, f"{client} ended: {peer.tail()}"
                if own:
                    size = peer.figure("video", "width"), peer.figure("video", "height")
                    return Seen(*size, peer.figure("video", "frames"), peer.figure("audio", "packets"))
                return Seen(*sink.video.size, sink.video.decoder.frames, sink.audio.decoder.frames)

            yield look
