"""WHIP and WHEP over HTTP: what is refused and how it is said (RFC 9725, RFC 9457), CORS, tokens, ICE by PATCH."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import aiohttp
import jwt
import pytest
import pytest_asyncio
from aiortc import RTCPeerConnection
from multidict import CIMultiDictProxy

from tests.e2e.node import KEY, SECRET, Node

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
SDP = {"Content-Type": "application/sdp"}
Joined = tuple[str, str, CIMultiDictProxy[str]]  # a session's URL, its answer, the answer's headers
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


async def offer(direction: str = "recvonly") -> str:
    """A real offer of audio and video."""
    pc = RTCPeerConnection()
    for kind in ("audio", "video"):
        pc.addTransceiver(kind, direction=direction)
    await pc.setLocalDescription(await pc.createOffer())
    text: str = pc.localDescription.sdp
    await pc.close()
    return text


async def problem(response: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    """The JSON problem of a refusal with this status."""
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    found: dict[str, Any] = await response.json()
    assert found["status"] == status and found["title"] and found["detail"]
    return found


def token(name: str, /, **grants: Any) -> str:
    """A signed token; `grants` replace the usual ones."""
    now = int(time.time())
    expires, secret = grants.pop("exp", now + 60), grants.pop("secret", SECRET)
    video = {"room": name, "roomJoin": True, "canPublish": True, "canSubscribe": True} | grants
    claims = {"iss": KEY, "sub": "alice", "nbf": now - 5, "exp": expires, "video": video}
    return jwt.encode(claims, secret, algorithm="HS256")


@pytest_asyncio.fixture(loop_scope="session")
async def session(node: Node, room: str) -> AsyncIterator[Joined]:
    """A WHEP session: its URL, the answer and the answer's headers."""
    url = f"/whep/{room}/alice"
    async with node.http.post(url, data=await offer(), headers=SDP) as response:
        assert response.status == 201
        location = urljoin(url, response.headers["Location"])
        found = (location, await response.text(), response.headers)
    yield found
    async with node.http.delete(location) as response:
        assert response.status in (200, 404)


async def test_answer_names_session_entity_tag_and_links(session: Joined) -> None:
    _, answer, headers = session
    assert headers["Content-Type"] == "application/sdp"
    assert re.fullmatch(r'"[^"]+"', headers["ETag"]), "a strong entity tag (RFC 9725 4.3.1)"
    links = " ".join(headers.getall("Link"))
    assert "urn:ietf:params:whep:ext:core:layer" in links
    assert "urn:ietf:params:whep:ext:core:server-sent-events" in links
    assert "a=ice-lite" in answer and "a=candidate:" in answer


MALFORMED = {
    "nothing": "",
    "words": "nonsense",
    "no-media": "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
    "half": "v=0\r\nm=video\r\n",
    "bytes": "\x00\xff" * 50,
}


