"""Which layer a viewer gets: real layers of an engine, fed by a peer that sends simulcast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID, RID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Layer
from mediaserver.engine.warm import warm
from mediaserver.rooms.subscription import Subscription
from mediaserver.rooms.track import Track
from mediaserver.signalling.codec_match import Codec
from mediaserver.signalling.events import state_of
from mediaserver.signalling.offers import Encoding, PublishedMedia, SubscribedMedia
from tests.unit.engine.peers import Peer, build, small_config, until

VP8_TYPE, H264_TYPE = 96, 102
SIZES = {"q": (320, 180), "h": (640, 360), "f": (1280, 720)}
VP8 = Codec(codecs.VP8, "VP8", VP8_TYPE, 90000)
H264 = Codec(codecs.H264, "H264", H264_TYPE, 90000, fmtp={"packetization-mode": "1"})


def payload(size: tuple[int, int] | None) -> bytes:
    """A VP8 keyframe of a size, or a frame that depends on the last."""
    if size is None:
        return b"\x90\x80\x80\x01\x11\x00\x00" + bytes(50)
    return b"\x90\x80\x80\x01\x10\x00\x00\x9d\x01\x2a" + b"".join(n.to_bytes(2, "little") for n in size) + bytes(50)


def offered(*found: Codec) -> SubscribedMedia:
    """A viewer's section of video with these codecs."""
    return SubscribedMedia("v", "video", 0, list(found), False, {})


class Simulcast:
    """A publisher of one track, and viewers of it."""

    def __init__(self, engine: Engine, rids: tuple[str, ...]) -> None:
        self.engine, self.rids = engine, rids
        self.peer = Peer(engine, engine.workers[0])
        self.peer.transport.set_receiving(
            kinds={1: MID, 2: RID}, codecs={VP8_TYPE: codecs.VP8, H264_TYPE: codecs.H264}, repairs={}, twcc=False
        )
        self.layers = [
            self.peer.transport.add_layer(kind=L.VIDEO, mid="1", rid=rid, ssrc=None, rtx_ssrc=None, clock_rate=90000)
            for rid in rids
        ]
        media = PublishedMedia("1", "video", 0, [VP8, H264], False, {}, [Encoding(rid) for rid in rids], None, None)
        self.track = Track(media, self.layers)
        self.changes = 0
        self.track.on_change = self._count
        self.viewers: list[Peer] = []
        self.sequence = 100

    def _count(self, track: Track) -> None:
        self.changes += 1

    def layer(self, rid: str) -> Layer:
        return self.layers[self.rids.index(rid)]

    async def send(self, rid: str, size: tuple[int, int] | None = None, *, pt: int = VP8_TYPE) -> None:
        """One frame of a layer: a keyframe when it has a size. Waits until control knows that the layer is active."""
        self.sequence += 1
        ssrc = 1000 + self.rids.index(rid)
        body = payload(size) if pt == VP8_TYPE else b"\x65\x88" + bytes(50)
        ext = {1: b"1", 2: rid.encode()}
        packet = build(body, pt=pt, seq=self.sequence, ts=3000 * self.sequence, ssrc=ssrc, marker=1, ext=ext)
        before = self.layer(rid).received_bytes()
        self.peer.send(packet)
        await until(lambda: self.layer(rid).received_bytes() > before)

    async def viewer(self, *found: Codec, worker: int = 0) -> tuple[Peer, Subscription]:
        peer = Peer(self.engine, self.engine.workers[worker])
        made = peer.transport.add_subscription(kind=L.VIDEO, mid="v", cname="x", clock_rate=90000)
        self.viewers.append(peer)
        await peer.connect()
        return peer, Subscription(offered(*(found or (VP8,))), made)


@pytest.fixture(params=[("q", "h", "f")])
async def simulcast(request: pytest.FixtureRequest) -> AsyncIterator[Simulcast]:
    warm(lambda name, done, total: None)
    engine = Engine(small_config(2))
    await engine.start()
    made = Simulcast(engine, request.param)
    await made.peer.connect()
    yield made
    for peer in [*made.viewers, made.peer]:
        await asyncio.wait_for(peer.transport.close(), 5)
        peer.close()
    await engine.stop()


def pause(simulcast: Simulcast, rid: str) -> None:
    """What the engine does when nothing of a layer has come for a while."""
    simulcast.layer(rid).record.active = 0
    simulcast.layer(rid).on_paused()


