"""Datagrams on their way out: batches of one client, the bad network, and a socket that takes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.clips.reel import Reel
from loadtest.engine.engine import SEND_SLOTS, LinkSettings
from loadtest.engine.layout import MS
from loadtest.engine.post import clock, post_copy, post_rtcp
from packetio.memory import Table
from tests.unit.loadtest.engine.clients import START, Served

LARGE = Reel.synthetic(25, 150, 300)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def numbers(packets: list[bytes]) -> list[int]:
    return [int.from_bytes(packet[2:4]) for packet in packets]


def test_a_frame_larger_than_a_batch_leaves_whole_and_in_order(served: Served) -> None:
    client = served.join(reel=LARGE)
    assert SEND_SLOTS < 150
    served.engine.begin(client.index, START + 1 * MS)
    served.run(2)
    found = numbers(client.media())
    assert found == list(range(found[0], found[0] + 150))
    assert client.row.sent == served.engine.state.sent == 150 + 1 and served.engine.state.filled == 0
    assert client.row.failures == 0


def test_each_client_s_datagrams_leave_by_its_own_socket(served: Served) -> None:
    clients = [served.join(reel=LARGE), served.join(reel=LARGE)]
    for client in clients:
        served.engine.begin(client.index, START + 1 * MS)
    served.run(2)
    for client in clients:
        ssrcs = {int.from_bytes(packet[8:12]) for packet in client.media()}
        assert ssrcs == {0xABC00 + client.index}


def test_a_bad_network_loses_and_delays_what_leaves(served: Served) -> None:
    delayed = served.join(reel=LARGE, up=LinkSettings(delay_ms=20))
    lossy = served.join(reel=LARGE, up=LinkSettings(loss=(0.2, 0.8, 0, 1)))
    for client in (delayed, lossy):
        served.engine.begin(client.index, START + 1 * MS, frames=1)
    served.run(20)
    assert delayed.came() == [] and delayed.row.sent == 0
    assert 100 < len(lossy.media()) < 140
    served.run(2)
    found = numbers(delayed.media())
    assert found == list(range(found[0], found[0] + 150))
    assert lossy.row.failures == delayed.row.failures == served.engine.state.held_lost == 0


def test_a_full_delay_queue_is_the_tool_s_own_loss() -> None:
    served = Served(held=100)
    try:
        client = served.join(reel=LARGE, up=LinkSettings(delay_ms=20))
        served.engine.begin(client.index, START + 1 * MS, frames=1)
        served.run(30)
        assert len(client.media()) == 100 and served.engine.state.held_lost == 150 + 1 - 100
    finally:
        served.close()


def test_what_the_kernel_does_not_take_is_counted_and_the_rest_leaves(served: Served) -> None:
    client, other = served.join(reel=LARGE), served.join(reel=LARGE)
    client.server.close()  # the kernel answers with port unreachable, once a batch
    for one in (client, other):
        served.engine.begin(one.index, START + 1 * MS, frames=2)
    served.run(60)
    assert client.row.failures >= 3 and client.row.failures + client.row.sent >= 300
    assert len(other.media()) == 300 and other.row.failures == 0


def test_a_copied_datagram_leaves_as_it_is(served: Served) -> None:
    client = served.join()
    memory = Table(served.engine._scratch.dtype, 64)
    memory.rows[:5] = list(b"hello")
    post_copy(served.engine.state, client.row, memory.address, 5)
    assert client.came() == []
    served.run(1)
    assert client.came() == [b"hello"]


def test_rtcp_is_sealed_and_without_keys_nothing_leaves(served: Served) -> None:
    client = served.join()
    compound = bytes([0x80, 201, 0, 1]) + (7).to_bytes(4)
    for _ in range(2):
        served.engine._scratch.rows[: len(compound)] = list(compound)
        post_rtcp(served.engine.state, client.row, len(compound))
        served.run(1)
        client.row.outbound = 0
    found = client.came()
    assert len(found) == 1 and client.opener.unprotect_rtcp(found[0]) == compound


def test_the_clock_is_the_test_s_or_the_kernel_s(served: Served) -> None:
    served.engine.state.fake_now = 77
    assert clock(served.engine.state) == 77
    served.engine.state.fake_now = 0
    assert clock(served.engine.state) > 1000
