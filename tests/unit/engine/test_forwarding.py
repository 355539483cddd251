"""One publisher, subscribers, real sockets and libsrtp at both ends: what goes in comes out as it should."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pylibsrtp import Error

from mediacodecs import frame as codecs
from mediacodecs.extensions import AUDIO_LEVEL, MID, RID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, EngineFull, Layer, Subscription
from packetio.srtp import CM80, GCM
from tests.unit.engine.peers import Peer, build, small_config, until

VP8_TYPE, RTX_TYPE, OPUS_TYPE, H264_TYPE = 96, 97, 111, 102
SSRC = 0x11223344


def vp8(picture: int, *, key: bool = False, start: bool = True, size: int = 600, tl0: int | None = None) -> bytes:
    """A VP8 payload: descriptor with a 15-bit picture id, then bytes that tell the picture."""
    extended = 0x80 | (0x40 if tl0 is not None else 0)
    descriptor = bytes([0x80 | (0x10 if start else 0), extended]) + (0x8000 | picture).to_bytes(2, "big")
    if tl0 is not None:
        descriptor += bytes([tl0 & 255])
    head = (b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" if key else b"\x11\x00\x00") if start else b""
    return descriptor + head + bytes([picture & 255]) * (size - len(descriptor) - len(head))


class Room:
    """An engine with helpers to add peers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.peers: list[Peer] = []

    async def publisher(self, *rids: str, worker: int = 0, profile: str = GCM) -> tuple[Peer, list[Layer]]:
        peer = Peer(self.engine, self.engine.workers[worker], profile)
        peer.transport.set_receiving(
            kinds={1: MID, 2: RID, 3: AUDIO_LEVEL},
            codecs={VP8_TYPE: codecs.VP8, OPUS_TYPE: codecs.OPUS, H264_TYPE: codecs.H264},
            repairs={RTX_TYPE: VP8_TYPE},
            twcc=False,
        )
        layers = [
            peer.transport.add_layer(kind=L.VIDEO, mid="1", rid=rid or None, ssrc=None, rtx_ssrc=None, clock_rate=90000)
            for rid in (rids or ("",))
        ]
        self.peers.append(peer)
        await peer.connect()
        return peer, layers

    async def subscriber(
        self, *, kind: int = L.VIDEO, worker: int = 0, profile: str = GCM, ids: dict[int, int] | None = None
    ) -> tuple[Peer, Subscription]:
        peer = Peer(self.engine, self.engine.workers[worker], profile)
        peer.transport.set_sending(ids=ids or {}, allow_mixed=False)
        rate = 48000 if kind == L.AUDIO else 90000
        subscription = peer.transport.add_subscription(kind=kind, mid="v", cname="publisher", clock_rate=rate)
        self.peers.append(peer)
        await peer.connect()
        return peer, subscription


@pytest.fixture(params=[GCM])
async def room() -> AsyncIterator[Room]:
    engine = Engine(small_config(2))
    await engine.start()
    made = Room(engine)
    yield made
    for peer in made.peers:
        await asyncio.wait_for(peer.transport.close(), 5)
        peer.close()
    await engine.stop()


async def started(peer: Peer, layer: Layer, *, seq: int = 100, rid: str | None = None, **more: Any) -> None:
    """Send a keyframe packet and wait until the layer is known."""
    send_video(peer, seq, 1, key=True, rid=rid, **more)
    await until(lambda: layer.codec != 0)


def send_video(
    peer: Peer, seq: int, picture: int, *, key: bool = False, rid: str | None = None, ssrc: int = SSRC, **more: Any
) -> None:
    ext = {1: b"1"} | ({2: rid.encode()} if rid else {})
    payload = vp8(picture, key=key, **more)
    peer.send(build(payload, pt=VP8_TYPE, seq=seq, ts=3000 * picture, ssrc=ssrc, marker=1, ext=ext))


@pytest.mark.parametrize("profile", [GCM, CM80])
async def test_packets_arrive_in_order_with_own_ssrc_and_continuous_numbers(room: Room, profile: str) -> None:
    publisher, (layer,) = await room.publisher(profile=profile)
    viewer, subscription = await room.subscriber(profile=profile)
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)  # live from here on: what a late joiner is replayed has its time stamps drawn together
    for k in range(1, 40):
        send_video(publisher, 100 + k, 1 + k)
    packets = await viewer.receive(40)
    assert {(p.ssrc, p.payload_type) for p in packets} == {(subscription.ssrc, 120)}
    first = packets[0].sequence
    assert [p.sequence - first for p in packets] == list(range(40))
    assert [p.payload[-1] for p in packets] == list(range(1, 41))
    assert [p.timestamp - packets[0].timestamp for p in packets] == [3000 * k for k in range(40)]


