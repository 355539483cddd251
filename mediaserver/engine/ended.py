"""What comes from peers whose session has ended: counted as what it is, and told once.

A publisher that was kicked, that timed out or whose session was deleted by somebody else may go on sending for hours.
Its packets are no stranger's, and whoever looks for it wants a line in the log that names it. So the addresses of ended
transports are remembered: in a table of fixed size, where one address takes another's place, and where a stranger's
packet costs one look. An address that is silent for long is forgotten; one that a new session takes is that session's.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import ADDRESSES, ENDED, ENDED_SLOTS, SECOND, SENDS_ON, ended_at
from mediaserver.engine.ring import emit, has_room
from mediaserver.engine.tables import address_hash
from packetio.batch import SOCKADDR

ENDED_SIZE = ENDED.itemsize
UNDER_WAY = 2 * SECOND  # ns in which a peer may send on: what it has not heard yet, and what is under way
FORGOTTEN = 60 * SECOND  # ns of silence after which an address may be anybody's
MANY = 10  # packets that are more than a last word which came late
assert ENDED_SLOTS & (ENDED_SLOTS - 1) == 0


@kernel
def ended_of(w: Any, high: int, low: int, port: int) -> Any:
    """The ENDED record where an address has its place."""
    return ended_at(w.ended + (address_hash(high, low, port) & (ENDED_SLOTS - 1)) * ENDED_SIZE)


@kernel
def note_ended(w: Any, t: Any) -> None:
    """A transport goes: remember its addresses, while they are its own."""
    for k in range(ADDRESSES):
        if t.path_check[k]:
            row = ended_of(w, t.path_high[k], t.path_low[k], t.path_port[k])
            row.high, row.low, row.port = t.path_high[k], t.path_low[k], t.path_port[k]
            row.serial, row.since, row.heard, row.packets = t.serial, w.now, w.now, 0


@kernel
def has_ended(w: Any, key: Any, name: int) -> bool:
    """Whether a datagram from an address that no transport has is of a peer whose session has ended; counts it then.

    `key` is the address, `name` where its sockaddr lies. Control is told once for each.
    """
    row = ended_of(w, key[0], key[1], key[2])
    if row.serial == 0 or row.low != key[1] or row.port != key[2] or row.high != key[0]:
        return False
    if w.now - row.heard > FORGOTTEN:
        row.serial = 0
        return False
    row.heard = w.now
    if w.now - row.since > UNDER_WAY:
        row.packets += 1
        if row.packets == MANY:
            if has_room(w, SENDS_ON):
                emit(w, SENDS_ON, 0, int64(row.serial), 0, name, SOCKADDR)
            else:
                row.packets -= 1  # with the next one
    w.drop_ended += 1
    return True
