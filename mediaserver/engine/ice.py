"""ICE-lite (RFC 8445 2.5) in the engine: authenticated binding requests are answered here and decide where media goes.

Media goes to the first address that was authenticated. It moves to another one that the peer nominates (USE-CANDIDATE),
or that goes on checking when the old one has gone silent, so that a client whose address changes keeps its session. It
moves at once when that address is proven to be the peer's, else as soon as it answers a question of ours (`questions`),
as full agents do. A peer that never answered one is believed while the handshake runs, and when its old address is
silent; `paths` limits then what it gets.

Unanswered, as if they had been lost, are: what is malformed or not authentic; a wrong FINGERPRINT (RFC 8489 14.7; one
that is missing is tolerated: it only tells STUN from other traffic, and MESSAGE-INTEGRITY says more); an unknown ufrag;
replays; and checks from an address that another living session has. To those an error would be more honest, but clients
take it for the end of the pair, where silence makes them ask again, and by then the old session may be dead.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    begin_integrity,
    end_integrity,
    fingerprint_ok,
    parse_stun,
    username_hash,
    write_binding_success,
    write_fingerprint,
)
from mediaserver.engine.access import transport_of
from mediaserver.engine.buckets import may_check
from mediaserver.engine.commands import take_commands
from mediaserver.engine.ended import has_ended
from mediaserver.engine.layout import ICE_CONNECTED
from mediaserver.engine.news import tell_peer
from mediaserver.engine.paths import NONE, SILENT, bind_path, move, path_of, silent
from mediaserver.engine.questions import ask, authentic, handle_answer, sign
from mediaserver.engine.replays import NEW, REPLAYED, keep, recognise
from mediaserver.engine.replies import reply
from mediaserver.engine.tables import AF_INET, address_key, find_ufrag
from packetio.batch import SLOT
from packetio.memory import bytes_at

STUN_SCRATCH = 2048  # offset in the worker's scratch where answers are built
WITHHELD = 2  # checks of a peer that we call for DTLS which are answered only once it has answered us, see `withhold`
ASKED = 3  # questions without an answer after which a peer is taken for one that never answers


@kernel
def handle_stun(w: Any, slot: int, size: int, control_size: int) -> None:
    """Answer one binding request, if it is authentic; take one answer to ours."""
    b = bytes_at(w.data + slot * SLOT, SLOT)
    stun = w.stun
    w.stun_in += 1
    if parse_stun(b, 0, size, stun) != 0 or stun.integrity_at == 0:
        w.drop_stun += 1
    elif stun.kind == BINDING_REQUEST:
        handle_check(w, b, slot, size, control_size)
    elif (stun.kind == BINDING_SUCCESS or stun.kind == BINDING_ERROR) and whole(b, stun):
        ti = handle_answer(w, b, slot, size, control_size)
        if ti:
            answer_withheld(w, ti, transport_of(w, ti), slot, control_size)
    else:
        w.drop_stun += 1


@kernel
def whole(b: Any, stun: Any) -> bool:
    """Whether the FINGERPRINT is right or missing."""
    return stun.fingerprint_at == 0 or fingerprint_ok(b, 0, stun)


@kernel
def handle_check(w: Any, b: Any, slot: int, size: int, control_size: int) -> None:
    """One binding request."""
    stun = w.stun
    hashed = username_hash(b, int64(stun.username_at), int64(stun.username_size))
    ti = find_ufrag(w, hashed)
    if ti == 0 and take_commands(w) > 0:  # the check may have overtaken the command that makes it known
        ti = find_ufrag(w, hashed)
    t = transport_of(w, ti)
    old = hashed != t.ufrag
    known = ti != 0 and may_check(w, t) and whole(b, stun)  # a stranger costs a look-up
    if not known or not authentic(w, b, our_key(t, old), our_key_size(t, old)):
        refuse(w, ti, slot)
        return
    address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
    seen = recognise(t, b, int64(stun.transaction_at), w.words)
    path = path_of(t, w.words)
    if seen == NEW and path == NONE:
        path = bind_path(w, ti, t, w.words)
    if seen == REPLAYED or (seen == NEW and path == NONE):
        w.drop_stun += 1
        return
    if seen == NEW:
        checked(w, ti, t, path, slot, size, control_size, old)
        if withhold(t, b, int64(stun.transaction_at), path, old):
            return
        address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
        keep(t, b, int64(stun.transaction_at), w.words)
    elif t.remote_size and path == t.path:
        t.came += size
    answer(w, t, b, int64(stun.transaction_at), slot, control_size, old)
    connect(w, ti, t)


@kernel
def refuse(w: Any, ti: int, slot: int) -> None:
    """Count a check that is not answered: a stranger's, or of a peer whose session, and so its ufrag, has ended."""
    address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
    w.drop_stun += ti != 0 or not has_ended(w, w.words, w.names + slot * 32)


