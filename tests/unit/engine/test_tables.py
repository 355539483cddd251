"""Address and ufrag tables against a plain dictionary, through insertions and removals that collide."""

from __future__ import annotations

import random
import socket
from typing import Any

import numpy as np
import pytest

from mediaserver.engine.layout import ADDRESS, UFRAG, WORKER
from mediaserver.engine.tables import (
    address_key,
    address_slot,
    drop_address,
    drop_ufrag,
    find_address,
    find_ufrag,
    put_address,
    put_ufrag,
)
from packetio.batch import pack_sockaddr
from packetio.memory import Table


class Tables:
    """A WORKER with small tables, so that probes collide."""

    def __init__(self, slots: int = 64) -> None:
        self.table, self.addresses, self.ufrags = Table(WORKER, 1), Table(ADDRESS, slots), Table(UFRAG, slots)
        self.w: Any = self.table.rows[0]
        self.w.addresses, self.w.address_slots = self.addresses.address, slots
        self.w.ufrags, self.w.ufrag_slots = self.ufrags.address, slots
        self.key = np.zeros(3, np.int64)

    def of(self, host: str, port: int, family: int) -> np.ndarray[Any, Any]:
        address_key(np.frombuffer(pack_sockaddr(host, port, family), np.uint8), 0, self.key)
        return self.key


@pytest.mark.parametrize("seed", range(4))
def test_addresses_agree_with_a_dictionary(seed: int) -> None:
    rng = random.Random(seed)
    tables, model = Tables(), {}
    places = [(f"10.0.0.{rng.randint(1, 9)}", rng.randint(1, 50), socket.AF_INET) for _ in range(60)]
    places += [(f"fd00::{rng.randint(1, 9)}", rng.randint(1, 50), socket.AF_INET6) for _ in range(60)]
    for _ in range(600):
        place = rng.choice(places)
        if rng.random() < 0.3 and model:
            owner = rng.choice(list(model.values()))
            high, low, number = tables.of(*place).tolist()
            drop_address(tables.w, high, low, number, owner)
            if model.get(place) == owner:
                del model[place]
        elif len(model) < 30:
            owner = rng.randint(1, 12)
            put_address(tables.w, tables.of(*place), owner)
            model[place] = owner
        for p in places:
            assert find_address(tables.w, tables.of(*p)) == model.get(p, 0)


@pytest.mark.parametrize("seed", range(4))
def test_ufrags_agree_with_a_dictionary(seed: int) -> None:
    rng = random.Random(seed)
    tables = Tables()
    model: dict[int, int] = {}
    hashes = [rng.getrandbits(62) & ~0x38 for _ in range(60)]
    for _ in range(800):
        hashed = rng.choice(hashes)
        if hashed in model and rng.random() < 0.6:
            drop_ufrag(tables.w, hashed)
            del model[hashed]
        elif hashed not in model and len(model) < 32:
            model[hashed] = rng.randint(1, 100)
            put_ufrag(tables.w, hashed, model[hashed])
        drop_ufrag(tables.w, 1 << 61)
        assert all(find_ufrag(tables.w, h) == model.get(h, 0) for h in hashes)


def test_same_address_on_another_port_is_another_peer() -> None:
    tables = Tables()
    put_address(tables.w, tables.of("10.0.0.1", 5000, socket.AF_INET), 3)
    assert find_address(tables.w, tables.of("10.0.0.1", 5001, socket.AF_INET)) == 0
    assert find_address(tables.w, tables.of("10.0.0.1", 5000, socket.AF_INET6)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_many_peers_at_one_address_have_places_of_their_own(seed: int) -> None:
    """Behind one NAT, or a load test on loopback: a search takes a step or two, and not one for each of them."""
    rng, slots, count = random.Random(seed), 4096, 1000
    tables, first = Tables(slots), rng.randrange(1024, 60_000)
    ports = [range(first, first + count), [rng.randrange(1024, 65_536) for _ in range(count)]][seed % 2]
    homes = [int(address_slot(tables.w, *tables.of("127.0.0.1", port, socket.AF_INET).tolist())) for port in ports]
    shared = count - len(set(homes))
    assert shared < count / 5
