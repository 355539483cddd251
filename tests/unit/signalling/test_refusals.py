"""Refused requests draw on a bucket of their own: strangers get 429, and good tokens at the same address go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.unit.signalling.nodes import OFFER, SDP, Running, running, token

FEW: dict[str, Any] = {
    "auth": {"required": True},
    "limits": {
        "refusals_burst": 3, "refusals_per_second": 0.01, "joins_burst": 5, "joins_per_second": 0.01,
        "unlimited_loopback_joins": False,
    },
}  # fmt: skip


async def until_true(read: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await read():
            await asyncio.sleep(0.05)


async def exhaust(node: Running, headers: dict[str, str], status: int) -> None:
    for _ in range(3):
        await node.refused(status, "POST", "/whep/a/b", data=OFFER, headers=SDP | headers)
    given, body = await node.refused(429, "POST", "/whep/a/b", data=OFFER, headers=SDP | headers)
    assert 1 <= int(given["Retry-After"]) <= 100 and "refused" in body["detail"]


async def test_stranger_burns_neither_the_joins_nor_the_refusals_of_a_good_token() -> None:
    async with running(**FEW) as node:
        await exhaust(node, {}, 401)
        await node.refused(429, "POST", "/whep/a/b", data=OFFER, headers=SDP | token("a", secret="x" * 40))
        await node.refused(429, "GET", "/api/rooms")
        await node.refused(429, "GET", "/nowhere")
        for _ in range(5):
            await node.join_as("/whep/a/b", token("a", "carol"))
        given, body = await node.refused(429, "POST", "/whep/a/b", data=OFFER, headers=SDP | token("a", "carol"))
        assert "joins" in body["detail"] and int(given["Retry-After"]) > 1
        assert (await node.ask("GET", "/healthz"))[0] == 200


async def test_member_who_sends_nonsense_is_stopped_before_its_body_is_read() -> None:
    async with running(**FEW) as node:
        mallory = token("a", "mallory")
        _, headers, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=SDP | mallory)
        url = headers["Location"]
        for _ in range(3):
            await node.refused(428, "PATCH", url, headers=mallory | {"Content-Type": "application/trickle-ice-sdpfrag"})
        await node.refused(429, "PATCH", url, headers=mallory)
        await node.refused(429, "DELETE", url, headers=mallory)
        assert (await node.ask("GET", "/api/rooms", headers=token("a", "carol")))[0] == 200


async def test_refusals_come_back_with_time() -> None:
    sections = FEW | {"limits": FEW["limits"] | {"refusals_per_second": 5.0}}
    async with running(**sections) as node:
        found = [(await node.ask("GET", "/api/rooms"))[0] for _ in range(20)]
        assert set(found) == {401, 429} and found[:3] == [401] * 3

        async def refused_as_usual() -> bool:
            return (await node.ask("GET", "/api/rooms"))[0] == 401

        await until_true(refused_as_usual)


async def test_forwarded_clients_have_buckets_of_their_own() -> None:
    async with running(**FEW, http={"trusted_proxies": ["127.0.0.1"]}) as node:
        await exhaust(node, {"X-Forwarded-For": "192.0.2.1"}, 401)
        await node.refused(401, "GET", "/api/rooms", headers={"X-Forwarded-For": "192.0.2.2"})
        await exhaust(node, {"X-Forwarded-For": "2001:db8::1"}, 401)
        await node.refused(429, "GET", "/api/rooms", headers={"X-Forwarded-For": "2001:db8::2"})
    async with running(**FEW) as node:
        for k in range(3):
            await node.refused(401, "GET", "/api/rooms", headers={"X-Forwarded-For": f"192.0.2.{k}"})
        await node.refused(429, "GET", "/api/rooms", headers={"X-Forwarded-For": "192.0.2.9"})


async def test_loopback_is_free_of_the_limit_where_that_is_said() -> None:
    sections = FEW | {"limits": FEW["limits"] | {"unlimited_loopback_joins": True}}
    async with running(**sections) as node:
        for _ in range(10):
            await node.refused(401, "GET", "/api/rooms")