@pytest.mark.parametrize("body", list(MALFORMED.values()), ids=list(MALFORMED))
@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_malformed_description_is_400(node: Node, room: str, way: str, body: str) -> None:
    async with node.http.post(f"/{way}/{room}/alice", data=body.encode(), headers=SDP) as response:
        await problem(response, 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream"])
async def test_other_content_type_is_415(node: Node, room: str, kind: str) -> None:
    headers = {"Content-Type": kind}
    async with node.http.post(f"/whip/{room}/alice", data=await offer("sendonly"), headers=headers) as response:
        await problem(response, 415)


async def test_content_type_may_have_parameters_and_capitals(node: Node, room: str) -> None:
    headers = {"Content-Type": "Application/SDP; charset=utf-8"}
    async with node.http.post(f"/whep/{room}/alice", data=await offer(), headers=headers) as response:
        assert response.status == 201
        location = response.headers["Location"]
    async with node.http.delete(location) as response:
        assert response.status == 200


async def test_oversized_body_is_413(node: Node, room: str) -> None:
    body = "v=0\r\n" + "a=x\r\n" * 60_000
    async with node.http.post(f"/whip/{room}/alice", data=body, headers=SDP) as response:
        await problem(response, 413)


async def test_nothing_in_common_is_422(node: Node, room: str) -> None:
    sdp = await offer("sendonly")
    sdp = re.sub(r"a=rtpmap:(\d+) [^/\r]+/", r"a=rtpmap:\1 unheard-of/", sdp)
    async with node.http.post(f"/whip/{room}/alice", data=sdp, headers=SDP) as response:
        await problem(response, 422)


@pytest.mark.parametrize("path", ["/nowhere", "/whip/only-a-room", "/whep/a/b/c/d"])
async def test_unknown_resource_is_404(node: Node, path: str) -> None:
    async with node.http.post(path, data="v=0", headers=SDP) as response:
        await problem(response, 404)


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
async def test_session_that_is_not_there_is_404(node: Node, session: Joined, method: str) -> None:
    gone = session[0][:-6] + "nobody"
    headers = FRAGMENT | {"If-Match": "*"}
    async with node.http.request(method, gone, data="a=ice-ufrag:x\r\n", headers=headers) as response:
        await problem(response, 404)


@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_get_on_an_endpoint_is_405_with_what_is_allowed(node: Node, room: str, way: str) -> None:
    async with node.http.get(f"/{way}/{room}/alice") as response:
        await problem(response, 405)
        assert {"POST", "OPTIONS"} <= {m.strip() for m in response.headers["Allow"].split(",")}


async def test_deleted_session_is_gone(node: Node, session: Joined) -> None:
    async with node.http.delete(session[0]) as response:
        assert response.status == 200
    async with node.http.delete(session[0]) as response:
        await problem(response, 404)


async def test_trickled_candidate_is_taken(node: Node, session: Joined) -> None:
    location, _, headers = session
    body = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.9 5000 typ host\r\n"
    match = FRAGMENT | {"If-Match": headers["ETag"]}
    async with node.http.patch(location, data=body, headers=match) as response:
        assert response.status == 204, await response.text()


async def test_restart_changes_credentials_and_entity_tag(node: Node, session: Joined) -> None:
    location, answer, headers = session
    body = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    async with node.http.patch(location, data=body, headers=FRAGMENT | {"If-Match": "*"}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/trickle-ice-sdpfrag"
        fragment = await response.text()
        assert response.headers["ETag"] != headers["ETag"]
    before, after = (re.findall(r"a=ice-ufrag:(\S+)", text) for text in (answer, fragment))
    assert after and after[0] != before[0]
    async with node.http.patch(location, data=body, headers=FRAGMENT | {"If-Match": headers["ETag"]}) as response:
        await problem(response, 412)


async def test_patch_without_precondition_is_428(node: Node, session: Joined) -> None:
    body = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    async with node.http.patch(session[0], data=body, headers=FRAGMENT) as response:
        await problem(response, 428)


async def test_patch_of_another_type_is_415(node: Node, session: Joined) -> None:
    async with node.http.patch(session[0], data="v=0", headers=SDP | {"If-Match": "*"}) as response:
        await problem(response, 415)


async def test_pages_of_other_origins_may_use_the_endpoints(node: Node, room: str) -> None:
    headers = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
    }
    async with node.http.options(f"/whip/{room}/alice", headers=headers) as response:
        assert response.status in (200, 204)
        assert response.headers["Access-Control-Allow-Origin"] in ("*", "https://elsewhere.example")
        allowed = response.headers["Access-Control-Allow-Headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "if-match"))
        methods = response.headers["Access-Control-Allow-Methods"]
        assert all(name in methods for name in ("POST", "PATCH", "DELETE"))
        assert "application/sdp" in response.headers["Accept-Post"]
    asked = {"Origin": headers["Origin"], "Authorization": f"Bearer {token(room)}"}
    async with node.http.post(f"/whep/{room}/alice", data=await offer(), headers=SDP | asked) as response:
        exposed = response.headers["Access-Control-Expose-Headers"].lower()
        assert all(name in exposed for name in ("location", "link", "etag"))
        location = response.headers["Location"]
    async with node.http.delete(location, headers=asked) as response:
        assert response.status == 200 and "Access-Control-Allow-Origin" in response.headers
    async with node.http.post(f"/whep/{room}/alice", data=await offer(), headers=SDP | {"Origin": "null"}) as response:
        await problem(response, 401)


async def test_probes_and_metrics_answer(node: Node) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/"):
        async with node.http.get(path) as response:
            assert response.status == 200, path
    names = {sample.name for sample in (await node.metrics()).samples}
    assert all(name.startswith(("weir_", "process_", "python_")) for name in names), names


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node that asks for tokens."""
    auth = {"required": True, "loopback_without_token": False}
    ices = [{"urls": ["turn:turn.example.org:3478"], "username": "someone", "credential": "once"}]
    async with Node(tmp_path_factory.mktemp("strict"), auth=auth, ice_servers=ices) as running:
        yield running


async def join(node: Node, way: str, room: str, bearer: str | None) -> aiohttp.ClientResponse:
    headers = SDP | ({"Authorization": f"Bearer {bearer}"} if bearer is not None else {})
    sdp = await offer("sendonly" if way == "whip" else "recvonly")
    return await node.http.post(f"/{way}/{room}/alice", data=sdp, headers=headers)


@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_missing_token_is_401_with_a_challenge(strict: Node, room: str, way: str) -> None:
    async with await join(strict, way, room, None) as response:
        await problem(response, 401)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "wrong", [{"secret": "another-secret-that-nobody-configured"}, {"exp": 1_000_000}], ids=["forged", "expired"]
)
async def test_forged_or_expired_token_is_401(strict: Node, room: str, wrong: dict[str, Any]) -> None:
    async with await join(strict, "whip", room, token(room, **wrong)) as response:
        await problem(response, 401)


async def test_nonsense_token_is_401(strict: Node, room: str) -> None:
    async with await join(strict, "whip", room, "a.b.c") as response:
        await problem(response, 401)


@pytest.mark.parametrize(
    ("way", "grants"),
    [
        ("whip", {"room": "another"}),
        ("whip", {"canPublish": False}),
        ("whep", {"canSubscribe": False}),
        ("whep", {"roomJoin": False}),
    ],
)
async def test_token_without_the_grant_is_403(strict: Node, room: str, way: str, grants: dict[str, Any]) -> None:
    async with await join(strict, way, room, token(room, **grants)) as response:
        await problem(response, 403)


async def test_good_token_joins_and_is_told_of_ice_servers(strict: Node, room: str) -> None:
    bearer = token(room)
    async with await join(strict, "whep", room, bearer) as response:
        assert response.status == 201, await response.text()
        assert 'rel="ice-server"' in response.headers["Link"] and "turn:turn.example.org" in response.headers["Link"]
        location = response.headers["Location"]
    async with strict.http.delete(location) as response:
        await problem(response, 401)
    async with strict.http.delete(location, headers={"Authorization": f"Bearer {bearer}"}) as response:
        assert response.status == 200


async def test_rooms_are_not_listed_without_a_token(strict: Node) -> None:
    async with strict.http.get("/api/rooms") as response:
        await problem(response, 401)
