"""Address and ufrag tables where probing is hard: many keys of one home slot, the end of the table, one slot free."""

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

SLOTS = 16
HOMES = (SLOTS - 2, SLOTS - 1, 0, 5)  # where the keys' probes begin: most run over the end of the table
Key = tuple[int, int, int]


class Addresses:
    """A table of addresses and the dictionary that it must be like."""

    def __init__(self, dice: random.Random) -> None:
        self.table, self.rows = Table(WORKER, 1), Table(ADDRESS, SLOTS)
        self.w: Any = self.table.rows[0]
        self.w.addresses, self.w.address_slots = self.rows.address, SLOTS
        self.model: dict[Key, int] = {}
        self.keys = self.colliding(dice)

    def colliding(self, dice: random.Random) -> list[Key]:
        """Keys with few homes; many are alike in two of their three parts."""
        found: dict[Key, None] = {}
        while len(found) < 40:
            key = dice.choice([0, 7, -9]), dice.choice([1, 2, -3, dice.getrandbits(32)]), dice.randrange(1, 400)
            if int(address_slot(self.w, *key)) in HOMES:
                found[key] = None
        return list(found)

    @staticmethod
    def array(key: Key) -> np.ndarray[Any, Any]:
        return np.array(key, np.int64)

    def put(self, key: Key, transport: int) -> None:
        put_address(self.w, self.array(key), transport)
        self.model[key] = transport

    def drop(self, key: Key) -> None:
        drop_address(self.w, *key, self.model.pop(key))

    def check(self) -> None:
        for key in self.keys:
            assert find_address(self.w, self.array(key)) == self.model.get(key, 0)
        assert (self.rows.rows["transport"] != 0).sum() == len(self.model)


class Ufrags:
    """The same for ufrags."""

    def __init__(self, dice: random.Random) -> None:
        self.table, self.rows = Table(WORKER, 1), Table(UFRAG, SLOTS)
        self.w: Any = self.table.rows[0]
        self.w.ufrags, self.w.ufrag_slots = self.rows.address, SLOTS
        self.model: dict[int, int] = {}
        self.keys = [dice.randrange(1, 1 << 50) * SLOTS + dice.choice(HOMES) for _ in range(40)]

    def put(self, key: int, transport: int) -> None:
        if key in self.model:
            drop_ufrag(self.w, key)
        put_ufrag(self.w, key, transport)
        self.model[key] = transport

    def drop(self, key: int) -> None:
        drop_ufrag(self.w, key)
        del self.model[key]

    def check(self) -> None:
        for key in self.keys:
            assert find_ufrag(self.w, key) == self.model.get(key, 0)
        assert (self.rows.rows["transport"] != 0).sum() == len(self.model)
        assert (self.rows.rows["hash"] != 0).sum() == len(self.model)


@pytest.mark.parametrize("most", [3, SLOTS // 2, SLOTS - 1])
@pytest.mark.parametrize("kind", [Addresses, Ufrags])
@pytest.mark.parametrize("seed", range(3))
def test_keys_that_collide_are_found_and_no_others(kind: Any, most: int, seed: int) -> None:
    dice = random.Random(seed)
    table = kind(dice)
    table.check()
    for _ in range(150):
        key = dice.choice(table.keys)
        if key in table.model and dice.random() < 0.5 or len(table.model) == most:
            table.drop(dice.choice(list(table.model)))
        else:
            table.put(key, dice.randrange(1, 9))
        table.check()
    while table.model:
        table.drop(dice.choice(list(table.model)))
        table.check()


@pytest.mark.parametrize("kind", [Addresses, Ufrags])
def test_key_that_is_put_again_has_one_slot_and_the_new_transport(kind: Any) -> None:
    table = kind(random.Random(1))
    for transport in (1, 2, 3):
        for key in table.keys[:6]:
            table.put(key, transport)
        table.check()


def test_address_is_dropped_by_its_own_transport_only() -> None:
    table = Addresses(random.Random(3))
    for transport, key in enumerate(table.keys[: SLOTS - 1], start=1):
        table.put(key, transport)
    for key in table.keys:
        for transport in (0, 99, 1 + table.keys.index(key) % (SLOTS - 1) + 1):
            drop_address(table.w, *key, transport)
        table.check()


def test_ufrag_that_is_not_there_is_dropped_from_no_slot() -> None:
    table = Ufrags(random.Random(2))
    for key in table.keys[: SLOTS - 1]:
        table.put(key, 5)
    for key in table.keys[SLOTS - 1 :]:
        drop_ufrag(table.w, key)
    table.check()


def signed(word: int) -> int:
    return word - (word >> 63 << 64)


@pytest.mark.parametrize(
    ("host", "family", "high", "low"),
    [
        ("10.1.2.3", socket.AF_INET, 0, 0x0A010203),
        ("255.255.255.254", socket.AF_INET, 0, 0xFFFFFFFE),
        ("2001:db8:1:2:3:4:5:6", socket.AF_INET6, 0x20010DB800010002, 0x0003000400050006),
        ("fe80:1:2:3:f004:5:6:7", socket.AF_INET6, 0xFE80000100020003, 0xF004000500060007),
        ("10.1.2.3", socket.AF_INET6, 0, 0x0000FFFF0A010203),
    ],
)
@pytest.mark.parametrize("port", [1, 80, 40_000, 65_535])
@pytest.mark.parametrize("before", [0, 32])
def test_key_is_the_whole_address(host: str, family: int, high: int, low: int, port: int, before: int) -> None:
    data = bytes(before) + pack_sockaddr(host, port, family) + b"\xff" * 8
    key = np.full(3, 77, np.int64)
    address_key(np.frombuffer(data, np.uint8), before, key)
    assert key.tolist() == [signed(high), signed(low), port]
