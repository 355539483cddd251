"""Chromium with a page of another origin open, beside a node that asks for no token: the page gets nothing from it.

The stranger's page is on this machine too, under another port of the same name, and under another name; the node's own
page is opened with the policy that it ships, which the other tests switch off.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.e2e.node import Json, Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
NAMES = ["localhost", "127.0.0.1"]
SPY = """
window.captured = 0;
for (const name of ['getUserMedia', 'getDisplayMedia']) {
  const real = navigator.mediaDevices?.[name].bind(navigator.mediaDevices);
  if (real) navigator.mediaDevices[name] = (...given) => { window.captured++; return real(...given); };
}
"""
# What a script of the page could do by itself: tests can't, because whatever they evaluate counts as a press.
TRY = """
addEventListener('load', async () => {
  if (!document.querySelector('#publish')) return;
  const media = await import(new URL('capture/media.js', document.baseURI).href);
  const said = await media.capture({source: 'camera'}).then(() => 'captured', error => error.title);
  console.log('tried: ' + said + ' ' + captured);
});
"""
ASK = """async ([url, method, body, type]) => {
  try {
    const headers = type ? {'Content-Type': type} : {};
    const response = await fetch(url, {method, headers, body: body ?? undefined});
    return {status: response.status, text: await response.text()};
  } catch (error) { return {error: String(error)}; }
}"""
OFFER = """async direction => {
  const pc = new RTCPeerConnection();
  pc.addTransceiver('video', {direction});
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}"""


class Stranger(http.server.BaseHTTPRequestHandler):
    """The stranger's server: one empty page for every path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>prizes</title><button>win</button>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """The port of a server of strangers' pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dev(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node as for development: no token for this machine; even where a star stands in cors_origins."""
    folder: Path = tmp_path_factory.mktemp("dev")
    auth = {"required": True, "loopback_without_token": True}
    async with Node(folder, auth=auth, http={"cors_origins": ["*"]}) as running:
        yield running
        await running.stop()
        assert not running.errors(), running.errors()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page whose policy counts, and that notes every capture."""
    context = await browser.new_context()
    await context.add_init_script(SPY)
    yield await context.new_page()
    await context.close()


async def publishers(node: Node) -> list[str]:
    return [one["identity"] for room in (await node.rooms()).values() for one in room["participants"]]


@pytest.mark.parametrize("theirs", NAMES)
@pytest.mark.parametrize("ours", NAMES)
async def test_foreign_page_can_t_list_publish_watch_or_delete(
    dev: Node, page: Page, stranger: int, ours: str, theirs: str
) -> None:
    base = f"http://{ours}:{dev.http_port}"
    await page.goto(f"http://{theirs}:{stranger}/")
    offer = await page.evaluate(OFFER, "sendonly")
    headers = {"Content-Type": "application/sdp"}
    async with dev.http.post("/whip/r/victim", data=offer, headers=headers) as response:
        assert response.status == 201, "a program of this machine"
        session = response.headers["Location"]
    watching = await page.evaluate(OFFER, "recvonly")
    asked: list[tuple[str, str, str | None, str | None]] = [
        ("/api/rooms", "GET", None, None),
        ("/metrics", "GET", None, None),
        ("/whip/r/evil", "POST", offer, "application/sdp"),
        ("/whip/r/evil", "POST", offer, "text/plain"),
        ("/whep/r/victim", "POST", watching, "application/sdp"),
        (session, "PATCH", "a=x\r\n", "application/trickle-ice-sdpfrag"),
        (session, "DELETE", None, None),
    ]
    for path, method, body, kind in asked:
        found: Json = await page.evaluate(ASK, [base + path, method, body, kind])
        assert "error" in found or found["status"] == 401, (path, found)
        assert "victim" not in str(found)
    async with dev.http.delete(session) as response:
        assert response.status == 200, "it is still there"
    evil = [line for line in dev.log() if line["message"] == "joined" and line["participant"] != "victim"]
    assert not evil


async def test_link_captures_nothing_before_a_press_on_our_page(dev: Node, page: Page, stranger: int) -> None:
    link = f"{dev.base}/?room=r&identity=operator&publish=camera&simulcast=0&resolution=180"
    said: list[str] = []
    page.context.on("console", lambda message: said.append(message.text))
    await page.context.add_init_script(TRY)
    await page.goto(f"http://localhost:{stranger}/")
    await page.evaluate("link => document.querySelector('button').onclick = () => open(link)", link)
    async with page.context.expect_page() as opening:
        await page.click("button")
    ours = await opening.value

    async def heard() -> list[str]:  # and nothing is asked of the page before
        return [line for line in said if line.startswith("tried")]

    assert await eventually(heard, bool, "what a script gets by itself") == ["tried: A press is needed 0"]
    errors: list[str] = []
    ours.on("pageerror", lambda error: errors.append(str(error)))
    await ours.wait_for_selector("#asked:not([hidden])")
    assert await ours.evaluate("weir.publishers.length") == 0 and await ours.evaluate("captured") == 0
    assert await ours.evaluate("window.opener") is None
    assert await publishers(dev) == []
    await ours.click("#publish button.primary:not([aria-disabled])")

    async def sent() -> list[str]:
        return await publishers(dev)

    await eventually(sent, lambda names: names == ["operator"], "on air after a press on the node's own page")
    assert await ours.evaluate("captured") == 1 and not errors
    assert not [line for line in said if "Content Security Policy" in line]
    await ours.close()
    await eventually(sent, lambda names: not names, "off air")


async def test_node_s_page_is_not_shown_in_a_frame(dev: Node, page: Page, stranger: int) -> None:
    await page.goto(f"http://127.0.0.1:{stranger}/")
    await page.evaluate(
        """url => new Promise(done => {
          const frame = document.createElement('iframe');
          frame.onload = done;
          frame.src = url;
          document.body.append(frame);
        })""",
        f"{dev.base}/",
    )
    titles = [await frame.title() for frame in page.frames if frame is not page.main_frame]
    assert "Weir" not in titles


async def test_page_works_below_a_path(page: Page, tmp_path: Path) -> None:
    async with Node(tmp_path, http={"base_path": "/some/path"}) as node:
        failed: list[str] = []
        page.on(
            "response",
            lambda answer: (
                failed.append(answer.url) if answer.status >= 400 and answer.request.method != "DELETE" else None
            ),
        )
        query = "room=r&identity=ann&publish=camera&simulcast=0&resolution=180&watch=ann"
        await page.goto(f"{node.base}/some/path?{query}")
        assert page.url.startswith(f"{node.base}/some/path/?")
        await page.click("#publish button.primary:not([aria-disabled])")

        async def seen() -> int:
            found: int = await page.evaluate(
                """async () => {
                  const pc = weir.watchers[0]?.pc;
                  const all = pc ? [...(await pc.getStats()).values()] : [];
                  return all.find(s => s.type === 'inbound-rtp' && s.kind === 'video')?.framesDecoded ?? 0;
                }"""
            )
            return found

        await eventually(seen, lambda frames: frames > 10, "the picture that the same page sends")
        await page.click("button[aria-label='Stop watching']")
        await page.click("button[aria-label='Stop publishing']")

        async def rooms() -> dict[str, Json]:
            return await node.rooms()

        await eventually(rooms, lambda found: not found, "both sessions ended by their own addresses")
        assert not failed
