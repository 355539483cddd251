"""The loop: clients in turn, sources on time, held datagrams when they are released, states handed back and forth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from loadtest.clips.reel import Reel
from loadtest.engine.engine import LinkSettings
from loadtest.engine.layout import FREE, GONE, LEAVING, MS, OPEN, SECOND, SPENT
from loadtest.engine.loop import AT_ONCE, run, set_clocks
from packetio.log import store_release_py
from tests.unit.loadtest.engine.clients import START, Client, Served

REEL = Reel.synthetic(50, 2, 400)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(capacity=24, publishers=4)
    yield made
    made.close()


def test_all_clients_are_served_in_one_pass(served: Served) -> None:
    clients = [served.join() for _ in range(20)]
    for k, client in enumerate(clients):
        client.send(k + 1)
    served.run(1)
    assert [int(client.row.packets) for client in clients] == list(range(1, 21))
    assert served.engine.state.received == 210


def test_a_client_with_more_than_a_batch_does_not_hold_up_the_others(served: Served) -> None:
    greedy, modest = served.join(), served.join()
    greedy.send(150)
    modest.send(1)
    assert served.engine.turn_at(START) == 64 + 1
    assert modest.row.packets == 1
    served.run(2)
    assert greedy.row.packets == 150


def test_nothing_is_done_for_a_client_that_is_not_open(served: Served) -> None:
    client = served.join(opened=False, reel=REEL)
    served.engine.begin(client.index, START)
    client.send(2)
    served.run(30)
    assert client.row.packets == 0 and client.came() == []
    served.engine.open(client.index)
    served.run(1)
    assert client.row.packets == 2 and len(client.media()) > 0


def test_a_client_goes_by_way_of_gone_and_spent(served: Served) -> None:
    client = served.join()
    client.send(3)
    served.run(1)
    stream = served.engine.streams.rows[int(client.row.streams[0])]
    states = []
    for told in (LEAVING, SPENT):
        store_release_py(served.engine._state_of(client.index), told)
        client.send(3)
        served.run(1)
        states.append(int(client.row.state))
        assert client.row.packets == 3 and client.row.stream_count == (told == LEAVING)
    assert states == [GONE, FREE] and stream.state == FREE and stream.packets == 3


def test_sources_leave_when_they_are_due(served: Served) -> None:
    client = served.join(reel=REEL)
    served.engine.begin(client.index, START + 10 * MS)
    left = []
    for _ in range(70):
        served.run(1)
        left += [served.now - START] * len(client.media())
    assert left == [10 * MS] * 2 + [30 * MS] * 2 + [50 * MS] * 2 + [70 * MS] * 2
    assert served.engine.state.late == 0


def test_lateness_is_that_of_the_latest_packet(served: Served) -> None:
    client = served.join(reel=REEL)
    served.engine.begin(client.index, START + 10 * MS)
    served.run(28)
    served.now += 9 * MS
    served.run(1)
    assert served.engine.state.late == 8 * MS and len(client.media()) == 4


def test_a_source_that_is_begun_between_looks_is_found_within_2_ms(served: Served) -> None:
    client = served.join(reel=REEL)
    served.run(10)
    served.engine.begin(client.index, served.now + 1 * MS)
    served.run(3)
    assert len(client.media()) == 2 and served.engine.state.late <= 2 * MS


def test_held_datagrams_are_released_in_time_and_in_order(served: Served) -> None:
    near, far = served.join(down=LinkSettings(delay_ms=10)), served.join(1, down=LinkSettings(delay_ms=30))
    near.send(3)
    far.send(3)
    seen = []
    for _ in range(40):
        served.run(1)
        seen.append((int(near.row.packets), int(far.row.packets)))
    assert seen.index((3, 0)) == 10 and seen.index((3, 3)) == 30
    assert near.row.first_packet == START + 11 * MS and far.row.first_packet == START + 31 * MS


def test_what_is_held_when_its_row_is_closed_goes_nowhere(served: Served) -> None:
    client = served.join(down=LinkSettings(delay_ms=10))
    client.send(3)
    served.run(1)
    store_release_py(served.engine._state_of(client.index), LEAVING)
    served.run(20)
    assert client.row.packets == 0 and len(served.engine.held) == 0 and client.row.state == GONE


def test_rest_is_taken_when_nothing_comes_and_ends_when_told(served: Served) -> None:
    async def scene() -> float:
        begun = time.monotonic()
        served.engine.start()
        while int(served.engine.state.passes) < 30:
            await asyncio.sleep(0.005)
        idle = int(served.engine.state.idle)
        assert 0 < idle <= (time.monotonic() - begun) * 1e9
        served.engine.stop()
        return idle / SECOND

    assert asyncio.run(scene()) > 0.005


def test_a_loop_that_is_told_to_stop_before_it_starts_does_nothing(served: Served) -> None:
    client = served.join()
    client.send(1)
    store_release_py(served.engine.table.address, 1)
    run(served.engine.table.address)
    assert client.row.packets == 0


def test_clocks_are_compared_to_a_few_microseconds(served: Served) -> None:
    state = served.engine.state
    state.fake_now = 0
    for _ in range(20):
        set_clocks(state)
        apart = time.time_ns() - time.monotonic_ns() - int(state.realtime)
        assert abs(apart) < 50 * AT_ONCE
        assert 0 <= time.monotonic_ns() - int(state.now) < SECOND


def test_real_packets_are_stamped_by_the_kernel_and_media_leaves_in_time() -> None:
    async def scene() -> None:
        served = Served()
        try:
            publisher, watcher = served.join(reel=REEL), served.join()
            served.engine.start()
            served.engine.begin(publisher.index, frames=5)
            watcher.send(4, sent=time.monotonic_ns())
            async with asyncio.timeout(5):
                while int(served.engine.sources_of(publisher.index)[0].frames) < 5 or watcher.row.packets < 4:
                    await asyncio.sleep(0.005)
            assert len(publisher.media()) == 10 and state_of(watcher) == OPEN
            assert served.engine.state.late < SECOND
        finally:
            served.close()

    asyncio.run(scene())


def state_of(client: Client) -> int:
    return int(client.row.state)
