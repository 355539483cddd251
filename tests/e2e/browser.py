"""Chromium as the visitors' browser: one process per test session, a context of its own for each page.

Pages are opened by the address that the page itself documents (app.js), so what is tested is what people use. A script
error on any page fails the test that opened it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.async_api import Browser, Page, Playwright, Request, Route

from tests.e2e.node import Node
from tests.e2e.waiting import eventually

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=device-count=3",
    "--autoplay-policy=no-user-gesture-required",
]
Stats = dict[str, Any]

# The streams of a connection as getStats tells them, video and audio apart.
STREAMS = """async ([list, index]) => {
  const pc = weir[list][index]?.pc;
  const all = pc ? [...(await pc.getStats()).values()] : [];
  const type = list === 'watchers' ? 'inbound-rtp' : 'outbound-rtp';
  const of = kind => all.filter(s => s.type === type && s.kind === kind);
  const pair = all.find(s => s.type === 'candidate-pair' && s.nominated && s.state === 'succeeded');
  return {
    state: weir[list][index]?.state ?? null, connection: pc?.connectionState ?? null,
    video: of('video'), audio: of('audio'),
    codecs: Object.fromEntries(all.filter(s => s.type === 'codec').map(s => [s.id, s.mimeType])),
    available: pair?.availableOutgoingBitrate ?? 0,
    problem: weir[list][index]?.problem ? String(weir[list][index].problem) : null,
  };
}"""

# A camera that shows the time: 16 squares, black or white, for the bits of milliseconds / 16.
CLOCK_CAMERA = """
navigator.mediaDevices.getUserMedia = async ({audio, video}) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [320, 320];
  const context = canvas.getContext('2d');
  setInterval(() => {
    const now = Math.floor(Date.now() / 16) & 0xFFFF;
    for (let bit = 0; bit < 16; bit++) {
      context.fillStyle = now >> bit & 1 ? '#fff' : '#000';
      context.fillRect(bit % 4 * 80, (bit >> 2) * 80, 80, 80);
    }
  }, 33);
  return canvas.captureStream(30);
};
"""
# How many milliseconds ago the picture on show was taken; null before there is one.
CLOCK_AGE = """() => {
  const video = document.querySelector('.tile video');
  if (!video?.videoWidth) return null;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [320, 320];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(video, 0, 0, 320, 320);
  const now = Math.floor(Date.now() / 16) & 0xFFFF;
  let shown = 0;
  for (let bit = 0; bit < 16; bit++)
    if (context.getImageData(bit % 4 * 80 + 40, (bit >> 2) * 80 + 40, 1, 1).data[0] > 127) shown |= 1 << bit;
  return 16 * (now - shown & 0xFFFF);
}"""


async def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium with a fake camera and microphone."""
    path = next(
        p
        for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("google-chrome"))
        if p and Path(p).exists()
    )
    return await playwright.chromium.launch(executable_path=path, args=FLAGS)


class Tab:
    """A page of the node in a context of its own."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def publisher(self, index: int = 0) -> Stats:
        """State and outgoing streams of what the page publishes."""
        found: Stats = await self.page.evaluate(STREAMS, ["publishers", index])
        return found

    async def watcher(self, index: int = 0) -> Stats:
        """State and incoming streams of what the page watches."""
        found: Stats = await self.page.evaluate(STREAMS, ["watchers", index])
        return found

    async def press(self) -> None:
        """Press the button that publishes, as a visitor has to."""
        await self.page.click("#publish button.primary:not([aria-disabled])")

    async def on_air(self, *, seconds: float = 40) -> Stats:
        """Wait until the page publishes and frames are encoded."""
        return await eventually(
            self.publisher,
            lambda s: sent(s, "framesEncoded") > 0 or (s["audio"] and not s["video"]),
            "on air",
            seconds=seconds,
        )

    async def frames(self, more: int = 20, *, index: int = 0, seconds: float = 40) -> Stats:
        """Wait until so many more frames are decoded than now."""

        async def read() -> Stats:
            return await self.watcher(index)

        before = got(await read(), "framesDecoded")
        what = f"{more} more frames than {before}"
        return await eventually(read, lambda s: got(s, "framesDecoded") >= before + more, what, seconds=seconds)

    async def width(self, accept: Callable[[int], bool], what: str, *, seconds: float = 40) -> Stats:
        """Wait until the decoded picture's width is accepted."""
        return await eventually(self.watcher, lambda s: accept(got(s, "frameWidth")), what, seconds=seconds)

    async def close(self) -> None:
        """Leave the page as a visitor does: it ends its sessions."""
        await self.page.context.close()


def got(stats: Stats, key: str, kind: str = "video") -> int:
    """A figure of the incoming stream; 0 before there is one."""
    return int(stats[kind][0].get(key) or 0) if stats[kind] else 0


def sent(stats: Stats, key: str, kind: str = "video") -> int:
    """A figure summed over the outgoing streams."""
    return sum(int(s.get(key) or 0) for s in stats[kind])


def codec(stats: Stats, kind: str = "video") -> str:
    """The MIME type of a stream."""
    return str(stats["codecs"].get(stats[kind][0].get("codecId"), ""))


class Tabs:
    """Opens the pages of one test and closes them after it."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.tabs: list[Tab] = []
        self.script_errors: list[str] = []

    async def open(
        self,
        node: Node,
        *,
        via: int | None = None,
        script: str = "",
        width: int = 1280,
        token: str = "",
        **query: object,
    ) -> Tab:
        """The node's page with a query; `via` is a UDP port that stands in for the node's, `script` runs before it."""
        context = await self.browser.new_context(bypass_csp=True, viewport={"width": width, "height": 844})
        page = await context.new_page()
        page.on("pageerror", lambda error: self.script_errors.append(str(error)))
        if script:
            await page.add_init_script(script)
        if via is not None:
            await page.route(re.compile(r"/wh[ie]p/"), through(node.udp_port, via))
        named = {key: value for key, value in query.items() if value is not None}
        if token:
            named["token"] = token
        await page.goto(f"{node.base}/?{urlencode(named)}")
        tab = Tab(page)
        self.tabs.append(tab)
        return tab

    async def publish(
        self,
        node: Node,
        room: str,
        identity: str = "alice",
        *,
        codec: str = "vp8",
        simulcast: int = 0,
        resolution: int = 180,
        **more: Any,
    ) -> Tab:
        """Publish the camera and wait until frames leave. 180 lines need no ramping up, and little of the machine."""
        tab = await self.open(
            node,
            room=room,
            identity=identity,
            publish="camera",
            codec=codec,
            simulcast=simulcast,
            resolution=resolution,
            **more,
        )
        await tab.press()
        await tab.on_air()
        return tab

    async def watch(self, node: Node, room: str, identity: str = "alice", **more: Any) -> Tab:
        """Watch a participant; does not wait for a picture."""
        return await self.open(node, room=room, watch=identity, **more)

    async def close(self) -> None:
        """Close all pages. AssertionError when a script failed on one."""
        for tab in self.tabs:
            await tab.close()
        assert not self.script_errors


def through(port: int, via: int) -> Callable[[Route, Request], Any]:
    """A route handler that puts another UDP port into the node's answers."""

    async def handle(route: Route, request: Request) -> None:
        if request.method != "POST" or request.headers.get("content-type") != "application/sdp":
            await route.continue_()
            return
        response = await route.fetch()
        body = re.sub(rf"(a=candidate:.*) {port} typ", rf"\1 {via} typ", await response.text())
        await route.fulfill(response=response, body=body)

    return handle
