"""The load test's driver and transport against real servers: a node, and one built on aiortc that may misbehave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import pytest_asyncio

from loadtest.drivers.base import DriverError
from loadtest.drivers.tokens import minted
from loadtest.drivers.whip_whep import WhipWhep
from loadtest.transport.offers import (
    AUDIO,
    VIDEO,
    VIDEO_CODECS,
    PublishSpec,
    Remote,
    Ssrcs,
    publish_offer,
    read_answer,
    watch_offer,
)
from loadtest.transport.peer import JoinError
from mediacodecs.extensions import ABS_CAPTURE_TIME, MID, TWCC
from packetio.certificate import Certificate
from packetio.dtls import DtlsContexts
from tests.e2e.aiortc_peer import Client
from tests.e2e.conftest import MakeNode
from tests.e2e.node import KEY, SECRET, Node
from tests.e2e.waiting import eventually
from tests.unit.loadtest.transport.answering import opened, seal
from tests.unit.loadtest.transport.reading import ReadingPeer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
SERVER = Path(__file__).parents[1] / "peers" / "aiortc_server.py"
CONTEXTS = DtlsContexts(Certificate.generate())
SILENCE = b"\xf8\xff\xfe"  # 20 ms of Opus
TIMEOUT = 10.0


@dataclass
class Joined:
    """A session of ours."""

    peer: ReadingPeer
    remote: Remote
    session: str
    spec: PublishSpec


class Joins:
    """Joins one server; a context that leaves nothing."""

    def __init__(self, url: str, **options: Any) -> None:
        self.driver = WhipWhep(url, timeout=TIMEOUT, **options)
        self.peers: list[ReadingPeer] = []

    async def __aenter__(self) -> Joins:
        return self

    async def __aexit__(self, *error: object) -> None:
        for peer in self.peers:
            peer.close()
        await self.driver.close()

    async def publish(self, room: str, identity: str, spec: PublishSpec) -> Joined:
        peer = self._peer()
        accepted = await self.driver.publish(room, identity, publish_offer(peer.local, spec))
        remote = read_answer(accepted.answer, spec)
        await peer.connect(remote, TIMEOUT)
        return Joined(peer, remote, accepted.session, spec)

    async def watch(self, room: str, publisher: str, layer: str | None = None) -> Joined:
        peer = self._peer()
        accepted = await self.driver.subscribe(room, "viewer", publisher, watch_offer(peer.local), layer)
        remote = read_answer(accepted.answer)
        await peer.connect(remote, TIMEOUT)
        return Joined(peer, remote, accepted.session, PublishSpec())

    def _peer(self) -> ReadingPeer:
        self.peers.append(ReadingPeer(CONTEXTS))
        return self.peers[-1]


@asynccontextmanager
async def aiortc_server(*arguments: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The other server, on a port of its own; ended by its process, whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield line.decode().split()[1], process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), 5)
        except TimeoutError:
            process.kill()
            await process.communicate()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other() -> AsyncIterator[str]:
    """The aiortc server's URL."""
    async with aiortc_server() as (url, _):
        yield url


async def until(accept: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    async def read() -> object:
        return accept()

    await eventually(read, bool, what, seconds=seconds, every=0.02)


def rtp(payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool = False) -> bytes:
    """A packet without extensions."""
    head = bytes((0x80, payload_type | marker << 7)) + sequence.to_bytes(2)
    return head + (timestamp & 0xFFFFFFFF).to_bytes(4) + ssrc.to_bytes(4) + payload


def pictures(count: int) -> list[bytes]:
    """VP8 frames of 64x64 that fit a packet, with their payload descriptors (RFC 7741 4.2)."""
    encoder: Any = av.CodecContext.create("libvpx", "w")
    encoder.width = encoder.height = 64
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"deadline": "realtime", "lag-in-frames": "0"}
    packets = []
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * number, np.uint8), format="rgb24")
        picture.pts = number
        packets += encoder.encode(picture)
    return [b"\x10" + bytes(packet) for packet in packets]


async def send_media(joined: Joined, frames: list[bytes]) -> None:
    """The frames at 25 a second, and sound beside them."""
    contexts, remote, ssrcs = joined.peer.contexts, joined.remote, joined.spec.ssrcs
    audio, video = remote.section(AUDIO), remote.section(VIDEO)
    assert contexts and audio and video
    for n, frame in enumerate(frames):
        picture = rtp(video.payload_type, n, 3600 * n, ssrcs.video[0], frame, marker=True)
        joined.peer.send(seal(contexts, picture))
        for half in range(2):
            k = 2 * n + half
            joined.peer.send(seal(contexts, rtp(audio.payload_type, k, 960 * k, ssrcs.audio, SILENCE)))
        await asyncio.sleep(0.04)


