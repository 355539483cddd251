"""A node that asks for no token, over HTTP: its own page and programs are served, strangers' pages are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mediaserver.signalling.pages import WEB
from tests.unit.signalling.nodes import FRAGMENT, OFFER, SDP, Running, running, token

SENDING = OFFER.replace("recvonly", "sendonly")
TRUST: list[dict[str, Any]] = [
    {"auth": {"required": False}},
    {"auth": {"required": True, "loopback_without_token": True}},
]
EVIL = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
REBOUND = {"Host": "evil.example:7880", "Origin": "http://evil.example:7880", "Sec-Fetch-Site": "same-origin"}


def own(node: Running) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{node.node.config.http.port}", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("sections", TRUST, ids=["no-token", "loopback"])
@pytest.mark.parametrize("foreign", [EVIL, REBOUND, {"Host": "evil.example"}, {"Sec-Fetch-Site": "same-site"}])
async def test_foreign_page_lists_publishes_watches_and_kicks_nothing(
    sections: dict[str, Any], foreign: dict[str, str]
) -> None:
    async with running(**sections) as node:
        publisher = await node.join("/whip/a/b", connect=False)
        viewer = await node.join("/whep/a/b", connect=False)
        for method, path, more in (
            ("GET", "/api/rooms", {}),
            ("GET", "/metrics", {}),
            ("POST", "/whip/a/c", {"data": SENDING, "headers": SDP}),
            ("POST", "/whep/a/b", {"data": OFFER, "headers": SDP}),
            ("PATCH", publisher.location, {"data": "a=x\r\n", "headers": FRAGMENT | {"If-Match": "*"}}),
            ("POST", f"{viewer.location}/layer", {"json": {}}),
            ("POST", f"{viewer.location}/sse", {}),
            ("DELETE", publisher.location, {}),
            ("DELETE", viewer.location, {}),
        ):
            merged = {**more, "headers": {**more.get("headers", {}), **foreign}}  # type: ignore[dict-item]
            headers, body = await node.refused(401, method, path, **merged)
            assert "WWW-Authenticate" in headers and "Without a token" in body["detail"]
        assert len(node.node.sessions.sessions) == 2


@pytest.mark.parametrize("sections", TRUST, ids=["no-token", "loopback"])
async def test_own_page_and_programs_are_served(sections: dict[str, Any]) -> None:
    async with running(**sections) as node:
        for headers in ({}, own(node)):
            status, given, _ = await node.ask("POST", "/whip/a/b", data=SENDING, headers=SDP | headers)
            assert status == 201
            assert (await node.ask("GET", "/api/rooms", headers=headers))[0] == 200
            assert (await node.ask("GET", "/metrics", headers=headers))[0] == 200
            assert (await node.ask("DELETE", given["Location"], headers=headers))[0] == 200


async def test_token_works_from_any_page_and_under_any_name() -> None:
    async with running(**TRUST[1]) as node:
        for foreign in (EVIL, REBOUND):
            asked = token("a", "b") | foreign
            status, headers, _ = await node.ask("POST", "/whip/a/b", data=SENDING, headers=SDP | asked)
            assert status == 201 and headers["Access-Control-Allow-Origin"] == "*"
            assert (await node.ask("DELETE", headers["Location"], headers=asked))[0] == 200
            await node.refused(401, "GET", "/api/rooms", headers=token("a", secret="x" * 40) | foreign)


async def test_named_hosts_and_named_origins_are_own() -> None:
    http = {"names": ["meet.example.org"], "cors_origins": ["https://app.example.org"]}
    async with running(http=http) as node:
        host = {"Host": "meet.example.org:7880"}
        assert (await node.ask("GET", "/api/rooms", headers=host))[0] == 200
        page = {"Origin": "http://meet.example.org:7880"}
        assert (await node.ask("GET", "/api/rooms", headers=host | page))[0] == 200
        app = {"Origin": "https://app.example.org", "Sec-Fetch-Site": "cross-site"}
        status, headers, _ = await node.ask("GET", "/api/rooms", headers=app)
        assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        await node.refused(401, "GET", "/api/rooms", headers=host | {"Origin": "https://meet.example.org:7880"})


async def test_metrics_are_for_no_page_of_another_origin() -> None:
    async with running(auth={"required": True}) as node:
        status, headers, _ = await node.ask("GET", "/metrics", headers={"Origin": "https://evil.example"})
        assert status == 200 and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("sections", TRUST, ids=["no-token", "loopback"])
async def test_headers_that_a_page_can_write_open_no_metrics(sections: dict[str, Any]) -> None:
    async with running(**sections) as node:
        for written in ({"X-Forwarded-For": "192.0.2.1"}, {"Via": "1.1 a"}, {"Authorization": "Bearer a.b.c"}):
            await node.refused(401, "GET", "/metrics", headers={"Host": "evil.example:7880"} | written)
        good = token("a") | {"Host": "evil.example:7880"}
        assert (await node.ask("GET", "/metrics", headers=good))[0] == 200


async def test_page_can_t_be_framed_and_runs_its_own_files_only(node: Running) -> None:
    files = ["/" + file.relative_to(WEB).as_posix() for file in WEB.rglob("*.*")]
    assert {"/app.js", "/style.css", "/icon.svg", "/capture/media.js", "/view/tile.js"} <= set(files)
    for path in ("/", *files):
        status, headers, body = await node.ask("GET", path)
        assert status == 200 and headers["X-Frame-Options"] == "DENY"
        policy = dict(one.strip().partition(" ")[::2] for one in headers["Content-Security-Policy"].split(";"))
        assert policy["frame-ancestors"] == "'none'" and policy["default-src"] == "'self'"
        assert policy["connect-src"] == "'self'" and policy["base-uri"] == policy["object-src"] == "'none'"
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(headers["Content-Security-Policy"].split())
        assert headers["X-Content-Type-Options"] == "nosniff"
        if path == "/":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", body), "the policy forbids them"
            assert not re.search(r"""(?:src|href)=["']/""", body), "addresses that start at the host's root"
        status, _, body = await node.ask("GET", path, headers={"If-None-Match": headers["ETag"]})
        assert status == 304 and not body


