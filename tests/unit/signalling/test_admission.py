"""Admission by share: what one offer, one identity and one address can take, and that all of it comes back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadtest.stun import binding_request, new_transaction
from loadtest.transport.offers import read_answer
from tests.unit.engine.peers import free_port, until
from tests.unit.signalling.nodes import OFFER, SDP, Running, running


def sections(count: int, *, publish: bool, layers: int = 0) -> str:
    """An offer with so many video sections, each with so many simulcast layers."""
    offer = OFFER.replace("recvonly", "sendonly") if publish else OFFER
    head, *parts = re.split(r"(?=^m=)", offer, flags=re.MULTILINE)
    (video,) = [part for part in parts if part.startswith("m=video")]
    mid = re.search(r"a=mid:(\S+)", video)
    assert mid
    rids = [f"r{k}" for k in range(layers)]
    more = "".join(f"a=rid:{rid} send\r\n" for rid in rids) + f"a=simulcast:send {';'.join(rids)}\r\n" if rids else ""
    ids = "a=extmap:12 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n" if rids else ""
    made = [video.replace(f"a=mid:{mid[1]}\r\n", f"a=mid:s{k}\r\n{ids}{more}") for k in range(count)]
    bundle = "a=group:BUNDLE " + " ".join(f"s{k}" for k in range(count))
    return re.sub(r"a=group:BUNDLE.*?(?=\r\n)", bundle, head) + "".join(made)


def taken(node: Running) -> list[tuple[int, int, int, int]]:
    return [(w.transport_used, w.layer_used, w.subscription_used, w.logs_used) for w in node.node.engine.workers]


@pytest.mark.parametrize(
    ("path", "offer", "word"),
    [
        ("/whip/r/ann", sections(9, publish=True), "9 tracks"),
        ("/whip/r/ann", sections(4, publish=True, layers=4), "16 layers"),
        ("/whep/r/ann", sections(33, publish=False), "33 tracks to receive"),
    ],
)
async def test_offer_of_more_than_a_share_is_refused_and_takes_nothing(path: str, offer: str, word: str) -> None:
    async with running() as node:
        _, problem = await node.refused(403, "POST", path, data=offer, headers=SDP)
        assert word in problem["detail"]
        assert taken(node) == [(0, 0, 0, 0)] and not node.node.sessions.rooms
        assert node.node.sessions.admission.handshakes.total == node.node.sessions.admission.viewers.total == 0


async def test_offer_of_a_whole_share_is_served(node: Running) -> None:
    status, _, _ = await node.ask("POST", "/whip/r/ann", data=sections(4, publish=True, layers=3), headers=SDP)
    assert status == 201 and taken(node) == [(1, 12, 0, 12)]
    status, _, _ = await node.ask("POST", "/whep/r/ann", data=sections(32, publish=False), headers=SDP)
    assert status == 201 and taken(node)[0][2] == 32


async def test_unfinished_joins_of_an_identity_make_way_for_the_newest() -> None:
    async with running(limits={"sessions_per_identity": 3, "transports": 32}) as node:
        connected = await node.join("/whip/r/ann")
        waiting = [await node.join("/whip/r/ann", connect=False) for _ in range(5)]
        assert len(node.node.sessions.sessions) == 3
        for gone in (*waiting[:3],):
            await node.refused(404, "DELETE", gone.location)
        await waiting[-1].connect()
        await until(lambda: connected.dtls == "closed")
        await node.join("/whip/r/bob")
        await until(lambda: taken(node)[0][0] == 3)


async def test_viewers_of_one_address_have_their_share_and_get_it_back() -> None:
    limits = {"viewers_per_source": 2, "unlimited_loopback_joins": False, "joins_burst": 50}
    async with running(limits=limits) as node:
        first, _ = [await node.join("/whep/r/ann") for _ in range(2)]
        headers, problem = await node.refused(429, "POST", "/whep/r/ann", data=OFFER, headers=SDP)
        assert "2 viewers" in problem["detail"] and int(headers["Retry-After"]) > 0
        await node.join("/whip/r/ann")
        assert (await node.ask("DELETE", first.location))[0] == 200
        await node.join("/whep/r/ann")


async def test_unfinished_handshakes_of_one_address_have_their_share_and_finished_ones_do_not_count() -> None:
    limits = {"handshakes_per_source": 2, "unlimited_loopback_joins": False, "joins_burst": 50}
    async with running(limits=limits) as node:
        half = [await node.join("/whep/r/ann", connect=False) for _ in range(2)]
        _, problem = await node.refused(429, "POST", "/whep/r/ann", data=OFFER, headers=SDP)
        assert "2 unfinished handshakes" in problem["detail"]
        await half[0].connect()
        await until(lambda: node.node.sessions.admission.handshakes.total == 1)
        await node.refused(400, "POST", "/whep/r/ann", data="v=0\r\n", headers=SDP)
        await node.join("/whep/r/ann")


async def test_publisher_whose_home_is_full_goes_to_another_worker_and_is_seen_from_there() -> None:
    port = free_port(2)
    limits: dict[str, Any] = {"publishers": 1, "layers": 8, "unlimited_loopback_joins": True}
    async with running(media={"host": "127.0.0.1", "port": port, "workers": 2}, limits=limits) as node:
        first = await node.join("/whip/r/ann")
        second = await node.join("/whip/r/bob")
        assert [count[0] for count in taken(node)] == [1, 1]
        viewers = [await node.join("/whep/r/ann"), await node.join("/whep/r/bob")]
        first.send_video()
        second.send_video()
        await until(lambda: all(viewer.packets for viewer in viewers))
        headers, problem = await node.refused(
            503, "POST", "/whip/r/eve", data=OFFER.replace("recvonly", "sendonly"), headers=SDP
        )
        assert "publishers" in problem["detail"]


async def test_time_for_the_handshake_begins_with_the_first_check() -> None:
    async with running(limits={"join_timeout": 60.0, "handshake_timeout": 0.2}) as node:
        silent = await node.join("/whep/r/ann", connect=False)
        half = await node.join("/whep/r/ann", connect=False)
        remote = read_answer(half.answer)
        names = f"{remote.ufrag}:{half.peer.local.ufrag}"
        check = binding_request(names, remote.password, new_transaction(), 1)
        half.peer.socket.sendto(check, remote.candidates[0])  # and no DTLS after it
        await until(lambda: len(node.node.sessions.sessions) == 1)
        await node.refused(404, "DELETE", half.location)
        await silent.connect()
