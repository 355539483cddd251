"""People come and go: against a node that wants tokens, against servers that talk nonsense, and with no room left."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from aiohttp import web

from loadtest.engine.layout import MS, SECOND
from loadtest.run.crowd import KINDS_OF_FAULTS
from loadtest.run.people import Session
from tests.e2e.loadtest_runs import compiled
from tests.e2e.loadtest_scenes import answering, farewells, scene, time_passes, transports, transports_become, until
from tests.e2e.node import Node
from tests.unit.loadtest.run.scenarios import SYNTHETIC

__all__ = ["compiled"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(200, func_only=True),
    pytest.mark.usefixtures("compiled"),
]
SDP = "application/sdp"
DELETED = "the client left"  # the node's word for a session that ended by DELETE
PATIENT = {"rate": 500.0, "timeout": 60.0}  # joins on a busy machine
SOUND: dict[str, Any] = {"audio": {}}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_everybody_joins_receives_and_leaves(strict_node: Node) -> None:
    before, files = await transports(strict_node), descriptors()
    async with scene("joins", strict_node.base) as made:
        await made.join()
        await until(lambda: made.total.frames >= 15)
        crowd, total = made.crowd, made.total
        assert (crowd.attempted, crowd.done, crowd.failed) == (4, 4, 0)
        assert (crowd.sessions, crowd.watching) == (4, 3)
        assert {person.state for person in made.roster.everybody} == {"here"} and not crowd.faults()
        assert total.checked > 0 and (total.wrong, total.refused, total.garbage, total.excess) == (0, 0, 0, 0)
        assert total.latency.sum() > 0 and total.latency_max < SECOND
        await transports_become(strict_node, before + 4)
        crowd.note_all_steps()
        await crowd.everybody_out(made.roster.everybody)
        await transports_become(strict_node, before)
        assert crowd.sessions == 0 and made.total.frames >= total.frames and not crowd.faults()
        for step in crowd.steps:
            assert step.packet is not None and step.frame is not None
            assert 0 < step.http and 0 < step.ice and 0 < step.dtls
            assert step.http + step.ice + step.dtls < step.packet + 50 and step.packet <= step.frame
        assert len(crowd.steps) == 3
        assert len({made.engine.reserve() for _ in range(16)}) == 16
    await asyncio.sleep(0)
    assert descriptors() <= files + 1  # a connection that the node's own client may have opened


async def test_a_dtls_alert_reaches_the_server_when_somebody_leaves(strict_node: Node) -> None:
    before = await transports(strict_node)
    async with scene("alerts", strict_node.base) as made:
        await made.join()
        for session in made.person(0).sessions:
            session.handle = ""  # no DELETE
        await made.crowd.leave(made.person(0))
        await transports_become(strict_node, before + 3)
        assert made.person(0).state == "away" and made.crowd.watching == 2


async def test_who_was_killed_says_nothing_any_more(strict_node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.transport.ice.CONSENT_PAUSE", (0.02, 0.03))
    async with scene("kills", strict_node.base, subscribers=[{"name": "audience", "count": 1}]) as made:
        await made.join()
        (publisher,), viewer = made.roster.publishers[0].sessions, made.person(0)
        session, peer = viewer.sessions[0], viewer.sessions[0].peer
        assert peer is not None and publisher.peer is not None
        await until(lambda: peer.consents > 2 and made.total.packets > 8)
        before = await transports(strict_node)
        for person in made.roster.everybody:
            made.crowd.kill(person)
        handles = [session.handle, publisher.handle]
        first, sent = await strict_node.metrics(), made.total.datagrams
        came = await until_still(strict_node)
        consents = peer.consents
        await time_passes(made, 300)
        last = await strict_node.metrics()
        for name in ("stun", "dtls", "rtcp"):
            assert last.total(f"weir_{name}_packets_total") == came[name], name
        assert first.total("weir_packets_received_total") <= last.total("weir_packets_received_total") == came["all"]
        assert made.total.datagrams <= sent + 8 and peer.consents == consents and viewer.state == "dead"
        await asyncio.gather(*(made.crowd.bury(person) for person in made.roster.everybody))
        assert peer.socket.fileno() == -1 and made.crowd.sessions == 0 and not viewer.sessions
        await time_passes(made, 100)
        assert await transports(strict_node) == before  # no alert came
        assert not made.crowd.faults()
        for handle in handles:
            await made.driver.leave(handle)


async def until_still(node: Node) -> dict[str, float]:
    """What the node has received when it receives no more."""
    last: dict[str, float] = {}
    async with asyncio.timeout(5):
        while True:
            metrics = await node.metrics()
            now = {name: metrics.total(f"weir_{name}_packets_total") for name in ("stun", "dtls", "rtcp")}
            now["all"] = metrics.total("weir_packets_received_total")
            if now == last:
                return now
            last = now
            await asyncio.sleep(0.1)


async def test_when_there_is_no_room_left_the_rest_is_a_fault(strict_node: Node) -> None:
    async with scene("full", strict_node.base, capacity=2) as made:
        await made.join()
        assert (made.crowd.done, made.crowd.failed) == (2, 2)
        (fault,) = made.crowd.faults()
        assert (fault.group, fault.count) == ("audience", 2)
        assert fault.what == "join failed: the engine has 2 clients, all of them in use"
        assert sorted(person.state for person in made.roster.subscribers) == ["failed", "failed", "here"]
        await until(lambda: made.total.packets > 0)


async def test_sources_that_do_not_fit_are_a_fault_and_leave_nothing(strict_node: Node) -> None:
    before = await transports(strict_node)
    hosts = {"name": "hosts", "media": "synthetic", "count": 9}
    async with scene("sources", strict_node.base, publishers=[hosts], subscribers=[]) as made:
        made.engine._free_sources = made.engine._free_sources[:2]
        await made.join()
        assert (made.crowd.done, made.crowd.failed, made.crowd.sessions) == (2, 7, 2)
        assert made.crowd.faults()[0].what == "join failed: the answer can't be used: no room for another source"
        await transports_become(strict_node, before + 2)
        assert len(made.engine._free_clients) == 14 and made.engine._free_sources == []


async def test_who_shows_no_token_is_turned_away(strict_node: Node) -> None:
    async with scene("tokens", strict_node.base, target={"url": strict_node.base}) as made:
        await made.join()
        assert made.crowd.done == 0 and made.crowd.failed == 4
        assert all(": 401" in fault.what for fault in made.crowd.faults())
        assert len(made.engine._free_clients) == 16 and made.crowd.sessions == 0


async def test_a_session_that_the_server_ends_is_a_fault_of_the_client(strict_node: Node) -> None:
    async with scene("ended", strict_node.base) as made:
        await made.join()
        await until(lambda: made.total.packets > 0)
        session = made.person(1).sessions[0]
        await made.driver.leave(session.handle)  # behind the crowd's back
        await until(lambda: bool(made.crowd.faults()))
        (fault,) = made.crowd.faults()
        assert fault.what == session.ended and "closed" in fault.what and fault.client == made.person(1).identity
        assert (made.crowd.sessions, made.crowd.watching) == (4, 2)
        await made.crowd.leave(made.person(1))
        assert made.crowd.sessions == 3 and len(made.crowd.faults()) == 1


@pytest.mark.timeout(300, func_only=True)  # on a busy machine; nothing here depends on how long it takes
async def test_leaving_that_is_cancelled_is_finished_by_the_next_call(strict_node: Node) -> None:
    before = await transports(strict_node)
    audience = [{"name": "audience", "count": 6}]
    async with scene("cancelled", strict_node.base, subscribers=audience, joins=PATIENT) as made:
        await made.join()
        packets = 0
        for steps, person in enumerate(made.roster.subscribers):
            leaving = asyncio.create_task(made.crowd.leave(person))
            for _ in range(steps * 4):
                await asyncio.sleep(0.001)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await made.crowd.leave(person)
            assert not person.sessions and made.crowd.sessions == 6 - steps
            assert made.total.packets >= packets
            packets = made.total.packets
        await transports_become(strict_node, before + 1)
        assert farewells(strict_node, made.scenario) == {DELETED: 6}, "each was told, and none just timed out"


async def test_a_goodbye_that_was_cancelled_before_it_left_is_said_again(
    strict_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = await transports(strict_node), asyncio.Event()

    async def hang(*request: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with scene("goodbye", strict_node.base, subscribers=[{"name": "audience", "count": 1}]) as made:
        await made.join()
        with monkeypatch.context() as patch:
            patch.setattr(made.driver, "_request", hang)
            leaving = asyncio.create_task(made.crowd.leave(made.person(0)))
            await asked.wait()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        await made.crowd.leave(made.person(0))
        await transports_become(strict_node, before + 1)
        assert farewells(strict_node, made.scenario) == {DELETED: 1}


async def test_a_join_that_is_cancelled_leaves_nothing_on_either_side(strict_node: Node) -> None:
    before, files = await transports(strict_node), descriptors()
    async with scene("cancelled-joins", strict_node.base, subscribers=[{"name": "audience", "count": 12}]) as made:
        await made.crowd.join(made.roster.publishers[0])
        for steps, person in enumerate(made.roster.subscribers):
            joining = asyncio.create_task(made.crowd.join(person))
            for _ in range(steps * 2):
                await asyncio.sleep(0.001)
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
    await transports_become(strict_node, before)
    assert descriptors() <= files + 1


async def test_a_session_that_the_server_makes_after_a_join_was_given_up_is_ended() -> None:
    asked, answered, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            ended.append(request.path)
            return web.Response()
        asked.set()
        await answered.wait()
        return web.Response(status=201, text="v=0\r\n", content_type=SDP, headers={"Location": "/session/1"})

    async with answering(handler) as url, scene("given-up", url) as made:
        joining = asyncio.create_task(made.crowd.join(made.person(0)))
        await asked.wait()
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        leaving = asyncio.create_task(made.crowd.everybody_out(made.roster.everybody))
        await asyncio.sleep(0)
        answered.set()
        await leaving
        assert ended == ["/session/1"] and not made.person(0).sessions
        asked.clear()
        answered.clear()
        joining = asyncio.create_task(made.crowd.join(made.person(1)))
        await asked.wait()
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        made.crowd.close()  # no time to wait for the answer
        await made.crowd.leave(made.person(1))
        assert ended == ["/session/1"]


async def test_a_bad_network_is_there_from_the_first_check_on(strict_node: Node) -> None:
    networks = {"far": {"down": {"delay": 40.0}, "up": {"delay": 30.0}}}
    viewers = [{"name": "audience", "count": 1, "network": "far"}]
    async with scene("far", strict_node.base, networks=networks, subscribers=viewers) as made:
        await made.join()
        await until(lambda: made.total.frames > 3)
        made.crowd.note_all_steps()
        (step,) = made.crowd.steps
        assert step.ice >= 70 and step.dtls >= 140 and step.http < 10_000
        assert int(made.engine.totals()[1].latency[:120].sum()) == 0  # 120: up to 33 ms
        assert made.total.latency_max >= 40 * MS


async def test_what_came_during_a_delayed_handshake_is_not_lost(strict_node: Node) -> None:
    networks = {"far": {"down": {"delay": 150.0}}}
    viewers = [{"name": "audience", "count": 4, "network": "far"}]
    async with scene("early", strict_node.base, networks=networks, subscribers=viewers) as made:
        await made.join()
        await until(lambda: made.total.frames > 40)
        total = made.total
        assert (total.plis, total.nacks, total.lost, total.missed, total.wrong) == (0, 0, 0, 0, 0)
        made.crowd.note_all_steps()
        for step in made.crowd.steps:
            assert step.packet is not None


async def test_chance_is_a_client_s_own_whoever_came_before() -> None:
    networks = {"lossy": {"down": {"loss": {"share": 0.1, "burst": 3}}}}
    viewers = [{"name": "audience", "count": 3, "network": "lossy"}]
    seeds: list[list[int]] = []
    for order in (1, -1):
        async with scene("seeds", "http://127.0.0.1:9", networks=networks, subscribers=viewers) as made:
            found = {}
            for person in made.roster.subscribers[::order]:
                index = made.engine.reserve()
                made.crowd._set_network(person, Session("hosts-1"), index)
                found[person.identity] = int(made.engine.clients.rows[index].down.random)
            index = made.engine.reserve()
            made.crowd._set_network(made.person(0), Session("hosts-2"), index)
            found["other"] = int(made.engine.clients.rows[index].down.random)
            seeds.append([found[name] for name in sorted(found)])
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 4


async def test_sound_alone_is_received_without_comparing_it(strict_node: Node) -> None:
    hosts = {"name": "hosts", "media": "sound"}
    async with scene(
        "sound", strict_node.base, media={"sound": SOUND, "synthetic": SYNTHETIC}, publishers=[hosts]
    ) as made:
        await made.join()
        await until(lambda: made.total.packets > 30)
        total = made.total
        assert (total.wrong, total.checked, total.videos) == (0, 0, 0) and total.latency.sum() > 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("v=0\r\nthis is no session description\r\n", "the answer can't be used"),
        ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "the answer can't be used"),
        ("hello", "without an SDP answer"),
    ],
)
async def test_an_answer_of_no_use_is_a_fault_and_its_session_is_ended(answer: str, said: str) -> None:
    asked: list[str] = []
    ended: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            ended.append(request.path)
            return web.Response()
        asked.append(request.path)
        location = {"Location": f"/session/{len(asked)}"}
        return web.Response(status=201, text=answer, content_type=SDP, headers=location)

    async with answering(handler) as url, scene("nonsense", url) as made:
        await made.join()
        assert (made.crowd.done, made.crowd.failed) == (0, 4)
        assert all(said in fault.what for fault in made.crowd.faults())
        wanted = 4 if "can't be used" in said else 0
        assert len(set(ended)) == len(ended) == wanted and len(made.engine._free_clients) == 16
        await made.crowd.everybody_out(made.roster.everybody)
        assert len(ended) == wanted


async def test_an_answer_that_leads_to_another_host_is_not_followed() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            return web.Response()
        lines = [line for line in (await request.text()).splitlines() if not line.startswith(("a=candidate", "a=ssrc"))]
        text = "\r\n".join(line.replace("a=setup:actpass", "a=setup:passive") for line in lines)
        text = (
            text.replace("a=sendonly", "a=recvonly") if "a=sendonly" in text else text.replace("recvonly", "sendonly")
        )
        text += "\r\na=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n"
        location = {"Location": f"{request.path}/session"}
        return web.Response(status=201, text=text, content_type=SDP, headers=location)

    begun = time.monotonic()
    async with answering(handler) as url, scene("elsewhere", url, joins=PATIENT) as made:
        await made.join()
        assert made.crowd.failed == 4
        assert all("192.0.2.1 is not loopback" in fault.what for fault in made.crowd.faults())
    assert time.monotonic() - begun < 45  # not the 60 s that a join may take


async def test_kinds_of_faults_are_bounded() -> None:
    async with scene("kinds", "http://127.0.0.1:9") as made:
        for k in range(2 * KINDS_OF_FAULTS):
            made.crowd.note(made.person(k % 3), f"session {k} is odd")
        faults = made.crowd.faults()
        assert len(faults) == KINDS_OF_FAULTS + 1 and sum(fault.count for fault in faults) == 2 * KINDS_OF_FAULTS
        assert (faults[0].what, faults[0].count) == ("something else went wrong", KINDS_OF_FAULTS)


async def test_closing_at_once_stops_the_peers_of_who_is_still_there(strict_node: Node) -> None:
    async with scene("closing", strict_node.base) as made:
        before = await transports(strict_node)
        await made.join()
        peers: list[Any] = [session.peer for person in made.roster.everybody for session in person.sessions]
        made.crowd.close()
        assert all(peer._timer is None and peer._ended for peer in peers)
        await transports_become(strict_node, before)
        assert not made.crowd.faults()
