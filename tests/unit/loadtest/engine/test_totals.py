"""Sums over clients are those of the rows, whoever is there, gone or silenced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from loadtest.clips.reel import Reel
from loadtest.engine.layout import LATENCY_BUCKETS, MS, VIDEO
from loadtest.engine.totals import PRESENT, Totals, add_clients, sum_of
from tests.unit.loadtest.engine.clients import START, Client, Served
from tests.unit.loadtest.engine.watching import opus

REEL = Reel.synthetic(25, 3, 400)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(capacity=8)
    yield made
    made.close()


def filled(seed: int) -> Totals:
    random = np.random.default_rng(seed)
    made = Totals(**{f.name: int(random.integers(1, 1000)) for f in fields(Totals) if f.name != "latency"})
    made.latency = random.integers(0, 9, LATENCY_BUCKETS)
    return made


def test_nobody_counts_nothing(served: Served) -> None:
    assert served.engine.totals() == {}
    total = Totals()
    add_clients(served.engine, np.array([], np.int64), total)
    assert total.packets == total.clients == 0 and not total.latency.any()


def test_copies_stand_still(served: Served) -> None:
    first = filled(1)
    second = first.copy()
    first.packets += 1
    first.latency[3] += 1
    assert second.packets == first.packets - 1 and second.latency[3] == first.latency[3] - 1


def test_adding_sums_counts_and_keeps_the_greater_maximum() -> None:
    one, two = filled(1), filled(2)
    total = sum_of({0: one, 1: two})
    for f in fields(Totals):
        a, b, c = (getattr(t, f.name) for t in (one, two, total))
        if f.name == "latency":
            assert (a + b == c).all()
        else:
            assert c == (max(a, b) if f.name in ("longest_freeze", "latency_max") else a + b), f.name


def test_what_came_since_leaves_out_what_was_before_and_keeps_what_is_of_now() -> None:
    before, more = filled(1), filled(2)
    after = before.copy()
    after.add(more)
    since = after.since(before)
    for f in fields(Totals):
        if f.name == "latency":
            assert (since.latency == more.latency).all()
        else:
            wanted = after if f.name in PRESENT else more
            assert getattr(since, f.name) == getattr(wanted, f.name), f.name


def test_groups_are_summed_apart(served: Served) -> None:
    clients = [served.join(group) for group in (0, 2, 2)]
    for k, client in enumerate(clients):
        client.send(10 * (k + 1))
    served.run(1)
    totals = served.engine.totals()
    assert {group: (t.packets, t.clients) for group, t in totals.items()} == {0: (10, 1), 2: (50, 2)}
    assert sum_of(totals).expected == 60 and sum_of(totals).lost == 0


def test_loss_repair_and_duplicates_are_those_of_the_streams(served: Served) -> None:
    client = served.join()
    for lost in (3, 0):
        client.send(5)
        client.sequence += lost
        served.run(1)
    again = client.sequence - 1
    sealed = client.sealer.protect(opus(again + 1).data())
    client.server.send(sealed)
    client.server.send(sealed)
    served.run(1)
    total = sum_of(served.engine.totals())
    assert (total.packets, total.expected, total.duplicates) == (11, 14, 1)
    served.run(700, step=10)
    total = sum_of(served.engine.totals())
    assert (total.lost, total.given_up) == (3, 3)
    assert total.audio_octets == total.octets > 0 and total.video_octets == total.videos == 0


def test_sent_media_is_counted_from_the_sources(served: Served) -> None:
    clients = [served.join(reel=REEL), served.join(reel=REEL)]
    for client in clients:
        served.engine.begin(client.index, START + 1 * MS, frames=4)
    served.run(200)
    total = sum_of(served.engine.totals())
    assert (total.sent, total.sent_frames) == (24, 8) and total.sent_octets > 24 * 400
    assert total.datagrams == sum(int(client.row.sent) for client in clients) >= 24
    assert total.clients == 2 and total.packets == 0 and not total.latency.any()


def looped(served: Served, watchers: int = 1) -> tuple[Client, list[Client]]:
    """A publisher, and watchers that get what it sent."""
    publisher = served.join(reel=REEL)
    clients = [served.join(1) for _ in range(watchers)]
    served.engine.begin(publisher.index, START + 1 * MS, frames=10)
    for _ in range(500):
        served.run(1)
        for packet in publisher.media():
            for client in clients:
                client.server.send(client.sealer.protect(packet))
    return publisher, clients


def test_widths_and_streams_are_of_those_who_are_there(served: Served) -> None:
    _, clients = looped(served, 3)
    total = served.engine.totals()[1]
    assert (total.clients, total.videos, total.width_sum) == (3, 3, 3 * 1280)
    assert total.frames == 30 and total.keyframes == 3 and total.video_octets == total.octets
    served.engine.silence(clients[0].index)
    clients[1].row.counted_only = 1
    total = served.engine.totals()[1]
    assert (total.clients, total.videos, total.width_sum, total.frames) == (2, 1, 1280, 30)
    gone = Totals()
    add_clients(served.engine, np.array([client.index for client in clients]), gone, here=False)
    assert (gone.clients, gone.videos, gone.width_sum, gone.frames) == (0, 0, 0, 30)


def test_latencies_of_all_streams_are_in_one_histogram(served: Served) -> None:
    clients = [served.join(), served.join(1)]
    for k, client in enumerate(clients):
        client.send(5, sent=START - (k + 1) * 10 * MS)
    served.run(1)
    total = sum_of(served.engine.totals())
    assert total.latency.sum() == 10 and np.count_nonzero(total.latency) == 2
    assert 21 * MS <= total.latency_max <= 22 * MS
    assert int(served.engine.streams.rows[int(clients[0].row.streams[0])].kind) != VIDEO


def test_a_freeze_that_has_not_ended_counts_as_long_as_it_is_until_now(served: Served) -> None:
    _, (client,) = looped(served)
    seen = served.engine.totals()[1]  # 500 ms in, 100 ms after the last of ten frames
    assert (seen.frames, seen.freezes, seen.frozen) == (10, 0, 0)
    served.run(2000, step=10)
    still = served.engine.totals()[1]
    assert still.freezes == 1 and 2000 * MS < still.frozen == still.longest_freeze < 2200 * MS
    served.engine.silence(client.index)
    assert served.engine.totals()[1].freezes == 0