@pytest.mark.parametrize("codec", VIDEO_CODECS)
async def test_a_node_takes_every_codec(node: Node, room: str, codec: str) -> None:
    async with Joins(node.base) as joins:
        joined = await joins.publish(room, "ann", PublishSpec(codec))
        video = joined.remote.section(VIDEO)
        assert video and video.codec == VIDEO_CODECS[codec] and video.rtx_type == video.payload_type + 1
        assert {MID, TWCC, ABS_CAPTURE_TIME} <= video.extensions.keys()
        assert joined.remote.lite
        participant = await node.participant(room, "ann")
        assert participant and {track["kind"] for track in participant["tracks"]} == {AUDIO, VIDEO}
        await joins.driver.leave(joined.session)
        assert await node.participant(room, "ann") is None


async def test_media_go_through_a_node(node: Node, room: str) -> None:
    async with Joins(node.base) as joins:
        publisher, viewer = await joins.publish(room, "ann", PublishSpec()), await joins.watch(room, "ann")
        got: list[bytes] = []
        viewer.peer.read(got.append)
        publisher.peer.read(lambda data: None)
        frames = pictures(25)
        await send_media(publisher, frames)
        assert viewer.peer.contexts
        packets = [opened(viewer.peer.contexts, data) for data in got if not 192 <= data[1] <= 223]
        payloads = {packet[-len(SILENCE) :] for packet in packets if packet[1] & 127 == 111}
        ssrcs = {int.from_bytes(packet[8:12]) for packet in packets}
        assert payloads == {SILENCE} and len(packets) > 50
        assert len(ssrcs) == 2


async def test_a_nodes_layers_are_chosen_and_changed(node: Node, room: str) -> None:
    async with Joins(node.base) as joins:
        await joins.publish(room, "ann", PublishSpec("vp8", True, ("l", "m", "h"), Ssrcs.random(3)))
        viewer = await joins.watch(room, "ann", "m")
        await joins.driver.set_layer(viewer.session, "h")
        await joins.driver.set_layer(viewer.session, "auto")
        with pytest.raises(DriverError, match="404: The track has no layer 'x'; it has") as caught:
            await joins.driver.set_layer(viewer.session, "x")
        assert caught.value.step == "layer"


async def test_a_node_that_ends_says_so_to_its_clients(own_node: MakeNode, room: str) -> None:
    async with own_node() as node, Joins(node.base) as joins:
        viewer, told = await joins.watch(room, "ann"), []
        viewer.peer.closed = told.append
        viewer.peer.read(lambda data: None)
        viewer.peer.keep_alive()
        await node.stop()
        await until(lambda: told, "the goodbye")
        assert told == ["the server closed DTLS"]
        with pytest.raises(DriverError, match="cannot connect"):
            await joins.driver.leave(viewer.session)


async def test_a_node_wants_a_good_token(own_node: MakeNode, room: str) -> None:
    async with own_node(auth={"required": True, "loopback_without_token": False}) as node:
        async with Joins(node.base, token=minted(KEY, SECRET)) as joins:
            await joins.publish(room, "ann", PublishSpec())
            viewer = await joins.watch(room, "ann")
            await joins.driver.leave(viewer.session)
        for token in ("", "nonsense", minted(KEY, "another-secret-which-is-not-the-node's")):
            async with Joins(node.base, token=token) as joins:
                with pytest.raises(DriverError, match="401") as caught:
                    await joins.publish(room, "ann", PublishSpec())
                assert caught.value.status == 401


async def test_consent_is_kept_with_a_node(node: Node, room: str) -> None:
    async with Joins(node.base) as joins:
        viewer = await joins.watch(room, "ann")
        viewer.peer.read(lambda data: None)
        viewer.peer.keep_alive()
        await until(lambda: viewer.peer.consents, "an answered check")


