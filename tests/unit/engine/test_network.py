"""What depends on the kernel's network stack: families, source addresses, segmentation that it refuses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine
from tests.unit.engine.peers import Peer, small_config, until
from tests.unit.engine.test_forwarding import VP8_TYPE, send_video

SO_NO_CHECK = 11


@asynccontextmanager
async def running(**media: Any) -> AsyncIterator[Engine]:
    engine = Engine(small_config(1, **media))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


class Addressed(Peer):
    """A peer on another address than 127.0.0.1."""

    def __init__(self, engine: Engine, own: str, server: str) -> None:
        super().__init__(engine, engine.workers[0])
        self.sock.close()
        self.sock = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((own, 0))
        self.sock.setblocking(False)
        self.server = (server, engine.workers[0].port)


async def stream_through(engine: Engine, publisher: Peer, viewer: Peer, sizes: list[int]) -> list[int]:
    """Send packets of these payload sizes in one burst; the sizes that the viewer got, after its first keyframe."""
    publisher.transport.set_receiving(kinds={1: MID}, codecs={VP8_TYPE: codecs.VP8}, repairs={}, twcc=False)
    layer = publisher.transport.add_layer(kind=L.VIDEO, mid="1", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000)
    subscription = viewer.transport.add_subscription(kind=L.VIDEO, mid="v", cname="c", clock_rate=90000)
    await publisher.connect()
    await viewer.connect()
    send_video(publisher, 100, 1, key=True)
    await until(lambda: layer.codec != 0)
    subscription.set_source(layer, 120)
    await viewer.receive(1)
    for k, size in enumerate(sizes, 1):
        send_video(publisher, 100 + k, 1 + k, size=size)
    packets = await viewer.receive(1 + len(sizes))
    for peer in (publisher, viewer):
        await asyncio.wait_for(peer.transport.close(), 5)
        peer.close()
    return [len(packet.payload) for packet in packets[1:]]


@pytest.mark.parametrize("publishing, watching", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
async def test_one_dual_stack_socket_serves_both_families(publishing: str, watching: str) -> None:
    sizes = [1100, 1101, 1100, 400]
    async with running(host="::") as engine:
        publisher = Addressed(engine, publishing, publishing)
        viewer = Addressed(engine, watching, watching)
        assert await stream_through(engine, publisher, viewer, sizes) == sizes
        assert int(engine.workers[0].counters.gso_refused) == 0


async def test_media_and_answers_leave_from_the_address_that_was_asked() -> None:
    async with running(host="0.0.0.0") as engine:
        viewer = Addressed(engine, "127.0.0.1", "127.0.0.2")
        probe = viewer.sock
        probe.setblocking(True)
        probe.settimeout(5)
        viewer.check()
        _, source = await asyncio.to_thread(probe.recvfrom, 2048)
        assert source == ("127.0.0.2", engine.workers[0].port)
        probe.setblocking(False)
        await asyncio.wait_for(viewer.connected, 5)
        viewer.transport.send(b"\x16datagram by control")
        await until(lambda: (got := receive_from(probe)) is not None and got == source)
        await viewer.transport.close()
        viewer.close()


def receive_from(sock: socket.socket) -> tuple[str, int] | None:
    """Where the next waiting datagram came from."""
    try:
        address: tuple[str, int] = sock.recvfrom(2048)[1]
    except BlockingIOError:
        return None
    return address


async def test_trains_that_the_kernel_refuses_leave_packet_by_packet() -> None:
    sizes = [1100, 1101] * 100  # a burst in which trains are likely; test_sending has them for certain
    async with running() as engine:
        worker = engine.workers[0]
        assert worker.socket is not None
        worker.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # the kernel cuts no datagrams without checksums
        publisher, viewer = Peer(engine, worker), Peer(engine, worker)
        assert await stream_through(engine, publisher, viewer, sizes) == sizes
        assert int(worker.counters.drop_send) == 0
