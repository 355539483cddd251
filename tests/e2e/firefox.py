"""Debian's Firefox, driven by WebDriver BiDi over its own WebSocket: no driver program, which Debian has none of.

A page of it offers what `Tab` wants of a Chromium page, so that the same questions are asked of both browsers. The
profile is made anew for each run; the camera is Firefox's fake one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.e2e.browser import Tab
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,
    "permissions.default.camera": 1,  # granted; who has no permission is given the default route's address alone,
    "permissions.default.microphone": 1,  # and from that no path leads to 127.0.0.1
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.gmp-manager.updateEnabled": False,  # asks a server outside for codecs
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,  # WebDriver BiDi
}
START = 60.0  # seconds until it listens: the first start fills a profile, beside a busy neighbour
PATIENCE = 60.0  # seconds for the answer to a command
LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
WRAPPED = "async (text) => JSON.stringify((await ({})(...JSON.parse(text))) ?? null)"


class FirefoxError(Exception):
    """Firefox refused a command, or a script of the page threw."""


class Firefox:
    """One process with one session; an asynchronous context. `version` is what it calls itself."""

    def __init__(self, folder: Path, **preferences: object) -> None:
        self.folder, self.preferences = folder / "firefox", PREFERENCES | preferences
        self.version = ""
        self.tabs: list[Tab] = []
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Firefox:
        self.folder.mkdir()
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in self.preferences.items()]
        (self.folder / "user.js").write_text("\n".join(lines))
        self._start()
        try:
            await self._connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End the session, then the process; by SIGKILL when it does not end by itself."""
        if hasattr(self, "_reader"):
            with contextlib.suppress(FirefoxError, TimeoutError, ConnectionError, aiohttp.ClientError):
                await asyncio.wait_for(self.command("browser.close"), 10)
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            await self._socket.close()
        if hasattr(self, "_http"):
            await self._http.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, 10)
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _start(self) -> None:
        program = shutil.which("firefox-esr") or shutil.which("firefox")
        assert program, "Firefox is not installed: `make firefox`"
        arguments = [
            program,
            "--headless",
            "--no-remote",
            "--profile",
            str(self.folder),
            "--remote-debugging-port",
            "0",
        ]
        self._log = (self.folder / "log.txt").open("wb")
        self._process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log)

    async def _connect(self) -> None:
        async def address() -> str:
            assert self._process.poll() is None, f"Firefox ended with {self._process.returncode}: {self.log()}"
            found = LISTENING.search(self.log())
            return found[1] if found else ""

        base = await eventually(address, bool, "Firefox listens", seconds=START)
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(f"{base}/session", max_msg_size=0)
        self._reader = asyncio.get_running_loop().create_task(self._read())
        told = await self.command("session.new", capabilities={})
        self.version = str(told["capabilities"]["browserVersion"])

    def log(self) -> str:
        """What the process wrote."""
        return (self.folder / "log.txt").read_text(errors="replace")

    async def command(self, method: str, **params: object) -> Any:
        """The result of a command (WebDriver BiDi section 3.4). FirefoxError: it failed."""
        self._last += 1
        number = self._last
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        return await asyncio.wait_for(self._waiting[number], PATIENCE)

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            future = self._waiting.pop(told.get("id") or 0, None)
            if future is None or future.done():
                continue
            if told["type"] == "success":
                future.set_result(told["result"])
            else:
                future.set_exception(FirefoxError(f"{told.get('error')}: {told.get('message')}"))
        for future in self._waiting.values():
            future.cancel()

    async def open(self, node: Node, **query: object) -> Tab:
        """The node's page with a query, in a tab of its own."""
        opened = await self.command("browsingContext.create", type="tab")
        page = FirefoxPage(self, opened["context"])
        await page.goto(f"{node.base}/?{urlencode(query)}")
        tab = Tab(page)  # type: ignore[arg-type]  # as much of a page as `Tab` uses
        self.tabs.append(tab)
        return tab

    async def publish(
        self, node: Node, room: str, identity: str = "alice", *, codec: str = "vp8", simulcast: int = 0, **more: object
    ) -> Tab:
        """Publish the fake camera and microphone and wait until frames leave."""
        named: dict[str, object] = {"publish": "camera", "codec": codec, "simulcast": simulcast, "resolution": 180}
        tab = await self.open(node, room=room, identity=identity, **(named | more))
        await tab.press()
        await tab.on_air(seconds=40)
        return tab

    async def watch(self, node: Node, room: str, identity: str = "alice", **more: object) -> Tab:
        """Watch a participant; does not wait for a picture."""
        return await self.open(node, room=room, watch=identity, **more)

    async def close_tabs(self) -> None:
        """Leave all pages; they end their sessions."""
        for tab in self.tabs:
            await tab.close()
        self.tabs.clear()


class FirefoxPage:
    """One tab."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self.firefox, self._id = firefox, context
        self.context = self  # Tab closes a page by its context

    async def goto(self, url: str) -> None:
        """Load a page and wait until it is there."""
        await self.firefox.command("browsingContext.navigate", context=self._id, url=url, wait="complete")

    async def evaluate(self, script: str, argument: Any = None) -> Any:
        """What a function of the page gives; an expression is taken for a function without arguments."""
        function = script if re.match(r"\s*(async\b|\()", script) else f"async () => ({script})"
        told = await self.firefox.command(
            "script.callFunction",
            functionDeclaration=WRAPPED.format(function),
            arguments=[{"type": "string", "value": json.dumps([] if argument is None else [argument])}],
            target={"context": self._id},
            awaitPromise=True,
        )
        if told["type"] == "exception":
            raise FirefoxError(told["exceptionDetails"]["text"])
        return json.loads(told["result"]["value"])

    async def click(self, selector: str) -> None:
        """Press the element with the mouse once it is there."""

        async def find() -> list[dict[str, Any]]:
            locator = {"type": "css", "value": selector}
            found = await self.firefox.command("browsingContext.locateNodes", context=self._id, locator=locator)
            return list(found["nodes"])

        [node, *_] = await eventually(find, bool, f"{selector} on the page")
        await self.firefox.command("browsingContext.activate", context=self._id)
        origin = {"type": "element", "element": {"sharedId": node["sharedId"]}}
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": origin}
        press = [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move, *press]}
        await self.firefox.command("input.performActions", context=self._id, actions=[mouse])

    async def close(self) -> None:
        """Leave the page."""
        with contextlib.suppress(FirefoxError):
            await self.firefox.command("browsingContext.close", context=self._id)
