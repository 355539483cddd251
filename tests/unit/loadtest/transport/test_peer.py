"""One client's transport against a server on loopback: both DTLS roles, lite and full ICE, loss, ends, what is left."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import select
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from loadtest.transport import ice
from loadtest.transport.peer import JoinError
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts, State
from packetio.srtp import SrtpContexts
from tests.unit.loadtest.transport.answering import HOST, opened, seal, server
from tests.unit.loadtest.transport.reading import ReadingPeer

CONTEXTS = DtlsContexts(Certificate.generate())
RTP = bytes((0x80, 111, 0, 1)) + bytes(8) + b"payload"
SECOND = 1_000_000_000


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[ReadingPeer]:
    made = ReadingPeer(CONTEXTS)
    yield made
    made.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(accept: Callable[[], object], seconds: float = 5.0) -> None:
    """Look again whenever the loop has come round. AssertionError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not accept():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("checks", [False, True], ids=["lite", "full"])
@pytest.mark.parametrize("setup", ["passive", "active"])
async def test_a_transport_is_made_with_either_role_and_kind(peer: ReadingPeer, setup: str, checks: bool) -> None:
    async with server(peer, setup, checks) as answering:
        if checks:
            answering.check()  # before our own: it waits in the socket
        await peer.connect(answering.remote, 5)
        times = peer.timings
        assert 0 < times.begun <= times.answered <= times.connected <= times.secured
        await until(lambda: answering.endpoint.state is State.CONNECTED)
        assert answering.endpoint.srtp_profile == peer.contexts.profile  # type: ignore[union-attr]
        assert len(answering.responses) == checks
        if checks:
            assert answering.responses[0].attributes["XOR-MAPPED-ADDRESS"] == answering.address


