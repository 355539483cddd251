"""The addresses of a transport: whose they are, which one media goes to, and how much may be sent there.

A path is an address that an authenticated check came from. Two rules keep members from hurting others with it:

- An address that a living session has stays its own. A session lives at an address while something authentic came from
  there within HELD. A NAT that gives a dead client's port to another one is followed as soon as that time is over. An
  address that is not proven, see below, is held for that time once: nobody can sit on addresses of others.
- An authenticated check proves who sent it, not that the sender gets what is sent to its source address, which a member
  can forge. Until the peer has shown that too, at most three times what came from an address is sent to it (as RFC 9000
  8.1 has it for QUIC; UDP payloads are counted). It is shown by an answer to a request of ours (`questions`), or by a
  DTLS handshake whose flights were sent to this address alone.

What came while this thread did not run is not held against anybody: silence counts from `awake_since`.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import transport_of
from mediaserver.engine.layout import ADDRESS_CHANGED, ADDRESSES, SECOND
from mediaserver.engine.news import tell_peer
from mediaserver.engine.replies import copy_packet_info
from mediaserver.engine.send import flush
from mediaserver.engine.tables import AF_INET, drop_address, find_address, put_address
from packetio.batch import SLOT, SOCKADDR
from packetio.memory import copy_bytes, numbers_at

HELD = 7 * SECOND  # ns; peers check consent every 4 to 6 s (RFC 7675 5.1), browsers and senders of RTCP more often
SILENT = 3 * SECOND  # ns without a sign of life after which another address of the peer takes over unasked
NONE = int64(-1)
TAKEN = int64(-2)  # TRANSPORT.path when another session has the address that media went to
FLOW = (1 << 32) - 1  # of a sockaddr_in6's first word all but the flow label


@kernel
def silent(w: Any, heard: int, limit: int) -> bool:
    """Whether nothing came for `limit` ns in which we would have noticed."""
    return bool(w.now - max(heard, w.awake_since) > limit)


@kernel
def path_of(t: Any, key: Any) -> int:
    """Which of the transport's paths an address key is; NONE."""
    for k in range(ADDRESSES):
        if t.path_check[k] and t.path_low[k] == key[1] and t.path_port[k] == key[2] and t.path_high[k] == key[0]:
            return int64(k)
    return NONE


@kernel
def bind_path(w: Any, ti: int, t: Any, key: Any) -> int:
    """Make an address a path of the transport; NONE when a living session of another peer has it."""
    owner = find_address(w, key)
    if owner and owner != ti and not give_up_path(w, transport_of(w, owner), key):
        return NONE
    k = free_place(w, ti, t)
    t.path_high[k], t.path_low[k], t.path_port[k] = key[0], key[1], key[2]
    t.path_bound[k] = t.path_check[k] = w.now
    t.path_valid[k] = 0
    put_address(w, key, ti)
    return k


@kernel
def give_up_path(w: Any, t: Any, key: Any) -> bool:
    """Take an address from a transport that is dead there; False when it lives. Nothing more is sent there for it."""
    k = path_of(t, key)
    if k == NONE:
        return True
    current = t.remote_size != 0 and k == t.path
    seen = t.path_check[k] if t.path_valid[k] else t.path_bound[k]
    if current and t.path_valid[k]:
        seen = max(seen, t.remote_heard)
    if not silent(w, seen, HELD):
        return False
    t.path_check[k] = 0
    if current:
        t.path = TAKEN
        t.limited = 1
        t.came = t.gone = 0
        t.gone_before = t.gone_control
    return True


@kernel
def free_place(w: Any, ti: int, t: Any) -> int:
    """A free place for a path. When there is none, the one checked longest ago goes, but never the one of media."""
    oldest = NONE
    for k in range(ADDRESSES):
        if t.path_check[k] == 0:
            return int64(k)
        current = t.remote_size != 0 and k == t.path
        if not current and (oldest == NONE or t.path_check[k] < t.path_check[oldest]):
            oldest = int64(k)
    drop_address(w, t.path_high[oldest], t.path_low[oldest], t.path_port[oldest], ti)
    if t.question_path == oldest:
        t.question_size = t.question_left = 0
    t.path_check[oldest] = 0
    return oldest


@kernel
def drop_paths(w: Any, ti: int, t: Any) -> None:
    """The transport goes: its addresses are free."""
    for k in range(ADDRESSES):
        if t.path_check[k]:
            drop_address(w, t.path_high[k], t.path_low[k], t.path_port[k], ti)
            t.path_check[k] = 0


@kernel
def move(w: Any, ti: int, t: Any, path: int, slot: int, size: int, control_size: int) -> None:
    """Let media go to the sender of a received datagram, which is one of the transport's paths."""
    flush(w)  # what is queued points into the record
    name = w.names + slot * 32
    copy_bytes(t.remote.ctypes.data, name, SOCKADDR)
    t.remote_size = 16 if int64(t.remote[0]) == AF_INET else SOCKADDR
    copy_packet_info(w, t, slot, control_size)
    t.path = path
    t.remote_heard = w.now
    t.limited = int64(t.path_valid[path] == 0)
    t.came, t.gone = size, 0
    t.gone_before = t.gone_control
    t.starved = 0
    t.moves += 1
    if t.moves > 1:
        tell_peer(w, ti, t, ADDRESS_CHANGED)


@kernel
def proven(t: Any, path: int) -> None:
    """The peer gets what is sent to this path."""
    t.path_valid[path] = 1
    if t.remote_size and path == t.path:
        t.limited = 0


@kernel
def proven_by_handshake(t: Any) -> None:
    """The keys are agreed. If our flights went nowhere else, whoever knows them is where media goes.

    Else a member could take part at its own address, and name a victim's in the middle.
    """
    if t.remote_size and t.path != TAKEN and t.proven == t.moves:
        proven(t, t.path)


@kernel
def from_remote(t: Any, name: int) -> bool:
    """Whether the sockaddr at `name` is the one that media goes to (family, port, address; not the flow label)."""
    a, b = numbers_at(t.remote.ctypes.data, 3), numbers_at(name, 3)
    if t.remote_size == 16:
        return bool(a[0] == b[0])
    return bool((a[0] ^ b[0]) & FLOW == 0 and a[1] == b[1] and a[2] == b[2])


@kernel
def heard(w: Any, t: Any, address: int, size: int) -> None:
    """An authentic packet is in the receive slot at `address`: its sender lives, and so does the way to it."""
    t.last_heard = w.now
    if from_remote(t, w.names + (address - w.data) // SLOT * 32):
        t.remote_heard = w.now
        t.came += size


@kernel
def counted(w: Any, t: Any, address: int, size: int) -> None:
    """A datagram that proves nothing is in the slot: what came from an address may be answered threefold."""
    if t.limited and from_remote(t, w.names + (address - w.data) // SLOT * 32):
        t.came += size


@kernel
def restart_questions(t: Any) -> None:
    """ICE begins anew: the peer's password goes the way of ours, and an answer that is under way comes too late."""
    t.old_peer_password_size = t.peer_password_size
    copy_bytes(t.old_peer_password.ctypes.data, t.peer_password.ctypes.data, t.peer_password.size)
    t.peer_password_size = t.next_peer_password_size
    copy_bytes(t.peer_password.ctypes.data, t.next_peer_password.ctypes.data, t.peer_password.size)
    t.question_size = t.question_left = 0
