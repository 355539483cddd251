"""What the HTTP side refuses and how it says so (RFC 9725, RFC 9457), CORS, ICE by PATCH, probes and metrics."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from loadtest.transport.offers import read_answer
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import FRAGMENT, OFFER, SDP, Joined, Running, running, token

PATCH = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"


@pytest.mark.parametrize(
    ("path", "type", "body", "status"),
    [
        ("/whep/a/b", "text/plain", OFFER, 415),
        ("/whep/a/b", None, OFFER, 415),
        ("/whep/a/b", "application/sdp", "nonsense", 400),
        ("/whep/a/b", "application/sdp", b"\xff\xfe", 400),
        ("/whep/a/b", "application/sdp", OFFER.replace("VP8/", "X/").replace("opus/", "Y/"), 422),
        ("/whep/a/b", "application/sdp", OFFER.replace("recvonly", "sendonly"), 422),
        ("/whep/a/b", "application/sdp", "v=0\r\n", 400),
        ("/whip/a/b", "application/sdp", re.sub(r"\b111\b", "96", OFFER.replace("recvonly", "sendonly")), 422),
        ("/whep/a/b", "application/sdp", "a=x\r\n" * 60_000, 413),
        ("/whep/a/b?lag=-1", "application/sdp", OFFER, 400),
        ("/whep/a/b?lag=5001", "application/sdp", OFFER, 400),
        ("/whep/a/b?lag=" + "9" * 5000, "application/sdp", OFFER, 400),
        ("/whep/a/b?layer=" + "x" * 17, "application/sdp", OFFER, 400),
        ("/whep/" + "r" * 129 + "/b", "application/sdp", OFFER, 400),
        ("/whep/a%00b/c", "application/sdp", OFFER, 400),
        ("/nowhere", "application/sdp", OFFER, 404),
        ("/whep/a", "application/sdp", OFFER, 404),
    ],
)
async def test_bad_join_is_refused_with_a_json_problem(
    node: Running, path: str, type: str | None, body: Any, status: int
) -> None:
    headers = {"Content-Type": type} if type else {}
    data = body.encode() if isinstance(body, str) else body
    await node.refused(status, "POST", path, data=data, headers=headers, skip_auto_headers=["Content-Type"])
    assert not node.node.sessions.sessions and not node.node.sessions.rooms
    assert await node.metric("weir_transports") == 0


async def test_refused_joins_are_counted_by_reason(node: Running) -> None:
    await node.refused(400, "POST", "/whip/a/b", data="nonsense", headers=SDP)
    await node.refused(415, "POST", "/whip/a/b", data="nonsense")
    assert await node.metric("weir_joins_total", kind="whip", result="offer") == 1
    assert await node.metric("weir_joins_total", kind="whip", result="unsupported-media-type") == 1
    assert await node.metric("weir_joins_total", kind="whip", result="ok") == 0


@pytest.mark.parametrize(
    ("accept", "status"), [("text/html", 406), ("application/*", 201), ("text/html, */*;q=0.1", 201)]
)
async def test_answer_that_the_client_does_not_accept_is_406(node: Running, accept: str, status: int) -> None:
    found, _, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=SDP | {"Accept": accept})
    assert found == status


async def test_body_that_does_not_come_is_408() -> None:
    async with running(http={"body_timeout": 0.1}) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.node.config.http.port)
        head = "POST /whip/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        head += "Content-Length: 100\r\n\r\nv=0"
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
        writer.close()
        await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 408") and b"application/problem+json" in answer


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_other_methods_on_an_endpoint_are_405(node: Running, way: str, method: str) -> None:
    headers, _ = await node.refused(405, method, f"/{way}/a/b")
    assert headers["Allow"] == "OPTIONS, POST"


async def test_head_on_an_endpoint_is_405_too(node: Running) -> None:
    async with node.http.head("/whip/a/b") as response:
        assert response.status == 405 and response.headers["Allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_other_methods_on_a_session_are_405(node: Running, method: str) -> None:
    headers, _ = await node.refused(405, method, "/whip/a/b/c")
    assert headers["Allow"] == "DELETE, OPTIONS, PATCH"


async def test_answer_names_session_tag_and_links() -> None:
    ices = [{"urls": ["stun:stun.example.org", "turn:turn.example.org"], "username": "me", "credential": "once"}]
    async with running(ice_servers=ices) as node:
        viewer = await node.join("/whep/a%20room/%C3%A4rger", connect=False)
        assert viewer.location.startswith("/whep/a%20room/%C3%A4rger/")
        assert re.fullmatch(r'"\w+"', viewer.headers["ETag"])
        assert viewer.headers["Content-Type"] == "application/sdp"
        links = viewer.headers.getall("Link")  # a field each: what GStreamer and OBS can read
        turn = next(link for link in links if link.startswith("<turn:turn.example.org>"))
        assert 'rel="ice-server"; username="me"; credential="once"' in turn and "<" not in turn[1:]
        layer = next(link for link in links if link.startswith(f"<{viewer.location}/layer>"))
        assert 'rel="urn:ietf:params:whep:ext:core:layer"' in layer and "<" not in layer[1:]
        assert (await node.ask("DELETE", viewer.location))[0] == 200


async def restarted(node: Running, viewer: Joined) -> Any:
    """Headers and fragment of an ICE restart."""
    status, headers, fragment = await node.ask(
        "PATCH", viewer.location, data=PATCH, headers=FRAGMENT | {"If-Match": "*"}
    )
    assert status == 200 and headers["Content-Type"].startswith(FRAGMENT["Content-Type"])
    return headers, fragment


async def test_ice_restart_gives_new_credentials_that_work_with_candidates(node: Running) -> None:
    viewer = await node.join("/whep/a/b")
    headers, fragment = await restarted(node, viewer)
    assert headers["ETag"] != viewer.headers["ETag"]
    found = dict(re.findall(r"a=(ice-ufrag|ice-pwd|candidate|mid):(.*)\r\n", fragment))
    assert found["mid"] == "0" and found["candidate"].split()[4:6] == ["127.0.0.1", str(node.node.config.media.port)]
    assert found["ice-ufrag"] != read_answer(viewer.answer).ufrag
    (session,) = node.node.sessions.sessions.values()
    before = session.peer.transport.last_check
    viewer.check(found["ice-ufrag"], found["ice-pwd"])
    await until(lambda: session.peer.transport.last_check > before)


async def test_patch_is_guarded_by_the_entity_tag(node: Running) -> None:
    viewer = await node.join("/whep/a/b", connect=False)
    tag, url = viewer.headers["ETag"], viewer.location
    candidate = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 5000 typ host\r\n"
    assert (await node.ask("PATCH", url, data=candidate, headers=FRAGMENT | {"If-Match": tag}))[0] == 204
    await node.refused(428, "PATCH", url, data=candidate, headers=FRAGMENT)
    await node.refused(412, "PATCH", url, data=candidate, headers=FRAGMENT | {"If-Match": '"other"'})
    await node.refused(400, "PATCH", url, data=candidate, headers=FRAGMENT | {"If-Match": "*"})
    await node.refused(400, "PATCH", url, data="nonsense", headers=FRAGMENT | {"If-Match": "*"})
    headers, _ = await node.refused(415, "PATCH", url, data=PATCH, headers=SDP | {"If-Match": "*"})
    assert headers["Accept-Patch"] == FRAGMENT["Content-Type"]
    await restarted(node, viewer)
    await node.refused(412, "PATCH", url, data=candidate, headers=FRAGMENT | {"If-Match": tag})


async def test_session_belongs_to_its_room_and_kind(node: Running) -> None:
    viewer = await node.join("/whep/a/b", connect=False)
    session = viewer.location.rsplit("/", 1)[1]
    await node.refused(404, "DELETE", f"/whip/a/b/{session}")
    await node.refused(404, "DELETE", f"/whep/other/b/{session}")
    assert (await node.ask("DELETE", viewer.location))[0] == 200
    await node.refused(404, "DELETE", viewer.location)


async def test_preflight_is_answered_for_any_origin_unless_origins_are_named(node: Running) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = await node.ask("OPTIONS", "/whip/a/b", headers=asked)
    assert status == 204 and headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Accept-Post"] == "application/sdp" and headers["Allow"] == "OPTIONS, POST"
    assert {"if-match", "authorization"} <= {
        h.strip() for h in headers["Access-Control-Allow-Headers"].lower().split(",")
    }
    _, headers, _ = await node.ask("POST", "/whip/a/b", data="x", headers={"Origin": "https://a.example"})
    assert {"Location", "Link", "ETag"} <= set(headers["Access-Control-Expose-Headers"].split(", "))
    async with running(http={"cors_origins": ["https://a.example"]}) as strict:
        _, headers, _ = await strict.ask("OPTIONS", "/whip/a/b", headers=asked)
        assert headers["Access-Control-Allow-Origin"] == "https://a.example" and headers["Vary"] == "Origin"
        _, headers, _ = await strict.ask("OPTIONS", "/whip/a/b", headers=asked | {"Origin": "https://b.example"})
        assert "Access-Control-Allow-Origin" not in headers


async def test_joins_of_one_source_are_limited_but_not_from_loopback_where_that_is_said() -> None:
    async with running(limits={"joins_burst": 2, "joins_per_second": 0.5, "unlimited_loopback_joins": False}) as node:
        for _ in range(2):
            await node.join("/whep/a/b", connect=False)
        headers, _ = await node.refused(429, "POST", "/whep/a/b", data=OFFER, headers=SDP)
        assert int(headers["Retry-After"]) == 2
        assert await node.metric("weir_joins_total", kind="whep", result="rate") == 1
    async with running(limits={"joins_burst": 1, "unlimited_loopback_joins": True}) as node:
        for _ in range(3):
            await node.join("/whep/a/b", connect=False)
        forwarded = SDP | {"X-Forwarded-For": "192.0.2.1"}
        assert (await node.ask("POST", "/whep/a/b", data=OFFER, headers=forwarded))[0] == 201
        await node.refused(429, "POST", "/whep/a/b", data=OFFER, headers=forwarded)


async def test_page_probes_and_metrics_answer(node: Running) -> None:
    for path, type in (("/", "text/html"), ("/app.js", "text/javascript"), ("/healthz", "application/json")):
        status, headers, _ = await node.ask("GET", path)
        assert status == 200 and headers["Content-Type"].startswith(type)
    assert (await node.ask("GET", "/readyz"))[0] == 200
    await node.refused(404, "GET", "/no-such-file.js")
    await node.refused(404, "GET", "/..%2fnode.py")
    async with running(metrics={"enabled": False}) as silent:
        await silent.refused(404, "GET", "/metrics")


async def test_metrics_tell_of_packets_layers_and_latency(node: Running) -> None:
    publisher, viewer = await node.join("/whip/a/b"), await node.join("/whep/a/b")
    publisher.send_video()
    await until(lambda: viewer.packets)  # from the log: what is late on purpose counts for no latency
    publisher.send_video(5, key=False)
    await until(lambda: len(viewer.packets) == 6)
    assert await node.metric("weir_packets_sent_total", worker="0") >= 6
    assert await node.metric("weir_forward_latency_seconds_count", worker="0") >= 1
    assert await node.metric("weir_table_used", table="video_logs") == 1
    assert await node.metric("weir_participants", role="viewer") == 1
    assert await node.metric("weir_node_info", node="weir") == 1
    assert await node.metric("weir_subscriptions") == 2 and await node.metric("weir_tracks") == 2
    assert await node.metric("weir_worker_cpu_seconds_total") > 0
    assert await node.metric("weir_packets_dropped_total", cause="unknown") == 0
    assert await node.metric("process_resident_memory_bytes") > 0


async def test_rooms_are_listed_with_what_is_sent(node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice")
    await node.join("/whep/lobby/alice", connect=False)
    publisher.send_video(size=(320, 180))
    (session, _) = node.node.sessions.sessions.values()
    await until(lambda: any(layer.active for layer in session.peer.transport.layers))
    _, _, body = await node.ask("GET", "/api/rooms")
    (room,) = body["rooms"]
    (alice,) = room["participants"]
    assert room["name"] == "lobby" and alice["identity"] == "alice" and alice["viewers"] == 1
    audio, video = alice["tracks"]
    assert video["kind"] == "video" and video["codec"] == "VP8"
    assert {"rid": None, "active": True, "width": 320, "height": 180}.items() <= video["layers"][0].items()
    assert audio["codec"] is None and not audio["layers"][0]["active"]


STRICT: Any = {"auth": {"required": True}}


async def test_token_is_asked_for_and_its_grants_count() -> None:
    async with running(**STRICT) as node:
        post = {"data": OFFER}
        headers, _ = await node.refused(401, "POST", "/whep/a/b", headers=SDP, **post)
        assert headers["WWW-Authenticate"].startswith("Bearer")
        for bad in (token("a", exp=-60), token("a", secret="x" * 40), {"Authorization": "Basic eA=="}):
            await node.refused(401, "POST", "/whep/a/b", headers=SDP | bad, **post)
        for bad in (token("other"), token("a", canSubscribe=False), token("a", roomJoin=False)):
            await node.refused(403, "POST", "/whep/a/b", headers=SDP | bad, **post)
        sending = {"data": OFFER.replace("recvonly", "sendonly")}
        for bad in (token("a", "alice"), token("a", "b", canPublish=False)):
            await node.refused(403, "POST", "/whip/a/b", headers=SDP | bad, **sending)
        assert (await node.ask("POST", "/whip/a/b", headers=SDP | token("a", "b"), **sending))[0] == 201
        assert (await node.ask("POST", "/whep/a/b", headers=SDP | token("a", "anybody"), **post))[0] == 201


async def test_session_obeys_its_owner_even_with_a_token_that_has_run_out() -> None:
    async with running(**STRICT) as node:
        status, headers, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=SDP | token("a", "carol"))
        assert status == 201
        url = headers["Location"]
        await node.refused(401, "DELETE", url)
        await node.refused(403, "DELETE", url, headers=token("a", "mallory"))
        await node.refused(403, "DELETE", url, headers=token("another", "carol"))
        assert (await node.ask("DELETE", url, headers=token("a", "carol", exp=-60)))[0] == 200


async def test_rooms_are_shown_as_far_as_the_token_goes() -> None:
    async with running(**STRICT) as node:
        sending = {"data": OFFER.replace("recvonly", "sendonly")}
        for room in ("a", "b"):
            assert (await node.ask("POST", f"/whip/{room}/x", headers=SDP | token(room, "x"), **sending))[0] == 201

        async def seen(headers: Any, query: str = "") -> list[str]:
            _, _, body = await node.ask("GET", f"/api/rooms{query}", headers=headers)
            return sorted(room["name"] for room in body["rooms"])

        await node.refused(401, "GET", "/api/rooms")
        assert await seen(token("a")) == ["a"]
        assert await seen(token("", roomList=True)) == ["a", "b"]
        assert await seen(token("", roomList=True), "?room=b") == ["b"]
        assert await seen(token("a"), "?room=b") == await seen(token("a"), "?room=nobody") == []


async def test_loopback_needs_no_token_where_that_is_said_unless_it_is_a_proxy() -> None:
    async with running(auth={"required": True, "loopback_without_token": True}) as node:
        assert (await node.ask("POST", "/whep/a/b", data=OFFER, headers=SDP))[0] == 201
        await node.refused(401, "POST", "/whep/a/b", data=OFFER, headers=SDP | {"X-Forwarded-For": "192.0.2.1"})
        await node.refused(401, "POST", "/whep/a/b", data=OFFER, headers=SDP | token("a", secret="x" * 40))


async def ended_meanwhile(
    node: Running, method: str, path: str, body: bytes, headers: dict[str, str], then: Joined
) -> str:
    """The answer to a request whose session ends, and whose record is another's, before its body comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.node.config.http.port)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # its handler waits for the body
    assert (await node.ask("DELETE", then.location))[0] == 200
    writer.write(body)
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_body_that_comes_after_its_session_has_ended_changes_nothing(node: Running) -> None:
    (worker,) = node.node.engine.workers
    for method, more, body, headers in (
        ("PATCH", "", PATCH.encode(), FRAGMENT | {"If-Match": "*"}),
        ("POST", "/layer", b'{"maxTemporalLayerId": 0}', {"Content-Type": "application/json"}),
        ("POST", "/sse", b"[]", {"Content-Type": "application/json"}),
    ):
        viewer = await node.join("/whep/a/b", connect=False)
        answer = await ended_meanwhile(node, method, viewer.location + more, body, headers, viewer)
        assert answer.startswith("HTTP/1.1 404 "), answer
    await until(lambda: worker.transport_used == 0)
    await asyncio.sleep(0)
    assert not worker.ufrags.rows["transport"].any(), "credentials that nobody has are accepted for ever"