async def test_media_opens_on_the_other_side(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        await peer.connect(answering.remote, 5)
        assert peer.contexts
        endpoint = answering.endpoint
        await until(lambda: endpoint.state is State.CONNECTED)
        theirs = SrtpContexts(endpoint.srtp_profile, *endpoint.srtp_keys())
        got: list[bytes] = []
        peer.read(got.append)
        sealed = seal(theirs, RTP)
        answering.transport.sendto(sealed, (HOST, peer.local.port))
        peer.send(seal(peer.contexts, RTP))
        await until(lambda: got and answering.media)
        assert opened(peer.contexts, got[0]) == RTP and opened(theirs, answering.media[0]) == RTP
        theirs.close()


async def test_what_comes_after_the_handshake_stays_in_the_socket(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        await peer.connect(answering.remote, 5)
        await until(lambda: answering.endpoint.state is State.CONNECTED)
        answering.transport.sendto(RTP, (HOST, peer.local.port))
        await asyncio.sleep(0)
        sock = peer.detach()
        await until(lambda: readable(sock.fileno()))
        assert sock.recv(2048) == RTP and sock.getpeername() == answering.address
        peer.close()
        assert sock.fileno() >= 0  # whoever took it closes it
        sock.close()
        assert peer.contexts is not None
        peer.contexts.close()


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.mark.parametrize("setup", ["passive", "active"])
async def test_lost_datagrams_are_sent_again(peer: ReadingPeer, setup: str) -> None:
    """The first check and the first datagram of each side's handshake never arrive."""
    seen: set[int] = set()

    def first_of_its_kind(data: bytes) -> bool:
        kind = min(data[0], 20)
        new = kind not in seen
        seen.add(kind)
        return new

    lost = iter([True])

    def gate(outgoing: bool, size: int, now: int) -> int:
        return -1 if not outgoing and size > 200 and next(lost, False) else 0

    peer.gate = gate
    async with server(peer, setup) as answering:
        answering.drop = first_of_its_kind
        await peer.connect(answering.remote, 20)
        assert peer.contexts and seen == {0, 20}


async def test_a_network_with_delay_and_loss_applies_to_the_handshake(peer: ReadingPeer) -> None:
    source, delays = random.Random(3), 0.03

    def gate(outgoing: bool, size: int, now: int) -> int:
        return -1 if source.random() < 0.1 else now + int(delays * SECOND)

    peer.gate = gate
    async with server(peer) as answering:
        await peer.connect(answering.remote, 30)
        times = peer.timings
        assert times.connected - times.answered >= 2 * delays * SECOND
        assert times.secured - times.connected >= 4 * delays * SECOND  # two round trips


async def test_media_that_a_gate_holds_beyond_the_handshake_is_handed_over(peer: ReadingPeer) -> None:
    holding = False

    def gate(outgoing: bool, size: int, now: int) -> int:
        return now + SECOND if holding and not outgoing else 0

    peer.gate = gate
    async with server(peer) as answering:
        await peer.connect(answering.remote, 5)
        holding = True
        peer._through_gate(False, RTP, answering.address)
        peer.detach()
        ((release, data),) = peer.early
        assert data == RTP and release > peer.timings.secured
        assert peer.contexts
        peer.contexts.close()
        peer.close()
        peer.socket.close()


async def test_the_server_that_closes_is_reported_once(peer: ReadingPeer) -> None:
    told: list[str] = []
    async with server(peer) as answering:
        await peer.connect(answering.remote, 5)
        await until(lambda: answering.endpoint.state is State.CONNECTED)
        peer.closed = told.append
        peer.keep_alive()
        answering.endpoint.close()
        (notify,) = answering.endpoint.datagrams()
        peer.take(notify)
        peer.take(notify)
        assert told == ["the server closed DTLS"]


async def test_checks_that_the_engine_hands_up_are_answered(peer: ReadingPeer) -> None:
    async with server(peer, checks=True) as answering:
        await peer.connect(answering.remote, 5)
        sock = peer.detach()
        answering.check()
        await until(lambda: readable(sock.fileno()))
        peer.take(sock.recv(2048))
        peer.take(b"")
        peer.take(b"\x00\x01 noise")
        await until(lambda: answering.responses)
        assert answering.responses[0].attributes["XOR-MAPPED-ADDRESS"] == answering.address
        peer.close()
        sock.close()
        assert peer.contexts
        peer.contexts.close()


async def test_consent_is_renewed_and_its_end_reported_once(peer: ReadingPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "CONSENT_PAUSE", (0.01, 0.02))
    monkeypatch.setattr(ice, "CONSENT_LASTS", 0.2)
    told: list[str] = []
    async with server(peer) as answering:
        await peer.connect(answering.remote, 5)
        peer.lost = told.append
        peer.read(lambda data: None)
        peer.keep_alive()
        await until(lambda: peer.consents >= 5)
        assert not told
        answering.mute = True
        await until(lambda: told)
        count = len(answering.requests)
        assert told == ["the server answered no connectivity check for 30 s"]
        answering.check()  # neither answered nor a reason to begin again
        await asyncio.sleep(0.05)
        assert len(told) == 1 and len(answering.requests) == count and not answering.responses


async def test_a_server_that_is_silent_ends_the_join_in_time(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        answering.mute = True
        with pytest.raises(JoinError, match=r"ICE: no good answer from 127.0.0.1:\d+ within 0.3 s$") as caught:
            await peer.connect(answering.remote, 0.3)
        assert caught.value.step == "ice"


async def test_a_port_that_nobody_has_is_named(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        remote = answering.remote
    await asyncio.sleep(0)
    with pytest.raises(JoinError, match="port unreachable"):
        await peer.connect(remote, 0.3)


async def test_a_server_without_dtls_ends_the_join_in_time(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        answering.drop = lambda data: data[0] > 3
        with pytest.raises(JoinError, match=r"DTLS with 127.0.0.1:\d+ took more than 0.3 s") as caught:
            await peer.connect(answering.remote, 0.3)
        assert caught.value.step == "dtls"


async def test_another_certificate_than_the_answer_names_is_refused(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        forged = replace(answering.remote, fingerprints=(("sha-256", ":".join(["AB"] * 32)),))
        with pytest.raises(JoinError, match="fingerprint"):
            await peer.connect(forged, 5)
        weak = replace(answering.remote, fingerprints=(("sha-1", ":".join(["AB"] * 20)),))
        with pytest.raises(JoinError, match="no fingerprint of a hash we trust"):
            await peer.connect(weak, 5)


async def test_nothing_is_sent_to_other_hosts(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        elsewhere = replace(answering.remote, candidates=(("192.0.2.1", 4000), ("10.0.0.1", 4000)))
        with pytest.raises(JoinError, match=r"192.0.2.1 is not loopback \(--allow-remote\)") as caught:
            await peer.connect(elsewhere, 5)
        assert caught.value.step == "address"


async def test_other_hosts_and_families_are_passed_over_for_one_that_can_be_reached(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        candidates = (("192.0.2.1", 4000), ("::1", 4000), answering.address)
        await peer.connect(replace(answering.remote, candidates=candidates), 5)
        with pytest.raises(JoinError, match="127.0.0.1 has no way to the server's ::1"):
            other = ReadingPeer(CONTEXTS)
            try:
                await other.connect(replace(answering.remote, candidates=(("::1", 4000),)), 5)
            finally:
                other.close()


async def test_a_second_address_is_tried_while_the_first_is_silent(peer: ReadingPeer) -> None:
    async with server(peer) as silent, server(peer, checks=True) as answering:
        silent.drop = lambda data: True
        remote = replace(answering.remote, candidates=(silent.address, answering.address))
        await peer.connect(remote, 5)
        assert peer.socket.getpeername() == answering.address
        assert ["USE-CANDIDATE" in request.attributes for request in answering.requests] == [False, True]


async def test_joins_that_are_given_up_leave_nothing(peer: ReadingPeer) -> None:
    async with server(peer) as answering:
        remote, before = answering.remote, descriptors()
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind((HOST, 0))
            for _ in range(5):
                other = ReadingPeer(CONTEXTS)
                task = asyncio.create_task(other.connect(replace(remote, candidates=(silent.getsockname(),)), 10))
                await until(lambda: readable(silent.fileno()))
                silent.recv(2048)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                other.close()
                other.close()  # twice is nothing
        assert descriptors() == before
    gc.collect()  # warnings are errors: a socket left open would show


async def test_leaving_says_goodbye_and_frees_all() -> None:
    other = ReadingPeer(CONTEXTS)
    async with server(other) as answering:
        await other.connect(answering.remote, 5)
        other.read(lambda data: None)
        other.keep_alive()
        await until(lambda: answering.endpoint.state is State.CONNECTED)
        before = descriptors()
        other.close()
        await until(lambda: answering.endpoint.state is State.CLOSED)
        assert descriptors() == before - 1 and other.contexts is None
