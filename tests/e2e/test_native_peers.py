"""Clients made by hand, for what browsers do not do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from loadtest.transport.offers import watch_offer
from tests.e2e.browser import Tabs, codec, got
from tests.e2e.native_peer import HelloInTwo, contexts, join, offer, send_h264
from tests.e2e.node import Node
from tests.unit.loadtest.transport.reading import ReadingPeer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]


P = TypeVar("P", bound=ReadingPeer)


@contextlib.asynccontextmanager
async def closing(peer: P) -> AsyncIterator[P]:
    """Close the peer at the end."""
    try:
        yield peer
    finally:
        peer.close()


async def test_client_hello_in_two_datagrams_is_answered(node: Node, room: str) -> None:
    async with closing(HelloInTwo(contexts())) as peer:
        location = await join(node, f"/whep/{room}/alice", peer, watch_offer(peer.local))
        assert peer.splits and peer.contexts is not None
        async with node.http.delete(location) as response:
            assert response.status == 200


async def test_h264_with_parameter_sets_only_at_its_start_can_be_joined_late(node: Node, tabs: Tabs, room: str) -> None:
    async with closing(ReadingPeer(contexts())) as peer:
        location = await join(node, f"/whip/{room}/alice", peer, offer(peer.local))
        sending = asyncio.create_task(send_h264(peer))
        try:
            first = await tabs.watch(node, room)
            await first.frames(60)  # the second IDR picture is past: it came bare
            late = await tabs.watch(node, room)
            stats = await late.frames(30)
            assert codec(stats) == "video/H264" and got(stats, "frameWidth") == 320
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        async with node.http.delete(location) as response:
            assert response.status == 200
