"""Hash tables of one worker: which transport an address or an ICE ufrag belongs to.

Open addressing with linear probing; removal shifts what follows back, so nothing is left behind. At most half full:
there are eight slots of addresses and four of ufrags for each transport, which holds at most four and two.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.bits import be16, be32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import ADDRESS, UFRAG, address_at, ufrag_at

ADDRESS_SIZE, UFRAG_SIZE = ADDRESS.itemsize, UFRAG.itemsize
AF_INET = 2
MIX = int64(0x9E3779B97F4A7C15 - (1 << 64))


@kernel
def word(b: Any, at: int) -> int:
    """Eight bytes as one signed word."""
    return int64(be32(b, at) << 32 | be32(b, at + 4))


@kernel
def address_key(name: Any, at: int, key: Any) -> None:
    """Fill key = (high, low, port) from a sockaddr in name[at:]."""
    key[2] = be16(name, at + 2)
    if int64(name[at]) == AF_INET:
        key[0] = 0
        key[1] = be32(name, at + 4)
    else:
        key[0] = word(name, at + 8)
        key[1] = word(name, at + 16)


@kernel
def address_hash(high: int, low: int, port: int) -> int:
    """A number whose low bits differ for the ports of one host, as for hosts: many peers share an address."""
    return int64((high ^ low * 31 ^ port << 40) * MIX >> 40)  # below bit 40 of the product the port has no say


@kernel
def address_slot(w: Any, high: int, low: int, port: int) -> int:
    """The slot where the search for an address begins."""
    return int64(address_hash(high, low, port) & (w.address_slots - 1))


@kernel
def find_address(w: Any, key: Any) -> int:
    """The transport of an address; 0: none."""
    slot = address_slot(w, key[0], key[1], key[2])
    while True:
        row = address_at(w.addresses + slot * ADDRESS_SIZE)
        if row.transport == 0:
            return 0
        if row.low == key[1] and row.port == key[2] and row.high == key[0]:
            return int64(row.transport)
        slot = (slot + 1) & (w.address_slots - 1)


@kernel
def put_address(w: Any, key: Any, transport: int) -> None:
    """Bind an address to a transport, whoever had it before: `paths` knows whether it may."""
    slot = address_slot(w, key[0], key[1], key[2])
    while True:
        row = address_at(w.addresses + slot * ADDRESS_SIZE)
        same = row.low == key[1] and row.port == key[2] and row.high == key[0]
        if row.transport == 0 or same:
            row.high, row.low, row.port, row.transport = key[0], key[1], key[2], transport
            return
        slot = (slot + 1) & (w.address_slots - 1)


@kernel
def clear_address(w: Any, hole: int) -> None:
    """Empty a slot and move back what had been pushed past it."""
    mask = w.address_slots - 1
    slot = hole
    while True:
        slot = (slot + 1) & mask
        row = address_at(w.addresses + slot * ADDRESS_SIZE)
        if row.transport == 0:
            break
        home = address_slot(w, row.high, row.low, row.port)
        if (slot - home) & mask >= (slot - hole) & mask:
            to = address_at(w.addresses + hole * ADDRESS_SIZE)
            to.high, to.low, to.port, to.transport = row.high, row.low, row.port, row.transport
            hole = slot
    address_at(w.addresses + hole * ADDRESS_SIZE).transport = 0


@kernel
def drop_address(w: Any, high: int, low: int, port: int, transport: int) -> None:
    """Forget an address, if it is this transport's."""
    slot = address_slot(w, high, low, port)
    while True:
        row = address_at(w.addresses + slot * ADDRESS_SIZE)
        if row.transport == 0:
            return
        if row.low == low and row.port == port and row.high == high:
            if row.transport == transport:
                clear_address(w, slot)
            return
        slot = (slot + 1) & (w.address_slots - 1)


@kernel
def find_ufrag(w: Any, hashed: int) -> int:
    """The transport whose local ufrag hashes so; 0: none."""
    slot = hashed & (w.ufrag_slots - 1)
    while True:
        row = ufrag_at(w.ufrags + slot * UFRAG_SIZE)
        if row.transport == 0 or row.hash == hashed:
            return int64(row.transport)
        slot = (slot + 1) & (w.ufrag_slots - 1)


@kernel
def put_ufrag(w: Any, hashed: int, transport: int) -> None:
    """Bind a ufrag to a transport."""
    slot = hashed & (w.ufrag_slots - 1)
    while ufrag_at(w.ufrags + slot * UFRAG_SIZE).transport != 0:
        slot = (slot + 1) & (w.ufrag_slots - 1)
    row = ufrag_at(w.ufrags + slot * UFRAG_SIZE)
    row.hash, row.transport = hashed, transport


@kernel
def drop_ufrag(w: Any, hashed: int) -> None:
    """Forget a ufrag, if it is there."""
    mask = w.ufrag_slots - 1
    hole = hashed & mask
    while ufrag_at(w.ufrags + hole * UFRAG_SIZE).hash != hashed:
        if ufrag_at(w.ufrags + hole * UFRAG_SIZE).transport == 0:
            return
        hole = (hole + 1) & mask
    slot = hole
    while True:
        slot = (slot + 1) & mask
        row = ufrag_at(w.ufrags + slot * UFRAG_SIZE)
        if row.transport == 0:
            break
        if (slot - (row.hash & mask)) & mask >= (slot - hole) & mask:
            to = ufrag_at(w.ufrags + hole * UFRAG_SIZE)
            to.hash, to.transport = row.hash, row.transport
            hole = slot
    row = ufrag_at(w.ufrags + hole * UFRAG_SIZE)
    row.hash, row.transport = 0, 0