async def test_a_full_agent_decodes_what_we_publish(other: str, room: str) -> None:
    async with Joins(other) as joins:
        publisher = await joins.publish(room, "ann", PublishSpec())
        assert not publisher.remote.lite and publisher.remote.setup == "active"
        publisher.peer.read(lambda data: None)
        publisher.peer.keep_alive()
        await send_media(publisher, pictures(25))

        async def frames() -> dict[str, int]:
            async with aiohttp.ClientSession() as http, http.get(f"{other}/stats") as response:
                decoded: dict[str, int] = (await response.json())["frames"][f"{room}/ann"]
                return decoded

        await eventually(frames, lambda n: n[VIDEO] >= 15 and n[AUDIO] >= 25, "decoded frames")
        await joins.driver.leave(publisher.session)
        with pytest.raises(DriverError, match="none of our sessions"):
            await joins.driver.leave(publisher.session)


async def test_we_open_what_a_full_agent_sends(other: str, room: str) -> None:
    async with Client(other, f"/whip/{room}/bob") as client, Joins(other) as joins:
        await client.publish()
        viewer = await joins.watch(room, "bob")
        got: list[bytes] = []
        viewer.peer.read(got.append)
        viewer.peer.keep_alive()

        def kinds() -> set[int]:
            assert viewer.peer.contexts
            packets = [opened(viewer.peer.contexts, data) for data in got if not 192 <= data[1] <= 223]
            got.clear()
            return {packet[1] & 127 for packet in packets}

        seen: set[int] = set()
        await until(lambda: seen.update(kinds()) or {96, 111} <= seen, "sound and picture")  # type: ignore[func-returns-value]
        await until(lambda: viewer.peer.consents, "an answered check")
        with pytest.raises(DriverError, match="no layer resource"):
            await joins.driver.set_layer(viewer.session, "l")


async def test_a_publisher_that_is_not_there_is_a_refusal(other: str, room: str) -> None:
    async with Joins(other) as joins:
        with pytest.raises(DriverError, match="404: nobody publishes here"):
            await joins.watch(room, "nobody")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("html", "201 with text/html and not application/sdp: <html>It works!</html>"),
        ("empty", "an empty body"),
        ("refuse", "503, Retry-After 3: full"),
        ("error", "500: oh no"),
        ("redirect", "leads to http://192.0.2.1/whip"),
        ("elsewhere", "leads to http://192.0.2.1/session"),
        ("reset", "POST http"),
        ("no-location", "without a Location"),
    ],
)
async def test_a_server_that_misbehaves_is_a_refusal(room: str, fault: str, message: str) -> None:
    async with aiortc_server("--fault", fault) as (url, _), Joins(url) as joins:
        with pytest.raises(DriverError, match=message):
            await joins.publish(room, "ann", PublishSpec())
        with pytest.raises(DriverError, match=message):
            await joins.watch(room, "ann")


async def test_a_nonsense_answer_says_what_is_wrong_with_it(room: str) -> None:
    async with aiortc_server("--fault", "nonsense") as (url, _), Joins(url) as joins:
        with pytest.raises(ValueError, match="Line 2"):
            await joins.publish(room, "ann", PublishSpec())


async def test_a_server_that_hangs_ends_in_time(room: str) -> None:
    async with aiortc_server("--fault", "hang") as (url, _):
        driver = WhipWhep(url, timeout=0.5)
        with pytest.raises(DriverError, match="no answer within 0.5 s"):
            await driver.publish(room, "ann", "v=0")
        await driver.close()


async def test_a_server_that_dies_is_noticed(room: str) -> None:
    async with aiortc_server("--die-after", "2") as (url, process), Joins(url) as joins:
        publisher = await joins.publish(room, "ann", PublishSpec())
        publisher.peer.read(lambda data: None)
        publisher.peer.keep_alive()
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 1
        with pytest.raises(DriverError, match="cannot connect"):
            await joins.driver.leave(publisher.session)
        remote, late = publisher.remote, ReadingPeer(CONTEXTS)
        with pytest.raises(JoinError, match="ICE: no good answer"):
            await late.connect(remote, 0.5)
        late.close()


async def test_a_server_that_stops_sending_leaves_only_reports(room: str) -> None:
    async with aiortc_server("--stop-after", "50") as (url, _):
        async with Client(url, f"/whip/{room}/bob") as client, Joins(url) as joins:
            await client.publish()
            viewer = await joins.watch(room, "bob")
            times: list[float] = []
            loop = asyncio.get_running_loop()
            viewer.peer.read(lambda data: None if 192 <= data[1] <= 223 else times.append(loop.time()))
            viewer.peer.keep_alive()
            await until(lambda: times and loop.time() - times[-1] > 1.5, "a second and a half without media", 20)
