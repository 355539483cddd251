"""The WHIP/WHEP driver against HTTP servers that do as they please."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web

from loadtest.drivers.base import Driver, DriverError
from loadtest.drivers.tokens import minted
from loadtest.drivers.whip_whep import WhipWhep, fill

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET = "a-secret-of-these-tests-and-no-others"
SDP, ANSWER = "application/sdp", "v=0\r\nthe answer\r\n"
LINK = '</other>; rel="ice-server", <{}/layer>; rel="urn:ietf:params:whep:ext:core:layer", </sse>; rel="x"'


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """An HTTP server on loopback; yields its URL."""
    server = web.Server(handler)  # type: ignore[arg-type]
    runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def driving(handler: Handler, timeout: float = 5.0, **options: Any) -> AsyncIterator[Driver]:
    async with serving(handler) as url:
        driver = WhipWhep(url, timeout=timeout, **options)
        try:
            yield driver
        finally:
            await driver.close()


def created(location: str = "/session/1", **headers: str) -> web.Response:
    return web.Response(status=201, text=ANSWER, content_type=SDP, headers={"Location": location, **headers})


class Recorder:
    """Answers with 201 and 200, and keeps what came."""

    def __init__(self, link: str = "") -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._link = link

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, await request.text()))
        self.headers.append(dict(request.headers))
        if request.method == "POST" and not request.path.endswith("/layer"):
            return created(Link=self._link)
        return web.Response()


async def test_a_session_begins_and_ends() -> None:
    server = Recorder()
    async with driving(server, token="secret") as driver:
        accepted = await driver.publish("a room", "ann/é", "v=0 offer")
        assert accepted.answer == ANSWER and accepted.session.endswith("/session/1")
        await driver.subscribe("r", "eve", "ann", "v=0 other", None)
        await driver.leave(accepted.session)
    assert server.requests == [
        ("POST", "/whip/a%20room/ann%2F%C3%A9", "v=0 offer"),
        ("POST", "/whep/r/ann", "v=0 other"),
        ("DELETE", "/session/1", ""),
    ]
    assert all(headers["Authorization"] == "Bearer secret" for headers in server.headers)
    assert all(headers["Content-Type"] == SDP for headers in server.headers[:2])


async def test_each_client_can_have_a_token_of_its_own() -> None:
    server = Recorder()
    async with driving(server, token=minted("key", SECRET)) as driver:
        accepted = await driver.publish("r", "ann", "v=0")
        await driver.leave(accepted.session)
    tokens = [headers["Authorization"].removeprefix("Bearer ") for headers in server.headers]
    claims = jwt.decode(tokens[0], SECRET, algorithms=["HS256"], issuer="key")
    assert claims["sub"] == "ann" and claims["video"]["room"] == "r" and claims["video"]["canPublish"] is True
    assert tokens[0] == tokens[1]


async def test_a_session_of_others_is_not_ended() -> None:
    server = Recorder()
    async with driving(server) as driver:
        with pytest.raises(DriverError, match="none of our sessions"):
            await driver.leave("http://192.0.2.1/session")
    assert not server.requests


async def test_without_a_token_none_is_sent() -> None:
    server = Recorder()
    async with driving(server) as driver:
        await driver.publish("r", "ann", "v=0")
    assert "Authorization" not in server.headers[0]


async def test_paths_are_those_of_the_scenario() -> None:
    server = Recorder()
    paths = {"publish_path": "/{room}/whip", "subscribe_path": "/{room}/whep?of={publisher}&as={identity}&rid={layer}"}
    async with driving(server, **paths) as driver:
        await driver.publish("r", "ann", "v=0")
        await driver.subscribe("r", "eve", "a&b", "v=0", "h")
        await driver.subscribe("r", "eve", "ann", "v=0", None)
    assert [path for _, path, _ in server.requests] == [
        "/r/whip",
        "/r/whep?of=a%26b&as=eve&rid=h",
        "/r/whep?of=ann&as=eve",
    ]


async def test_a_layer_is_asked_for_and_changed() -> None:
    server = Recorder(LINK.format("/session/1"))
    async with driving(server) as driver:
        accepted = await driver.subscribe("r", "eve", "ann", "v=0", "h")
        await driver.set_layer(accepted.session, "l")
        await driver.leave(accepted.session)
        with pytest.raises(DriverError, match="no layer resource"):
            await driver.set_layer(accepted.session, "l")
    assert server.requests[0][1] == "/whep/r/ann?layer=h"
    assert server.requests[1] == ("POST", "/session/1/layer", '{"encodingId": "l"}')


async def test_a_target_without_layers_is_told_apart() -> None:
    async with driving(Recorder()) as driver:
        accepted = await driver.subscribe("r", "eve", "ann", "v=0", None)
        with pytest.raises(DriverError, match="no layer resource") as caught:
            await driver.set_layer(accepted.session, "l")
        assert (caught.value.step, caught.value.status) == ("layer", None)


async def answered(response: Callable[[], web.StreamResponse], message: str, status: int | None) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return response()

    async with driving(handler) as driver:
        for step, call in (
            ("publish", lambda: driver.publish("r", "ann", "v=0")),
            ("subscribe", lambda: driver.subscribe("r", "eve", "ann", "v=0", None)),
        ):
            with pytest.raises(DriverError, match=message) as caught:
                await call()
            assert (caught.value.step, caught.value.status) == (step, status)


@pytest.mark.parametrize(
    ("response", "message", "status"),
    [
        (lambda: web.Response(status=401, text="no"), r"POST http://127.0.0.1:\d+/w.*: 401: no", 401),
        (lambda: web.json_response({"detail": "The room\nis full."}, status=503), "503: The room is full.", 503),
        (
            lambda: web.json_response({"title": "Full"}, status=503, headers={"Retry-After": "9"}),
            "503, Retry-.* 9",
            503,
        ),
        (lambda: web.Response(status=500), r": 500$", 500),
        (lambda: web.Response(status=500, text="[" * 100_000), r": 500: \[", 500),
        (lambda: web.Response(status=200, text=ANSWER, content_type=SDP), ": 200: v=0", 200),
        (lambda: web.Response(status=201, text="<html>", content_type="text/html"), "201 with text/html", 201),
        (lambda: web.Response(status=201, content_type=SDP), "an empty body", 201),
        (lambda: web.Response(status=201, text="hello", content_type=SDP), "without an SDP answer: hello", 201),
        (lambda: web.Response(status=201, body=b"v=0\xff", content_type=SDP), "not UTF-8", 201),
        (lambda: web.Response(status=201, text=ANSWER, content_type=SDP), "without a Location", 201),
        (lambda: web.Response(status=201, body=bytes(300_000), content_type=SDP), "more than 262144 bytes", 201),
        (lambda: created("http://192.0.2.1/session"), "leads to http://192.0.2.1/session", 201),
        (lambda: created("//192.0.2.1/session"), "leads to http://192.0.2.1/session", 201),
        (lambda: created("file:///etc"), "leads to file:", 201),
        (lambda: created("http://[half"), "no URL", 201),
        (lambda: created(Link=LINK.format("http://192.0.2.1")), "leads to http://192.0.2.1/layer", 201),
        (
            lambda: web.Response(status=307, headers={"Location": "http://192.0.2.1/x"}),
            "leads to http://192.0.2.1",
            307,
        ),
        (lambda: web.Response(status=307, headers={"Location": "/again"}), "more than 4 redirects", None),
        (lambda: web.Response(status=302, headers={"Location": "/x"}), ": 302", 302),
    ],
)
async def test_what_is_no_session_is_an_error_that_says_what_came(
    response: Callable[[], web.StreamResponse], message: str, status: int | None
) -> None:
    await answered(response, message, status)


async def test_redirects_within_the_host_are_followed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/whip"):
            return web.Response(status=307, headers={"Location": "/node-2/whip"})
        assert (request.path, await request.text()) == ("/node-2/whip", "v=0 offer")
        return created("session/9")

    async with driving(handler) as driver:
        accepted = await driver.publish("r", "ann", "v=0 offer")
        assert accepted.session.endswith("/node-2/session/9")


async def test_a_session_that_is_gone_is_said_to_be() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404) if request.method == "DELETE" else created()

    async with driving(handler) as driver:
        accepted = await driver.publish("r", "ann", "v=0")
        with pytest.raises(DriverError, match="no longer had the session") as caught:
            await driver.leave(accepted.session)
        assert (caught.value.step, caught.value.status) == ("leave", 404)


async def test_a_server_that_hangs_is_given_up() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with driving(handler, timeout=0.2) as driver:
        with pytest.raises(DriverError, match=r"no answer within 0.2 s"):
            await driver.publish("r", "ann", "v=0")


async def test_a_body_that_never_ends_is_given_up() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201, headers={"Content-Type": SDP})
        await response.prepare(request)
        await response.write(b"v=0\r\n")
        await asyncio.Event().wait()
        return response

    async with driving(handler, timeout=0.2) as driver:
        with pytest.raises(DriverError, match="no answer within"):
            await driver.publish("r", "ann", "v=0")


async def test_a_connection_that_is_reset_is_an_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async with driving(handler) as driver:
        with pytest.raises(DriverError, match="POST http"):
            await driver.publish("r", "ann", "v=0")


async def test_a_server_that_speaks_no_http_is_an_error() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-hello\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    driver = WhipWhep(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5)
    with pytest.raises(DriverError):
        await driver.publish("r", "ann", "v=0")
    await driver.close()
    server.close()


async def test_a_target_that_is_absent_is_an_error() -> None:
    async with serving(Recorder()) as url:
        pass
    driver = WhipWhep(url)
    with pytest.raises(DriverError, match=r"(?i)connect"):
        await driver.publish("r", "ann", "v=0")
    await driver.close()


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:7880", "http://[2001:db8::1]", "http://3221225985", "https://10.1.2.3"]
)
def test_other_hosts_are_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match="--allow-remote"):
        WhipWhep(url)


async def test_a_name_of_another_host_is_refused_when_it_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*arguments: object) -> list[dict[str, object]]:
        return [{"hostname": "x", "host": "192.0.2.1", "port": 80, "family": 2, "proto": 6, "flags": 0}]

    monkeypatch.setattr("loadtest.drivers.whip_whep.ThreadedResolver.resolve", resolve)
    driver = WhipWhep("http://target.invalid")
    with pytest.raises(DriverError, match=r"192.0.2.1 is not loopback \(--allow-remote\)"):
        await driver.publish("r", "ann", "v=0")
    await driver.close()


async def test_localhost_is_reached_by_its_name() -> None:
    async with serving(Recorder()) as url:
        driver = WhipWhep(url.replace("127.0.0.1", "localhost"))
        await driver.publish("r", "ann", "v=0")
        await driver.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:7880", "ftp://127.0.0.1", "http://"])
def test_a_target_is_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="http or https URL"):
        WhipWhep(url)


@pytest.mark.parametrize("path", ["whip", "/{rom}", "/{room", "/{}", "/{room.x}"])
def test_a_path_with_unknown_fields_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        WhipWhep("http://127.0.0.1", publish_path=path)


def test_empty_queries_are_left_out() -> None:
    assert fill("/{room}?layer={layer}&lag=5", room="a/b") == "/a%2Fb?lag=5"
    assert fill("/{room}?layer={layer}", room="r") == "/r"


async def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    async with serving(Recorder()) as url:
        driver = WhipWhep(url)
        await asyncio.gather(*(driver.publish("r", str(n), "v=0") for n in range(20)))
        await driver.close()
    async with asyncio.timeout(5):
        while descriptors() > before:
            await asyncio.sleep(0.001)