@kernel
def connect(w: Any, ti: int, t: Any) -> None:
    """The peer's first check is answered."""
    if t.connected == 0:
        t.connected = 1
        tell_peer(w, ti, t, ICE_CONNECTED)


@kernel
def our_key(t: Any, old: bool) -> int:
    """Address of our password, the key of checks and of our answers; `old`: before the newest ICE restart."""
    return int64(t.old_password.ctypes.data if old else t.password.ctypes.data)


@kernel
def our_key_size(t: Any, old: bool) -> int:
    """Its bytes."""
    return int64(t.old_password_size if old else t.password_size)


@kernel
def checked(w: Any, ti: int, t: Any, path: int, slot: int, size: int, control_size: int, old: bool) -> None:
    """A new authentic check of `size` bytes came from a path: a sign of life, and maybe a wish to be sent to there."""
    t.last_check = t.last_heard = t.path_check[path] = w.now
    nominated = w.stun.use_candidate != 0
    if t.remote_size and path == t.path:
        t.remote_heard = w.now
        t.came += size
        if nominated:
            t.question_moves = 0  # the peer stays after all
        if doubtful(t):
            ask(w, ti, t, path, slot, size, control_size, old)
        return
    first = t.remote_size == 0
    gone = silent(w, t.remote_heard, SILENT)
    if not (first or nominated or gone):
        return
    valid = t.path_valid[path] != 0
    if first or valid or (t.answers == 0 and (gone or t.secured == 0)):
        move(w, ti, t, path, slot, size, control_size)
    if not valid and (t.calls or not first):
        ask(w, ti, t, path, slot, size, control_size, old)


@kernel
def doubtful(t: Any) -> bool:
    """Whether to ask where media goes already: for the limit's sake, or once to learn that the peer answers.

    A first address is not asked while the handshake, which proves it too, gets along within the limit.
    """
    if t.limited:
        return bool(t.calls or t.secured or t.starved)
    return bool(t.secured and t.answers == 0 and t.asked < ASKED)


@kernel
def withhold(t: Any, b: Any, at: int, path: int, old: bool) -> bool:
    """Whether the check with the transaction id at b[at] has to wait for its answer until the peer has answered us.

    Where we call (DTLS), the peer falls silent once it has its answer: if our question or its reply were lost, our
    first flight could never be repeated within the limit. A peer that checks again gets another question instead.
    """
    if t.connected or t.calls == 0 or t.limited == 0 or t.withheld >= WITHHELD:
        return False
    t.withheld += 1
    for k in range(t.withheld_id.size):
        t.withheld_id[k] = b[at + k]
    t.withheld_path, t.withheld_old = path + 1, int64(old)
    return True


@kernel
def answer_withheld(w: Any, ti: int, t: Any, slot: int, control_size: int) -> None:
    """The peer has answered us from the address in the slot: its own check from there is answered now."""
    address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
    if t.withheld_path == 0 or t.connected or path_of(t, w.words) != t.withheld_path - 1:
        return
    t.withheld_path = 0
    check = bytes_at(t.withheld_id.ctypes.data, t.withheld_id.size)
    keep(t, check, 0, w.words)
    answer(w, t, check, 0, slot, control_size, t.withheld_old != 0)
    connect(w, ti, t)


@kernel
def answer(w: Any, t: Any, b: Any, transaction_at: int, slot: int, control_size: int, old: bool) -> None:
    """Send the binding success response for the transaction id at b[transaction_at] to the address in the slot."""
    to = bytes_at(w.scratch + STUN_SCRATCH, 512)
    name = bytes_at(w.names + slot * 32, 32)
    address_key(name, 0, w.words)
    v4 = int64(name[0]) == AF_INET
    mapped = int64(w.words[0]) == 0 and (w.words[1] >> 32) & 0xFFFFFFFF == 0xFFFF
    address = bytes_at(w.names + slot * 32 + (4 if v4 else 20 if mapped else 8), 16)
    port = int64(name[2]) << 8 | int64(name[3])
    family = 4 if v4 or mapped else 6
    at = write_binding_success(to, 0, b, transaction_at, address, family, port)
    begin_integrity(to, 0, at)
    sign(w, our_key(t, old), our_key_size(t, old), to.ctypes.data, at)
    end = write_fingerprint(to, 0, end_integrity(to, 0, at, w.sha1))
    path = path_of(t, w.words)
    if t.remote_size and path == t.path:
        t.gone += end
    elif path == t.question_path:
        t.question_gone += end
    reply(w, slot, control_size, w.scratch + STUN_SCRATCH, end)
