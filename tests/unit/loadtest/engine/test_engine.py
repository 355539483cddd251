"""The engine's Python face: rows come and go, counters stay, and nothing of a client that has left reaches another."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from loadtest.clips.encode import VideoProfile
from loadtest.clips.reel import Reel
from loadtest.engine.engine import ClientEngine, LinkSettings
from loadtest.engine.layout import FREE, INDEX, MAX_STREAMS, MS, OPEN, SECOND, VIDEO
from loadtest.engine.links import release_time
from loadtest.engine.totals import PRESENT, Totals, sum_of
from tests.unit.loadtest.engine.clients import AUDIO_TYPE, MEDIA, START, STUN, TYPE, Served, descriptors, pair
from tests.unit.loadtest.engine.watching import opus

REEL = Reel.synthetic(25, 3, 500)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def counted(engine: ClientEngine) -> dict[str, Any]:
    """All counters that must not depend on who is still there."""
    total = sum_of(engine.totals())
    found = {f.name: getattr(total, f.name) for f in fields(total) if f.name not in PRESENT[2:]}
    return found | {"latency": total.latency.tolist()}


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_counters_stay_when_a_client_leaves(served: Served) -> None:
    sender, watcher = served.join(0, reel=REEL), served.join(1)
    served.engine.begin(sender.index, START + 5 * MS)
    watcher.send(10)
    served.run(100)
    before, by_group = counted(served.engine), served.engine.totals()
    assert before["packets"] == 10 and before["sent"] == 9 and before["latency_max"] > 0
    assert (by_group[0].sent, by_group[1].packets, by_group[1].clients) == (9, 10, 1)
    for client in (watcher, sender):
        await served.engine.remove(client.index)
        assert counted(served.engine) == before
    assert sum_of(served.engine.totals()).clients == sum_of(served.engine.totals()).videos == 0


async def test_counters_never_jump_while_a_client_leaves() -> None:
    served = Served()
    try:
        served.engine.start()
        watcher = served.join()
        watcher.send(20)
        await until(lambda: sum_of(served.engine.totals()).packets == 20)
        removal, seen = asyncio.create_task(served.engine.remove(watcher.index)), set[int]()
        while not removal.done():
            seen.add(sum_of(served.engine.totals()).packets)
            await asyncio.sleep(0)
        assert seen == {20} and sum_of(served.engine.totals()).packets == 20
    finally:
        served.close()


async def test_a_removal_that_is_cancelled_anywhere_is_finished_by_the_next() -> None:
    served = Served()
    try:
        served.engine.start()
        for steps in range(8):
            client = served.join()
            client.send(5)
            await until(lambda wanted=5 * (steps + 1): sum_of(served.engine.totals()).packets == wanted)
            removal = asyncio.create_task(served.engine.remove(client.index))
            for _ in range(steps):
                await asyncio.sleep(0)
            removal.cancel()
            await asyncio.gather(removal, return_exceptions=True)
            await asyncio.gather(*(served.engine.remove(client.index) for _ in range(3)))
            assert sum_of(served.engine.totals()).packets == 5 * (steps + 1) and client.sock.fileno() < 0
        rows = [served.engine.reserve() for _ in range(4)]
        assert len(set(rows)) == 4
    finally:
        served.close()


def test_capacity_is_told_and_comes_back(served: Served) -> None:
    rows = [served.engine.reserve() for _ in range(4)]
    with pytest.raises(IndexError, match="the engine has 4 clients, all of them in use"):
        served.engine.reserve()
    served.engine.give_back(rows[2])
    assert served.engine.reserve() == rows[2]


async def test_what_waits_for_a_client_that_has_left_reaches_nobody(served: Served) -> None:
    slow = LinkSettings(delay_ms=50)
    first = served.join(reel=REEL, down=slow, up=slow)
    served.engine.begin(first.index, START + 1 * MS)
    first.send(5)
    served.run(10)
    assert len(served.engine.held) == 5 + 3 + 1  # and a sender report
    await served.engine.remove(first.index)
    second = served.join(1)
    assert second.index == first.index and int(second.row.token) & INDEX == second.index
    served.run(100)
    assert len(served.engine.held) == 0
    assert (second.row.packets, second.row.refused, second.row.octets, second.row.sent) == (0, 0, 0, 0)
    assert second.came() == first.came() == []
    second.send(2)
    served.run(2)
    assert second.row.packets == 2 and sum_of(served.engine.totals()).packets == 2


async def test_a_datagram_for_control_of_a_client_that_has_left_is_dropped(served: Served) -> None:
    got: list[tuple[int, bytes]] = []
    served.engine.on_datagram = lambda index, data: got.append((index, data))
    first = served.join()
    first.server.send(STUN + b"first")
    served.run(1)
    await served.engine.remove(first.index)
    second = served.join()
    second.server.send(STUN + b"second")
    served.run(1)
    served.engine.take_events()
    assert second.index == first.index and got == [(second.index, STUN + b"second")]


async def test_rows_of_streams_and_sources_are_used_again(served: Served) -> None:
    for generation in range(30):
        client = served.join(reel=REEL)
        served.engine.begin(client.index, served.now + 1 * MS)
        client.send(2)
        served.run(5)
        assert (client.row.packets, client.row.sent) == (2, 3 + 1) and client.row.stream_count == 1
        await served.engine.remove(client.index)
        client.server.close()
        assert sum_of(served.engine.totals()).packets == 2 * generation + 2
    assert int(served.engine.state.stream_free_count) == served.engine.streams.count - 1


async def test_sockets_and_contexts_are_closed_once_and_when_the_engine_has_let_go(served: Served) -> None:
    before = descriptors()
    client = served.join(reel=REEL)
    removal = served.engine.remove(client.index)
    assert client.sock.fileno() >= 0 and client.contexts.evp
    await removal
    assert client.row.state == FREE
    assert client.sock.fileno() == -1 and not client.contexts.evp and not hasattr(client.contexts, "_inbound")
    await served.engine.remove(client.index)
    client.server.close()
    assert descriptors() == before


async def test_stopping_closes_all_that_is_left_and_may_be_done_twice() -> None:
    before = descriptors()
    served = Served()
    served.engine.start()
    clients = [served.join(), served.join(opened=False)]
    served.engine.reserve()
    served.engine.stop()
    served.engine.stop()
    assert all(client.sock.fileno() == -1 and not client.contexts.evp for client in clients)
    served.close()
    assert descriptors() == before
    assert not served.engine._thread.is_alive()


async def test_a_client_that_was_never_opened_can_be_taken_back(served: Served) -> None:
    client = served.join(reel=REEL, opened=False)
    client.send(3)
    served.run(2)
    assert client.row.packets == 0
    await served.engine.remove(client.index)
    assert client.sock.fileno() == -1 and served.join().index == client.index


async def test_a_refused_source_costs_nothing(served: Served) -> None:
    client = served.join(opened=False)
    free = len(served.engine._free_sources)
    fields = {"kind": VIDEO, "ssrc": 7, "payload_type": TYPE}
    with pytest.raises(ValueError, match="longer than 16 bytes"):
        served.engine.add_source(client.index, REEL, mid="m" * 17, **fields)
    assert len(served.engine._free_sources) == free and client.row.source_count == 0
    for k in range(4):
        served.engine.add_source(client.index, REEL, **(fields | {"ssrc": 8 + k}))
    with pytest.raises(IndexError, match="no room for another source"):
        served.engine.add_source(client.index, REEL, **fields)
    await served.engine.remove(client.index)
    assert len(served.engine._free_sources) == free


def test_media_out_of_range_is_refused_and_can_be_taken_back(served: Served) -> None:
    index = served.engine.reserve()
    sock = socket.socket(type=socket.SOCK_DGRAM)
    wrong = type(MEDIA)({300: 1}, {}, {}, {})
    with pytest.raises(IndexError):
        served.engine.hand_over(index, sock, None, wrong, ssrc=1, cname="x")
    asyncio.run(served.engine.remove(index))
    assert sock.fileno() == -1


def test_a_silenced_client_neither_reads_nor_sends(served: Served) -> None:
    client = served.join(reel=REEL)
    served.engine.begin(client.index, START + 1 * MS)
    client.send(3)
    served.run(100)
    assert client.row.packets == 3 and client.came()
    sent = int(client.row.sent)
    served.engine.silence(client.index)
    client.send(3)
    served.run(2000)
    assert client.row.packets == 3 and client.row.sent == sent and client.came() == []
    assert sum_of(served.engine.totals()).packets == 3 and sum_of(served.engine.totals()).clients == 0


def test_a_client_that_is_silenced_sends_nothing_that_was_on_its_way(served: Served) -> None:
    client = served.join(reel=REEL, up=LinkSettings(delay_ms=20))
    served.engine.begin(client.index, START + 1 * MS)
    served.run(10)
    assert len(served.engine.held) == 3 + 1
    served.engine.silence(client.index)
    served.run(100)
    assert client.came() == [] and len(served.engine.held) == 0


async def test_drops_of_sockets_are_counted_also_of_clients_that_left(served: Served) -> None:
    client = served.join(receive_buffer=2048)
    assert served.engine.drops() == 0
    client.send(200)
    drops = served.engine.drops()
    assert 100 < drops < 200
    await served.engine.remove(client.index)
    assert served.engine.drops() == drops


async def test_drops_of_a_silenced_client_are_its_own(served: Served) -> None:
    client = served.join(receive_buffer=2048)
    served.engine.silence(client.index)
    client.send(200)
    assert served.engine.drops() == 0
    await served.engine.remove(client.index)
    assert served.engine.drops() == 0


def test_a_gate_is_there_where_a_network_is_bad(served: Served) -> None:
    index = served.engine.reserve()
    assert served.engine.gate(index) is None
    served.engine.set_network(index, LinkSettings(loss=(0, 1, 1, 1)), LinkSettings(delay_ms=30), seed=1)
    gate = served.engine.gate(index)
    assert gate is not None and gate(False, 100, START) == -1
    assert gate(True, 100, START) == START + 30 * MS


def test_a_gate_leaves_the_engine_s_links_alone(served: Served) -> None:
    index, lossy = served.engine.reserve(), LinkSettings(loss=(0.3, 0.3, 0, 1), delay_ms=5, rate_kbit=500)
    served.engine.set_network(index, lossy, lossy, seed=1)
    row, gate = served.engine.clients.rows[index], served.engine.gate(index)
    before = row.down.tobytes() + row.up.tobytes()
    assert gate is not None
    passed = [gate(outgoing, 100, START + k * MS) >= 0 for k in range(100) for outgoing in (False, True)]
    assert 50 < sum(passed) < 150
    assert row.down.tobytes() + row.up.tobytes() == before
    mine = [release_time(row.down, START + k * MS, 100) >= 0 for k in range(100)]
    assert mine != passed[::2]  # other chances


def test_media_that_came_before_the_engine_had_the_client_arrives_when_its_link_lets_it(served: Served) -> None:
    reel = Reel.synthetic(25, 3, 500)
    sender = served.join(0, reel=reel)
    served.engine.begin(sender.index, START + 1 * MS, frames=2)
    served.run(60)
    packets = [sender.sealer.protect(data) for data in sender.media()]
    early = [(served.now + (5 + k) * MS, data) for k, data in enumerate(packets[:4])]
    begun = served.now
    watcher = served.join(1, down=LinkSettings(delay_ms=20), early=early)
    watcher.row.opened = 0
    for data in packets[4:]:
        watcher.server.send(data)
    came = []
    for _ in range(40):
        served.run(1)
        came.append(int(watcher.row.packets))
    assert came[3:8] == [0, 1, 2, 3, 4] and came[-1] == 6
    stream = served.engine.streams.rows[int(watcher.row.streams[0])]
    assert watcher.row.first_packet == begun + 5 * MS
    assert (stream.frames, stream.keyframes, stream.first_missing, stream.plis) == (2, 1, 0, 0)
    assert served.engine.state.held_lost == 0


def test_every_client_may_receive_as_many_streams_as_it_has_room_for(served: Served) -> None:
    clients = [served.join() for _ in range(4)]
    for client in clients:
        for ssrc in range(1000, 1000 + MAX_STREAMS):
            client.server.send(client.sealer.protect(replace(opus(5, START), ssrc=ssrc).data()))
    served.run(1)
    assert [(int(client.row.stream_count), int(client.row.excess)) for client in clients] == [(MAX_STREAMS, 0)] * 4
    assert served.engine.state.stream_free_count == 0


@pytest.mark.parametrize("cores", [1, 2])
def test_the_thread_goes_before_others_only_where_they_have_a_core_too(cores: int) -> None:
    allowed, served = os.sched_getaffinity(0), Served()

    async def policy() -> int:
        served.engine.start()
        await until(lambda: int(served.engine.state.passes) > 0)
        return os.sched_getscheduler(served.engine._thread.native_id or 0)

    try:
        os.sched_setaffinity(0, set(sorted(allowed)[:cores]))
        urgent = cores > 1 and len(allowed) > 1 and may_be_urgent()
        assert asyncio.run(policy()) == (os.SCHED_FIFO if urgent else os.SCHED_OTHER)
        assert served.engine.scheduling == ("real-time" if urgent else "normal")
    finally:
        os.sched_setaffinity(0, allowed)
        served.close()


def may_be_urgent() -> bool:
    """Whether this process may use SCHED_FIFO."""
    found = []

    def ask() -> None:
        try:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
            found.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(found)


async def test_an_engine_that_does_not_run_says_so_at_once() -> None:
    engine, (sock, other) = ClientEngine(1, 0), pair()
    with other:
        index = engine.reserve()
        engine.hand_over(index, sock, None, MEDIA, ssrc=1, cname="x")
        with pytest.raises(RuntimeError, match="the client engine does not run"):
            await engine.remove(index)
        assert engine.state.fake_now == 0
        engine.stop()
    assert sock.fileno() == -1


def test_maxima_are_measured_anew(served: Served) -> None:
    client = served.join()
    client.send(1, sent=START - 40 * MS)
    served.run(1)
    served.engine.departed[0] = Totals(latency_max=5 * SECOND, longest_freeze=3)
    assert sum_of(served.engine.totals()).latency_max == 5 * SECOND
    served.engine.forget_maxima()
    assert sum_of(served.engine.totals()).latency_max == sum_of(served.engine.totals()).longest_freeze == 0
    served.run(1)
    assert sum_of(served.engine.totals()).latency_max == sum_of(served.engine.totals()).longest_freeze == 0
    client.send(1, sent=START - 20 * MS)
    served.run(1)
    assert 20 * MS < sum_of(served.engine.totals()).latency_max < 30 * MS


def test_a_muted_source_sends_nothing_and_comes_back_with_a_keyframe(served: Served) -> None:
    client = served.join(reel=REEL)
    source = served.engine.sources_of(client.index)[0]
    served.engine.begin(client.index, START + 1 * MS)
    served.run(200)
    keyframes, packets = int(source.keyframes), int(source.packets)
    served.engine.mute(client.index, VIDEO, True)
    served.run(400)
    assert source.packets == packets
    served.engine.mute(client.index, 0, False)  # of sound there is none
    served.run(100)
    assert source.packets == packets
    served.engine.mute(client.index, VIDEO, False)
    served.run(100)
    assert source.packets > packets and source.keyframes == keyframes + 1


async def test_a_client_that_has_gone_has_no_sources(served: Served) -> None:
    client = served.join(reel=Reel.synthetic(25, 1, 300))
    source = served.engine.sources_of(client.index)[0]
    await served.engine.remove(client.index)
    assert served.engine.sources_of(client.index) == [] == served.engine.sources_of(0)
    assert served.engine.captured(source, 0) == 0


def test_a_frame_s_capture_time_is_found_also_after_a_jump(served: Served) -> None:
    frames = 20
    reel = Reel.from_video(VideoProfile(width=160, height=90, bitrate=60, duration=0.8, keyframe_interval=10))
    client = served.join(reel=reel)
    source = served.engine.sources_of(client.index)[0]
    assert served.engine.captured(source, 0) == 0
    served.engine.begin(client.index, START + 1 * MS)
    served.run(201)
    assert [served.engine.captured(source, k) for k in range(7)] == [START + (1 + 40 * k) * MS for k in range(6)] + [0]
    source.want_key = 1  # on to frame 10, the next keyframe
    served.run(80)
    found = [served.engine.captured(source, k) for k in (5, 6, 9, 10, 11, 12)]
    assert found == [START + 201 * MS, 0, 0, START + 241 * MS, START + 281 * MS, 0]
    served.run(1000)
    assert served.engine.captured(source, 0) == START + (241 + 400) * MS
    assert served.engine.captured(source, frames) == served.engine.captured(source, -1) == 0


async def test_events_come_to_the_event_loop(served: Served) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()
    served.engine.on_datagram = lambda index, data: got.put_nowait(data)
    served.engine.start()
    client = served.join()
    for k in range(50):
        client.server.send(STUN + bytes([k]))
    found = [await asyncio.wait_for(got.get(), 5) for _ in range(50)]
    assert found == [STUN + bytes([k]) for k in range(50)]
    served.engine.stop()


async def test_the_thread_s_cpu_is_told_while_it_runs(served: Served) -> None:
    assert served.engine.cpu() == 0
    served.engine.start()
    await until(lambda: served.engine.cpu() > 0)
    served.engine.stop()
    assert served.engine.cpu() == 0


async def test_a_thread_that_is_gone_is_no_reason_to_wait(served: Served) -> None:
    served.engine.start()
    client = served.join()
    served.engine.stop()
    await served.engine.remove(client.index)  # RuntimeError where it waited
    assert client.sock.fileno() == -1


def test_names_and_numbers_of_a_client_are_those_handed_over(served: Served) -> None:
    client = served.join()
    row = client.row
    assert row.state == OPEN and row.ssrc == 70 + client.index and row.group == 0
    assert bytes(row.cname[: row.cname_size]).startswith(b"peer")
    assert row.codecs[TYPE] and row.codecs[AUDIO_TYPE] and row.repairs[97] == TYPE and row.repairs[TYPE] == 255