async def test_highest_layer_that_is_sent_is_the_best(simulcast: Simulcast) -> None:
    track = simulcast.track
    assert track.best(None) is None and track.codec is None
    for rid in ("q", "h", "f"):
        await simulcast.send(rid, SIZES[rid])
        assert track.best(None) is simulcast.layer(rid)
    await until(lambda: track.codec is VP8)
    pause(simulcast, "f")
    assert track.best(None) is simulcast.layer("h")


@pytest.mark.parametrize("simulcast", [("0", "1", "2")], indirect=True)
async def test_measured_size_counts_more_than_the_order_of_the_offer(simulcast: Simulcast) -> None:
    for rid, size in zip(("0", "1", "2"), ((1280, 720), (640, 360), (320, 180)), strict=True):
        await simulcast.send(rid, size)
    assert simulcast.track.best(None) is simulcast.layer("0")
    assert simulcast.track.ladder() == [simulcast.layer(rid) for rid in "210"]
    pause(simulcast, "1")
    assert simulcast.track.best("1") is simulcast.layer("2"), "the next lower one by size"


async def test_order_of_the_offer_counts_while_a_size_is_unknown(simulcast: Simulcast) -> None:
    await simulcast.send("f", None)
    await simulcast.send("q", SIZES["q"])
    assert simulcast.track.best(None) is simulcast.layer("f")


async def test_wanted_layer_is_given_and_replaced_by_a_neighbour_while_it_is_not_sent(simulcast: Simulcast) -> None:
    for rid in ("q", "h", "f"):
        await simulcast.send(rid, SIZES[rid])
    best = simulcast.track.best
    assert best("h") is simulcast.layer("h")
    assert best("unheard-of") is simulcast.layer("f")
    pause(simulcast, "h")
    assert best("h") is simulcast.layer("q")
    pause(simulcast, "q")
    assert best("h") is simulcast.layer("f")


async def test_review_notices_a_size_that_changes_the_order(simulcast: Simulcast) -> None:
    await simulcast.send("q", SIZES["q"])
    await simulcast.send("f", SIZES["f"])
    await until(lambda: simulcast.changes == 2)
    simulcast.track.review()
    assert simulcast.changes == 2
    await simulcast.send("f", (160, 90))
    simulcast.track.review()
    assert simulcast.changes == 3 and simulcast.track.best(None) is simulcast.layer("q")


async def test_subscription_climbs_at_keyframes_and_goes_on_counting(simulcast: Simulcast) -> None:
    peer, subscription = await simulcast.viewer()
    simulcast.track.on_change = lambda track: subscription.update()
    subscription.attach(simulcast.track)
    assert subscription.state == "no-media"
    await simulcast.send("q", SIZES["q"])
    await peer.receive(1)
    await until(lambda: subscription.layer is simulcast.layer("q"))
    await simulcast.send("f", SIZES["f"])
    await until(lambda: subscription.layer is simulcast.layer("f"))
    while len(peer.received) < 2:  # the climb waits for a keyframe, and asks for one
        await simulcast.send("f", SIZES["f"])
        peer.drain()
    one, two = (packet.sequence for packet in peer.received[:2])
    assert two == one + 1 and {packet.ssrc for packet in peer.received} == {subscription.engine.ssrc}


async def test_selected_layer_is_kept_until_auto_is_wanted_again(simulcast: Simulcast) -> None:
    _, subscription = await simulcast.viewer()
    subscription.attach(simulcast.track)
    subscription.select("q")
    for rid in ("f", "q"):
        await simulcast.send(rid, SIZES[rid])
    await until(lambda: simulcast.track.codec is VP8)
    subscription.update()
    assert subscription.layer is simulcast.layer("q")
    subscription.select(None, 1, 0)
    assert subscription.layer is simulcast.layer("f") and subscription.state == "active"
    await until(lambda: int(subscription.engine.record.max_spatial) == 1)


async def test_codec_in_nobodys_offer_pauses_and_another_codec_resumes(simulcast: Simulcast) -> None:
    peer, subscription = await simulcast.viewer(H264)
    simulcast.track.on_change = lambda track: subscription.update()
    subscription.attach(simulcast.track)
    await simulcast.send("q", SIZES["q"])
    await until(lambda: subscription.state == "codec")
    assert "VP8" in subscription.reason and subscription.layer is None
    await simulcast.send("q", pt=H264_TYPE)
    await until(lambda: subscription.state == "active")
    await simulcast.send("q", pt=H264_TYPE)
    assert (await peer.receive(1))[0].payload_type == H264_TYPE


