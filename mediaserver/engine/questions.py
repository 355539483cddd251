"""Binding requests of our own: does the peer get what we send to an address?

A lite agent needs none to find a path (RFC 8445 2.5). Ours are asked before an address that could be anybody's gets
more than `paths` allows, and every full agent answers them (RFC 8445 7.3): browsers as well as libnice, libjuice,
aioice and ffmpeg. The answer counts when it comes from the very address, repeats the transaction id that only this
address was told, and is signed with the peer's password. One question is out for each transport; it is repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.stun import TRANSACTION, begin_integrity, end_integrity, write_binding_request, write_fingerprint
from mediaserver.engine.access import transport_of
from mediaserver.engine.layout import MS, OPEN, QUESTION, QUESTIONS
from mediaserver.engine.paths import SILENT, move, path_of, proven, silent
from mediaserver.engine.replies import queue_to, reply, reply_info
from mediaserver.engine.send import AMPLIFICATION, CONTROLS, make_room, may_send
from mediaserver.engine.tables import address_key, find_address
from packetio.batch import PACKET_INFO, SLOT, SOCKADDR
from packetio.memory import bytes_at, copy_bytes
from packetio.native import evp_sha1, hmac

FIRST_WAIT = 100 * MS  # ns until a question is repeated; doubled each time. DTLS flights are repeated as fast
REPEATS = 4
ANSWER = 80  # bytes of our answer to a check at most (IPv6), which has to fit beside the question
LONGEST_NAME = 300  # bytes of USERNAME that fit into a question


@kernel
def sign(w: Any, key: int, key_size: int, address: int, size: int) -> None:
    """HMAC-SHA1 of `size` bytes at `address` to w.sha1."""
    hmac(evp_sha1(), key, np.int32(key_size), address, size, w.sha1.ctypes.data, 0)


@kernel
def authentic(w: Any, b: Any, key: int, key_size: int) -> bool:
    """Whether MESSAGE-INTEGRITY (RFC 8489 14.5) of the message that w.stun describes is right."""
    at = int64(w.stun.integrity_at)
    high, low = b[2], b[3]
    begin_integrity(b, 0, at)
    sign(w, key, key_size, b.ctypes.data, at)
    b[2], b[3] = high, low
    wrong = 0
    for k in range(20):
        wrong |= int64(w.sha1[k]) ^ int64(b[at + 4 + k])
    return wrong == 0


@kernel
def peer_key(t: Any, old: bool) -> int:
    """Address of what the peer signs with; `old`: before the newest ICE restart."""
    return int64(t.old_peer_password.ctypes.data if old else t.peer_password.ctypes.data)


@kernel
def peer_key_size(t: Any, old: bool) -> int:
    """Its bytes; 0: not known."""
    return int64(t.old_peer_password_size if old else t.peer_password_size)


@kernel
def ask(w: Any, ti: int, t: Any, path: int, slot: int, size: int, control_size: int, old: bool) -> None:
    """An authentic check of `size` bytes came from a path: ask there, if nothing is out already.

    `old`: it named our credentials before the newest ICE restart.
    """
    nominated = w.stun.use_candidate != 0
    if t.question_size and t.question_path == path:
        t.question_came += size
        t.question_moves |= int64(nominated)
        if t.question_left:
            return
    elif w.stun.username_size > LONGEST_NAME or peer_key_size(t, old) == 0:
        return
    else:
        t.question_came, t.question_gone = size, 0
        t.question_path, t.question_moves = path, int64(nominated)
    write_question(w, t, slot, old)
    t.question_info_size = reply_info(w, slot, control_size, t.question_info.ctypes.data)
    copy_bytes(t.question_name.ctypes.data, w.names + slot * 32, SOCKADDR)
    t.asked += 1
    t.question_left, t.question_wait = REPEATS, FIRST_WAIT
    t.question_due = w.now + FIRST_WAIT
    remember(w, ti, t)
    if allowed(t, ANSWER):
        reply(w, slot, control_size, t.question.ctypes.data, int64(t.question_size))


@kernel
def write_question(w: Any, t: Any, slot: int, old: bool) -> None:
    """Write a request with a new transaction id; the names are those of the check in the slot, the other way round."""
    b, to = bytes_at(w.data + slot * SLOT, SLOT), bytes_at(t.question.ctypes.data, QUESTION)
    w.question_count[0] += 1
    sign(w, w.question_key.ctypes.data, 32, w.question_count.ctypes.data, 8)
    at = write_binding_request(to, 0, w.sha1, b, int64(w.stun.username_at), int64(w.stun.username_size))
    begin_integrity(to, 0, at)
    sign(w, peer_key(t, old), peer_key_size(t, old), to.ctypes.data, at)
    t.question_size = write_fingerprint(to, 0, end_integrity(to, 0, at, w.sha1))
    t.question_old = int64(old)


@kernel
def allowed(t: Any, reserve: int) -> bool:
    """Whether the question may be sent within the limit of its path, and count it. `reserve`: bytes to be left."""
    size = int64(t.question_size)
    if t.remote_size and t.question_path == t.path:
        if not may_send(t, size + reserve):
            return False
        t.gone += size
        return True
    if t.path_valid[t.question_path] == 0 and AMPLIFICATION * t.question_came - t.question_gone < size + reserve:
        return False
    t.question_gone += size
    return True


@kernel
def remember(w: Any, ti: int, t: Any) -> None:
    """Have the question repeated, if there is room in the list."""
    if t.question_listed == 0 and w.questions_listed < QUESTIONS:
        w.questions[w.questions_listed] = ti
        w.questions_listed += 1
        t.question_listed = 1


@kernel
def repeat_questions(w: Any) -> None:
    """Once a tick: what was not answered is sent again. A record that was closed and filled anew may be here twice."""
    k = 0
    while k < w.questions_listed:
        t = transport_of(w, w.questions[k])
        if t.state == OPEN and t.question_left:
            if w.now >= t.question_due:
                repeat(w, t)
            k += 1
        else:
            if t.state == OPEN:
                t.question_listed = 0
            w.questions_listed -= 1
            w.questions[k] = w.questions[w.questions_listed]


@kernel
def repeat(w: Any, t: Any) -> None:
    """Send the question once more."""
    t.question_left -= 1
    t.question_wait *= 2
    t.question_due = w.now + t.question_wait
    if t.question_size == 0 or not allowed(t, 0):
        return
    make_room(w, int64(t.question_size))
    control = w.out_controls + w.queued * CONTROLS
    copy_bytes(control, t.question_info.ctypes.data, PACKET_INFO)
    name = t.question_name.ctypes.data
    queue_to(w, name, control, int64(t.question_info_size), t.question.ctypes.data, int64(t.question_size))


@kernel
def handle_answer(w: Any, b: Any, slot: int, size: int, control_size: int) -> int:
    """A response came; one to our question, success or error, proves its path, and may move media there.

    Returns the transport whose question it answers; 0: none.
    """
    address_key(bytes_at(w.names + slot * 32, 32), 0, w.words)
    ti = find_address(w, w.words)
    t = transport_of(w, ti)
    path = path_of(t, w.words) if ti else int64(-1)
    if path < 0 or not answers(w, t, path, b):
        w.drop_stun += 1
        return 0
    nominated = t.question_moves != 0
    t.question_size = t.question_left = 0
    t.answers = 1
    t.last_heard = t.path_check[path] = w.now
    proven(t, path)
    if t.remote_size and path == t.path:
        t.remote_heard = w.now
    elif nominated or silent(w, t.remote_heard, SILENT):
        move(w, ti, t, path, slot, size, control_size)
    return ti


@kernel
def answers(w: Any, t: Any, path: int, b: Any) -> bool:
    """Whether the response in b is the peer's, to the question that is out, from where that was sent."""
    if t.question_size == 0 or path != t.question_path:
        return False
    at = int64(w.stun.transaction_at)
    for k in range(TRANSACTION):
        if b[at + k] != t.question[8 + k]:
            return False
    old = t.question_old != 0
    return authentic(w, b, peer_key(t, old), peer_key_size(t, old))
