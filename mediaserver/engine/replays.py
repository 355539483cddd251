"""Checks that a transport has seen: a copy of one that somebody overheard must not move anything.

STUN over UDP repeats a request with its transaction id until it is answered (RFC 8489 6.2.1), so the same id from the
same address is answered again, and does nothing else. From another address it is a replay. Ids of REMEMBERED answered
requests are kept; only the peer itself can push one out, by as many new ones. With a copy that is older than these an
address can be bound, but media moves there only when somebody answers a question of ours (`questions`).
"""

from __future__ import annotations

from typing import Any

from mediacodecs.bits import be32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import REMEMBERED
from mediaserver.engine.tables import MIX, word

NEW, AGAIN, REPLAYED = 0, 1, 2
SOURCE = (1 << 32) - 1  # the half of a stored word that tells where a check came from


@kernel
def source_word(b: Any, at: int, key: Any) -> int:
    """What is kept beside the first 8 bytes of an id: its last 4 bytes, and a hash of the sender's address key."""
    mixed = (key[0] ^ key[1] * 31 ^ key[2] << 40) * MIX
    return int64(be32(b, at + 8) << 32 | (mixed >> 31) & SOURCE)


@kernel
def recognise(t: Any, b: Any, at: int, key: Any) -> int:
    """Whether the transaction id at b[at] is NEW, came from the sender AGAIN, or is REPLAYED by another one."""
    first, rest = word(b, at), source_word(b, at, key)
    for k in range(min(t.check_count, REMEMBERED)):
        if t.check_ids[k] == first and (t.check_sources[k] ^ rest) & ~SOURCE == 0:
            return AGAIN if t.check_sources[k] == rest else REPLAYED
    return NEW


@kernel
def keep(t: Any, b: Any, at: int, key: Any) -> None:
    """The request with the transaction id at b[at] is being answered."""
    k = t.check_count % REMEMBERED
    t.check_ids[k] = word(b, at)
    t.check_sources[k] = source_word(b, at, key)
    t.check_count += 1