async def test_burst_of_uneven_sizes_arrives_whole_as_a_train(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    sizes = [1100, 1101, 1100, 1101, 1101, 1099, 1100, 333]
    for k, size in enumerate(sizes, 1):
        send_video(publisher, 100 + k, 1 + k, size=size)
    packets = await viewer.receive(1 + len(sizes))
    assert [len(p.payload) for p in packets[1:]] == sizes
    worker = room.engine.workers[0].counters
    assert int(worker.drop_send) == 0 and int(worker.drop_srtp) == 0


async def test_subscriber_on_another_worker_gets_the_same(room: Room) -> None:
    publisher, (layer,) = await room.publisher(worker=0)
    viewer, subscription = await room.subscriber(worker=1)
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    for k in range(1, 30):
        send_video(publisher, 100 + k, 1 + k)
    packets = await viewer.receive(30)
    assert [p.payload[-1] for p in packets] == list(range(1, 31))


async def test_late_packet_goes_out_with_the_number_kept_for_it(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    for k in (1, 3, 4, 2, 5):
        send_video(publisher, 100 + k, 1 + k)
    packets = await viewer.receive(6)
    assert [p.payload[-1] for p in packets] == [1, 2, 4, 5, 3, 6]
    assert sorted(p.sequence - packets[0].sequence for p in packets) == list(range(6))
    assert all(p.sequence - packets[0].sequence == p.payload[-1] - 1 for p in packets)


async def test_padding_only_packets_leave_no_gap(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    send_video(publisher, 101, 2)
    raw = build(bytes(9) + b"\x0a", pt=VP8_TYPE, seq=102, ts=6000, ssrc=SSRC, ext={1: b"1"})
    publisher.send(bytes([raw[0] | 0x20]) + raw[1:])
    send_video(publisher, 103, 3)
    packets = await viewer.receive(3)
    assert [p.sequence - packets[0].sequence for p in packets] == [0, 1, 2]


async def test_late_joiner_starts_from_the_fresh_keyframe_in_the_log(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    await started(publisher, layer)
    for k in range(1, 20):
        send_video(publisher, 100 + k, 1 + k)
    await until(lambda: int(layer.log.header.received_packets) == 20)
    viewer, subscription = await room.subscriber()
    subscription.set_source(layer, 120, 121)
    packets = await viewer.receive(20)
    assert [p.payload[-1] for p in packets] == list(range(1, 21))
    assert packets[-1].timestamp - packets[0].timestamp < 3000 * 19
    send_video(publisher, 120, 21)
    packets = await viewer.receive(21)
    assert packets[-1].payload[-1] == 21
    assert packets[-1].timestamp - packets[-2].timestamp == 3000
    assert int(room.engine.workers[0].counters.pli_out) == 0


async def test_layer_switch_happens_at_a_keyframe_with_continuous_numbers(room: Room) -> None:
    publisher, (low, high) = await room.publisher("q", "f")
    viewer, subscription = await room.subscriber()
    await started(publisher, low, rid="q", ssrc=1, tl0=5)
    await started(publisher, high, rid="f", ssrc=2, tl0=77, seq=5000)
    subscription.set_source(low, 120, 121)
    send_video(publisher, 101, 2, rid="q", ssrc=1, tl0=6)
    await viewer.receive(2)
    subscription.set_source(high, 120, 121)
    await until(lambda: int(room.engine.workers[0].counters.pli_out) == 1)
    send_video(publisher, 102, 3, rid="q", ssrc=1, tl0=7)
    send_video(publisher, 5001, 900, rid="f", ssrc=2, tl0=78)
    send_video(publisher, 5002, 901, rid="f", ssrc=2, key=True, tl0=79)
    await viewer.receive(4)  # in one round the layers' packets may be served layer by layer
    send_video(publisher, 103, 4, rid="q", ssrc=1, tl0=8)
    send_video(publisher, 5003, 902, rid="f", ssrc=2, tl0=80)
    packets = await viewer.receive(5)
    assert [p.payload[-1] for p in packets] == [1, 2, 3, 901 & 255, 902 & 255]
    assert [p.sequence - packets[0].sequence for p in packets] == [0, 1, 2, 3, 4]
    ids = [int.from_bytes(p.payload[2:4], "big") & 0x7FFF for p in packets]
    assert [i - ids[0] for i in ids] == [0, 1, 2, 3, 4]
    assert [(p.payload[4] - packets[0].payload[4]) & 255 for p in packets] == [0, 1, 2, 3, 4]
    assert all(b.timestamp > a.timestamp for a, b in zip(packets, packets[1:], strict=False))


async def test_nack_is_answered_by_rtx_from_the_log(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    for k in range(1, 10):
        send_video(publisher, 100 + k, 1 + k)
    packets = await viewer.receive(10, subscription.ssrc)
    lost = packets[4]
    nack = b"\x81\xcd\x00\x03" + (1).to_bytes(4, "big") + subscription.ssrc.to_bytes(4, "big")
    viewer.send_rtcp(b"\x80\xc9\x00\x01\x00\x00\x00\x01" + nack + lost.sequence.to_bytes(2, "big") + b"\x00\x01")
    again = await viewer.receive(2, subscription.rtx_ssrc)
    assert [p.payload_type for p in again] == [121, 121]
    assert again[0].payload == lost.sequence.to_bytes(2, "big") + lost.payload
    assert again[1].payload[2:] == packets[5].payload
    assert again[0].timestamp == lost.timestamp


async def test_restarted_publisher_with_a_new_ssrc_goes_on(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    send_video(publisher, 101, 2)
    await viewer.receive(2)
    for k in range(3):
        send_video(publisher, 60000 + k, 50 + k, ssrc=999, key=k == 0)
    packets = await viewer.receive(5)
    assert [p.payload[-1] for p in packets] == [1, 2, 50, 51, 52]
    assert [p.sequence - packets[0].sequence for p in packets] == [0, 1, 2, 3, 4]


async def test_lag_releases_each_packet_that_long_after_its_arrival(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    subscription.set_lag(300)
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    loop = asyncio.get_running_loop()
    sent = {}
    for k in range(1, 12):
        await asyncio.sleep(0.01)
        send_video(publisher, 100 + k, 1 + k)
        sent[1 + k] = loop.time()
    got: dict[int, float] = {}

    def all_in() -> bool:
        viewer.drain()
        for p in viewer.received:
            got.setdefault(p.payload[-1], loop.time())
        return len(got) == 12

    await until(all_in)
    assert int(room.engine.workers[0].counters.latency_max) < 200 * L.MS  # a wished delay is no latency
    lags = [got[k] - sent[k] for k in sent]
    assert min(lags) > 0.29
    assert [p.payload[-1] for p in viewer.received] == list(range(1, 13))


async def test_audio_level_passes_and_audio_starts_at_once(room: Room) -> None:
    publisher, _ = await room.publisher()
    layer = publisher.transport.add_layer(kind=L.AUDIO, mid="0", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=48000)
    viewer, subscription = await room.subscriber(kind=L.AUDIO, ids={AUDIO_LEVEL: 7})
    packets = [
        build(b"opus" * 20, pt=OPUS_TYPE, seq=k, ts=960 * k, ssrc=55, ext={1: b"0", 3: bytes([0x80 | k])})
        for k in range(1, 9)
    ]
    publisher.send(packets[0])
    await until(lambda: layer.codec == codecs.OPUS)
    subscription.set_source(layer, 109)
    await until(lambda: int(subscription.record.mode) != L.PARKED)
    for packet in packets[1:]:
        publisher.send(packet)
    heard = await viewer.receive(7)
    assert [p.extensions[7][0] & 0x7F for p in heard[-7:]] == list(range(2, 9))


async def test_garbage_of_every_kind_costs_a_counter_and_nothing_else(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    rng = random.Random(5)
    stranger = Peer.new_socket()
    for _ in range(500):
        data = rng.randbytes(rng.randint(0, 200))
        stranger.sendto(data, publisher.server)
        publisher.sock.sendto(data, publisher.server)
    send_video(publisher, 101, 2)
    assert len(await viewer.receive(2)) == 2
    assert int(room.engine.workers[0].counters.received) > 500
    stranger.close()


async def test_replayed_and_forged_packets_are_dropped(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    await started(publisher, layer)
    worker = room.engine.workers[0].counters
    before = int(worker.drop_srtp)
    sealed = publisher.sender.protect(build(vp8(2), pt=VP8_TYPE, seq=101, ts=1, ssrc=SSRC, ext={1: b"1"}))
    publisher.sock.sendto(sealed, publisher.server)
    publisher.sock.sendto(sealed, publisher.server)
    publisher.sock.sendto(sealed[:-1] + bytes([sealed[-1] ^ 1]), publisher.server)
    await until(lambda: int(worker.drop_srtp) == before + 2)
    assert int(layer.log.header.received_packets) == 2


async def test_check_with_a_wrong_password_moves_nothing(room: Room) -> None:
    publisher, _ = await room.publisher()
    worker = room.engine.workers[0].counters
    before, other = int(worker.drop_stun), Peer.new_socket()
    publisher.check(sock=other, password="wrong")
    await until(lambda: int(worker.drop_stun) == before + 1)
    assert publisher.transport.remote == publisher.sock.getsockname()
    other.close()


async def test_authenticated_check_from_a_new_address_moves_the_session(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    old, viewer.sock = viewer.sock, Peer.new_socket()
    viewer.check()
    await until(lambda: (viewer.drain(), viewer.transport.remote == viewer.sock.getsockname())[1])
    send_video(publisher, 101, 2)
    assert len(await viewer.receive(2)) == 2
    old.close()


async def test_full_tables_refuse_and_leave_all_as_it_was(room: Room) -> None:
    publisher, _ = await room.publisher()
    made = []
    with pytest.raises(EngineFull) as refused:
        for k in range(100):
            made.append(
                publisher.transport.add_layer(
                    kind=L.VIDEO, mid=f"m{k}", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000
                )
            )
    assert refused.value.what == "video logs" and len(made) == 11
    await made[0].close()
    publisher.transport.add_layer(kind=L.VIDEO, mid="again", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000)


async def test_subscription_with_a_source_waits_for_its_keys(room: Room) -> None:
    """A viewer has a source as soon as it has joined, long before its handshake is over."""
    publisher, (layer,) = await room.publisher()
    await started(publisher, layer)
    await until(lambda: room.engine.workers[0].clock() > layer.begun)  # it was not there before the media
    viewer = Peer(room.engine, room.engine.workers[0])
    room.peers.append(viewer)
    subscription = viewer.transport.add_subscription(kind=L.VIDEO, mid="v", cname="c", clock_rate=90000)
    subscription.set_source(layer, 120, 121)
    viewer.check()
    await asyncio.wait_for(viewer.connected, 5)
    send_video(publisher, 101, 2, key=True)
    await until(lambda: int(layer.log.header.received_packets) == 2)
    viewer.transport.secure(viewer.contexts)
    send_video(publisher, 102, 3)
    packets = await viewer.receive(2)
    assert [p.payload[-1] for p in packets] == [2, 3]


async def test_encoder_that_restarts_again_and_again_is_followed(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    for life in range(1, 60):
        send_video(publisher, 1000 * life, life, ssrc=5000 + life, key=True)
        await viewer.receive(1 + life)
    assert [p.sequence - viewer.received[0].sequence for p in viewer.received] == list(range(60))


async def test_unidentified_ssrcs_are_bounded(room: Room) -> None:
    publisher, _ = await room.publisher()
    worker = room.engine.workers[0].counters
    for ssrc in range(100, 500):
        publisher.send(build(b"x" * 50, pt=100, seq=1, ts=1, ssrc=ssrc))
    await until(lambda: int(worker.drop_ssrc) == 400)
    assert int(publisher.transport.record.ssrc_count) <= 24
    assert int(publisher.transport.record.ssrc_total) == 8 * 24


async def test_authenticated_nonsense_harms_nothing(room: Room) -> None:
    """A peer with valid keys sends every kind of broken RTP and RTCP; others go on."""
    publisher, (layer,) = await room.publisher()
    good, (fine,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(good, fine)
    subscription.set_source(fine, 120, 121)
    await viewer.receive(1)
    rng = random.Random(11)
    for k in range(3000):
        pt = rng.choice([VP8_TYPE, RTX_TYPE, OPUS_TYPE, H264_TYPE, 77])
        ext = {1: b"1"} if rng.random() < 0.8 else {3: rng.randbytes(rng.randint(1, 16))}
        packet = bytearray(
            build(rng.randbytes(rng.randint(0, 60)), pt=pt, seq=100 + k // 2, ts=k, ssrc=rng.choice([7, 8, 9]), ext=ext)
        )
        if rng.random() < 0.3:
            packet[0] ^= rng.choice([0x20, 0x10, 1])
        try:
            publisher.send(bytes(packet))
            body = rng.randbytes(4 * rng.randint(0, 20))
            head = bytes([0x80 | rng.randint(0, 31), rng.randint(200, 207)]) + (len(body) // 4 + 1).to_bytes(2, "big")
            publisher.send_rtcp(head + rng.randbytes(4) + body)
        except Error:
            continue  # too broken for libsrtp to protect: nothing was sent
    send_video(good, 101, 2)
    assert len(await viewer.receive(2)) == 2
    assert layer.codec in (0, codecs.VP8, codecs.OPUS, codecs.H264)


async def test_h264_keyframe_without_parameter_sets_gets_the_cached_ones_before_it(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    sps = bytes.fromhex("6742c01fd900b03ddff80100008000000300")
    pps = bytes.fromhex("68cb83cb20")
    idr, slice_ = b"\x65\x88" + bytes(200), b"\x41\x9a" + bytes(100)
    stream = [(sps, 0, 0), (pps, 0, 0), (idr, 0, 1), (slice_, 1, 1), (idr, 2, 1), (slice_, 3, 1)]
    for k, (payload, frame, marker) in enumerate(stream[:4]):
        publisher.send(build(payload, pt=H264_TYPE, seq=k, ts=3000 * frame, ssrc=5, marker=marker, ext={1: b"1"}))
    await until(lambda: int(layer.log.header.received_packets) == 4)
    subscription.set_source(layer, 102)
    first = await viewer.receive(4)
    assert [p.payload[0] & 31 for p in first] == [7, 8, 5, 1]
    for k, (payload, frame, marker) in enumerate(stream[4:], 4):
        publisher.send(build(payload, pt=H264_TYPE, seq=k, ts=3000 * frame, ssrc=5, marker=marker, ext={1: b"1"}))
    packets = await viewer.receive(7)
    assert [p.payload[0] & 31 for p in packets[4:]] == [24, 5, 1]
    assert sps in packets[4].payload and pps in packets[4].payload
    assert [p.sequence - packets[0].sequence for p in packets] == list(range(7))
    assert packets[4].timestamp == packets[5].timestamp


async def test_temporal_layers_are_left_out_without_a_gap(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()

    def send(k: int, tid: int, *, key: bool = False) -> None:
        descriptor = bytes([0x90, 0xE0]) + (0x8000 | k).to_bytes(2, "big") + bytes([k & 255, tid << 6])
        head = b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" if key else b"\x11\x00\x00"
        payload = descriptor + head + bytes([k]) * 50
        publisher.send(build(payload, pt=VP8_TYPE, seq=k, ts=3000 * k, ssrc=5, marker=1, ext={1: b"1"}))

    send(1, 0, key=True)
    await until(lambda: layer.codec != 0)
    subscription.set_layers(255, 0)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    for k in range(2, 10):
        send(k, k % 2)
    packets = await viewer.receive(5)
    assert [p.payload[-1] for p in packets] == [1, 2, 4, 6, 8]
    assert [p.sequence - packets[0].sequence for p in packets] == [0, 1, 2, 3, 4]


async def test_paused_subscription_resumes_at_a_keyframe(room: Room) -> None:
    publisher, (layer,) = await room.publisher()
    viewer, subscription = await room.subscriber()
    await started(publisher, layer)
    subscription.set_source(layer, 120, 121)
    await viewer.receive(1)
    subscription.pause(True)
    await until(lambda: int(subscription.record.paused) == 1)
    send_video(publisher, 101, 2)
    await until(lambda: int(layer.log.header.received_packets) == 2)
    subscription.pause(False)
    send_video(publisher, 102, 3)
    packets = await viewer.receive(4)
    assert [p.payload[-1] for p in packets] == [1, 1, 2, 3]
    assert [p.sequence - packets[0].sequence for p in packets] == [0, 1, 2, 3]