@pytest.mark.parametrize("name", ["..", ".", "%2e%2e", "%2E", "a%2f..%2fb", "..%5ca", "%e2%80%ae", "%e2%81%a6x", "%20"])
async def test_names_that_paths_or_eyes_get_wrong_are_400(node: Running, name: str) -> None:
    for path in (f"/whip/a/{name}", f"/whip/{name}/b", f"/whep/a/{name}", f"/whep/{name}/b"):
        port = node.node.config.http.port
        assert b"400" in (await raw(port, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))[:13]


@pytest.mark.parametrize("name", ["%", "%zz", "%ff", "%ed%a0%80", "%c0%ae%c0%ae"])
async def test_paths_that_are_not_percent_encoded_utf8_are_400(node: Running, name: str) -> None:
    request = f"POST /whip/a/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b"400" in (await raw(node.node.config.http.port, request))[:13]


async def raw(port: int, request: str) -> bytes:
    """What comes back for these bytes until the end of the connection."""
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_sources_of_a_token_are_asked_of_the_offer() -> None:
    async with running(auth={"required": True}) as node:
        audio = re.sub(r"m=video .*", "", SENDING, flags=re.S).replace("BUNDLE 0 1", "BUNDLE 0")

        async def post(offer: str, query: str = "", **grants: Any) -> int:
            headers = SDP | token("a", "b", **grants)
            return (await node.ask("POST", f"/whip/a/b{query}", data=offer, headers=headers))[0]

        assert await post(SENDING, canPublishSources=["camera", "microphone"]) == 201
        assert await post(SENDING, canPublishSources=["microphone"]) == 403
        assert await post(audio, canPublishSources=["microphone"]) == 201
        assert await post(SENDING, "?source=screen_share", canPublishSources=["camera", "microphone"]) == 403
        assert (
            await post(SENDING, "?source=screen_share", canPublishSources=["screen_share", "screen_share_audio"]) == 201
        )
        assert await post(SENDING, "?source=spaceship") == 400
        assert await post("nonsense", canPublishSources=["microphone"]) == 400
        assert await post(SENDING, canPublish="no") == 401


async def test_paths_in_answers_are_below_a_trusted_proxy_s_prefix() -> None:
    async with running(http={"trusted_proxies": ["127.0.0.1"]}, auth={"required": True}) as node:
        asked = SDP | token("a", None) | {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Prefix": "/media/"}
        status, headers, _ = await node.ask("POST", "/whep/a/b%2Fc", data=OFFER, headers=asked)
        assert status == 201 and headers["Location"].startswith("/media/whep/a/b%2Fc/")
        location = headers["Location"].removeprefix("/media")
        links = " ".join(headers.getall("Link"))
        assert f"<{headers['Location']}/layer>" in links and f"<{headers['Location']}/sse>" in links
        _, stream, _ = await node.ask(
            "POST", f"{location}/sse", headers=asked | {"Content-Type": "application/json"}, data="[]"
        )
        assert stream["Location"].startswith(f"{headers['Location']}/sse/")
        evil = asked | {"X-Forwarded-Prefix": "//evil.example"}
        _, headers, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=evil)
        assert headers["Location"].startswith("/whep/a/b/")
    async with running(auth={"required": True}) as node:
        _, headers, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=asked)
        assert headers["Location"].startswith("/whep/a/b/"), "a stranger's prefix"


async def test_base_path_is_served_with_and_without_a_proxy_that_takes_it_off() -> None:
    async with running(http={"base_path": "/media"}) as node:
        for below in ("", "/media"):
            status, headers, _ = await node.ask("POST", f"{below}/whep/a/b", data=OFFER, headers=SDP)
            assert status == 201 and headers["Location"].startswith("/media/whep/a/b/")
            assert (await node.ask("DELETE", headers["Location"]))[0] == 200
            status, headers, body = await node.ask("GET", f"{below}/")
            assert status == 200 and "<title>Weir" in body
            assert (await node.ask("GET", f"{below}/app.js"))[0] == 200
        status, headers, _ = await node.ask("GET", "/media?room=x", allow_redirects=False)
        assert status == 308 and headers["Location"] == "/media/?room=x"


async def test_client_behind_a_trusted_proxy_is_not_this_machine() -> None:
    sections: dict[str, Any] = {"http": {"trusted_proxies": ["127.0.0.1"]}, **TRUST[1]}
    async with running(**sections) as node:
        assert (await node.ask("GET", "/api/rooms"))[0] == 200, "nobody spoke for it"
        for forwarded in ("127.0.0.1", "192.0.2.1"):
            await node.refused(401, "GET", "/api/rooms", headers={"X-Forwarded-For": forwarded})