def of_profile(profile_level_id: str, mode: str = "1") -> Codec:
    """H.264 as a viewer may offer it."""
    fmtp = {"packetization-mode": mode, "profile-level-id": profile_level_id}
    return Codec(codecs.H264, "H264", 120, 90000, fmtp=fmtp)


async def test_what_can_not_be_shown_is_told_by_codec_profile_and_mode(simulcast: Simulcast) -> None:
    simulcast.track.codecs[H264_TYPE] = of_profile("f4001f")
    _, subscription = await simulcast.viewer(VP8, of_profile("42e01f"), of_profile("640028", "0"))
    subscription.attach(simulcast.track)
    await simulcast.send("q", pt=H264_TYPE)
    await until(lambda: simulcast.track.codec is not None)
    subscription.update()
    assert subscription.state == "codec" and subscription.layer is None
    assert subscription.reason == (
        "The publisher sends H.264 Predictive High 4:4:4 in packetization mode 1, which this viewer did not offer; "
        "it takes H.264 Constrained Baseline in packetization mode 1, H.264 High in packetization mode 0, VP8."
    )
    assert state_of(subscription)["data"]["reason"] == subscription.reason


async def test_stream_that_a_viewer_did_not_promise_to_take_is_sent_with_a_notice(simulcast: Simulcast) -> None:
    simulcast.track.codecs[H264_TYPE] = of_profile("640028")
    peer, subscription = await simulcast.viewer(of_profile("42e01f"))
    simulcast.track.on_change = lambda track: subscription.update()
    subscription.attach(simulcast.track)
    await simulcast.send("q", pt=H264_TYPE)
    await until(lambda: subscription.state == "active")
    assert subscription.reason == "" and state_of(subscription) == {
        "event": "active",
        "data": {"mediaId": "v", "notice": subscription.notice},
    }
    assert "H.264 High in packetization mode 1" in subscription.notice and "Constrained" in subscription.notice
    simulcast.track.codecs[H264_TYPE] = simulcast.track.codec = of_profile("42c01f")
    assert state_of(subscription) == {"event": "active", "data": {"mediaId": "v"}}


async def test_long_list_of_what_a_viewer_takes_is_cut(simulcast: Simulcast) -> None:
    profiles = [Codec(codecs.VP9, "VP9", 40 + k, 90000, fmtp={"profile-id": str(k)}) for k in range(9)]
    _, subscription = await simulcast.viewer(*profiles)
    subscription.attach(simulcast.track)
    await simulcast.send("q", SIZES["q"])
    await until(lambda: simulcast.track.codec is VP8)
    subscription.update()
    assert subscription.reason.endswith("it takes VP9 profile 0, VP9 profile 1, VP9 profile 2, VP9 profile 3, others.")


async def test_worker_without_room_for_another_feed_keeps_what_it_has_and_takes_it_up_later(
    simulcast: Simulcast,
) -> None:
    other = simulcast.engine.workers[1]
    _, subscription = await simulcast.viewer(worker=1)
    taken = [other.feed_slots.take() for _ in range(other.feed_slots.limit)]
    await simulcast.send("q", SIZES["q"])
    await until(lambda: simulcast.track.codec is VP8)
    subscription.attach(simulcast.track)
    assert subscription.state == "full" and subscription.layer is None and subscription.reason
    other.feed_slots.give(taken.pop())
    subscription.update()
    assert subscription.state == "active" and subscription.layer is simulcast.layer("q")
    await simulcast.send("f", SIZES["f"])
    subscription.update()
    assert subscription.state == "active" and subscription.layer is simulcast.layer("q"), "no room to climb"


async def test_departure_parks_the_subscription_and_a_return_is_a_fresh_source(simulcast: Simulcast) -> None:
    peer, subscription = await simulcast.viewer()
    subscription.attach(simulcast.track)
    await simulcast.send("q", SIZES["q"])
    await until(lambda: simulcast.track.codec is VP8)
    subscription.update()
    await peer.receive(1)
    subscription.detach()
    assert subscription.state == "waiting" and subscription.layer is None
    await until(lambda: int(subscription.engine.record.mode) == L.PARKED)
    subscription.attach(simulcast.track)
    assert subscription.state == "active"
    await peer.receive(2)
    one, two = peer.received[:2]
    assert two.sequence == one.sequence + 1 and two.timestamp > one.timestamp
