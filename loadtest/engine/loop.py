"""The engine's life: go round the clients' sockets, serve what is due between them, rest when little came.

One thread is all clients. Sockets are asked in turn, not polled: a thousand busy sockets give several packets a call
that way, and a poll would make the sender's core pay for wake-ups. Latency does not suffer, for arrivals are the
kernel's receive stamps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtest.engine.held import DOWN, detail_of, due, give_back, held_at, next_release
from loadtest.engine.held import slot_address as held_address
from loadtest.engine.held import take as take_held
from loadtest.engine.layout import (
    CLIENT,
    CLIENT_SIZE,
    ENGINE,
    FREE,
    GONE,
    INDEX,
    LEAVING,
    MS,
    OPEN,
    SECOND,
    SPENT,
    client_at,
    engine_at,
    offset,
)
from loadtest.engine.post import clock, flush, queue, slot_address
from loadtest.engine.receive import drain_client, take, take_early
from loadtest.engine.reports import timers
from loadtest.engine.sources import serve_sources
from loadtest.engine.streams import release_streams, stream_of
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.memory import copy_bytes, load_acquire, store_release
from packetio.native import clock_gettime, ppoll

WORDS = offset(ENGINE, "words")
MAXIMA_WANTED, MAXIMA_BEGUN = offset(ENGINE, "maxima_wanted") - WORDS, offset(ENGINE, "maxima_begun") - WORDS
STOP, USED, STATE = offset(ENGINE, "stop"), offset(ENGINE, "client_used"), offset(CLIENT, "state")
BUSY = 64  # datagrams of a pass after which the next one follows at once
NAP, REST = 300_000, 1 * MS  # ns of rest after a pass that found little, or nothing, at least
SHARE, LONGEST_REST = 4, 5 * MS  # of a pass's own time, which makes idle passes a fifth of a core at most; ns
SOURCES_AGAIN = 2 * MS  # ns after which sources are looked at even if none seemed due: control may have started one
TOGETHER = 200_000  # ns that released datagrams may wait for each other; their stamps are exact
AT_ONCE = 20_000  # ns between two looks at a clock that was not interrupted
BETWEEN = 8  # clients drained before the clock is looked at
REALTIME = 0


@kernel
def run(address: int) -> None:
    """Serve the ENGINE record at `address` until its `stop` word is set."""
    e = engine_at(address)
    while load_acquire(address + STOP) == 0:
        used = load_acquire(address + USED)
        e.now = clock(e)
        if e.now >= e.next_pass:
            begun = e.now
            taken = turn(e, used)
            e.passes += 1
            e.next_pass = e.now + (rest_after(e.now - begun, taken) if taken < BUSY else 0)
        else:
            serve_due(e, used)
        sleep(e)


@kernel
def rest_after(spent: int, taken: int) -> int:
    """How long to rest after a pass of `spent` ns that found little: idle sockets are not looked at for nothing."""
    return int64(min(max(NAP if taken else REST, SHARE * spent), LONGEST_REST))


@kernel
def turn(e: Any, used: int) -> int:
    """One pass over all clients; returns the datagrams that came."""
    set_clocks(e)
    begin_maxima(e, used)
    taken = int64(0)
    for index in range(1, used):
        if index % BETWEEN == 0:
            e.now = clock(e)
            serve_due(e, used)
        address = e.clients + index * CLIENT_SIZE
        state = load_acquire(address + STATE)
        if state == OPEN:
            c = client_at(address)
            if c.stopped == 0:
                if c.early_count:
                    take_early(e, c)  # its socket's turn comes when these have been served
                else:
                    taken += drain_client(e, c)
                timers(e, index, c)
                flush(e, c)
        elif state == LEAVING:
            store_release(address + STATE, GONE)
        elif state == SPENT:
            release_streams(e, client_at(address))
            store_release(address + STATE, FREE)
    e.now = clock(e)
    serve_due(e, used)
    return taken


@kernel
def begin_maxima(e: Any, used: int) -> None:
    """Measure the highest latencies, the longest freezes and the lateness anew, when control has asked for it."""
    words = e.words.ctypes.data
    wanted = load_acquire(words + MAXIMA_WANTED)
    if wanted == e.maxima_begun:
        return
    for index in range(1, used):
        c = client_at(e.clients + index * CLIENT_SIZE)
        for k in range(c.stream_count):
            s = stream_of(e, c.streams[k])
            s.latency_max = s.longest_freeze = 0
    e.late = 0
    store_release(words + MAXIMA_BEGUN, wanted)


@kernel
def set_clocks(e: Any) -> None:
    """Look at both clocks; how far they are apart is believed when nothing came between the looks."""
    e.now = clock(e)
    if e.fake_now:
        return
    clock_gettime(np.int32(REALTIME), e.words.ctypes.data + 64)
    wall = e.words[8] * SECOND + e.words[9]
    after = clock(e)
    if after - e.now < AT_ONCE or e.realtime == 0:
        e.realtime = wall - (e.now + after) // 2
    e.now = after


@kernel
def serve_due(e: Any, used: int) -> None:
    """Publishers whose time has come, and held datagrams that are released."""
    if e.now >= e.next_sources:
        soonest = e.now + SOURCES_AGAIN
        for index in range(1, used):
            address = e.clients + index * CLIENT_SIZE
            c = client_at(address)
            if c.source_count and c.stopped == 0 and load_acquire(address + STATE) == OPEN:
                soonest = min(soonest, serve_sources(e, c))
                flush(e, c)
        e.next_sources = soonest
    h = held_at(e.held)
    while due(h, e.now) >= 0:
        slot = take_held(h)
        release(e, h, slot)
        give_back(h, slot)


@kernel
def release(e: Any, h: Any, slot: int) -> None:
    """One held datagram goes on its way, if its client is still there."""
    detail = detail_of(h, slot)
    index, size = int64(detail.client) & INDEX, int64(detail.length)
    address = e.clients + index * CLIENT_SIZE
    c = client_at(address)
    if load_acquire(address + STATE) != OPEN or c.stopped or c.token != detail.client:
        return
    if detail.direction == DOWN:
        take(e, c, held_address(h, slot), size, int64(detail.stamp))
    else:
        copy_bytes(slot_address(e), held_address(h, slot), size)
        queue(e, c, size)
    flush(e, c)


@kernel
def sleep(e: Any) -> None:
    """Rest until something is due."""
    before = clock(e)
    until = min(min(e.next_pass, e.next_sources), max(next_release(held_at(e.held)), before + TOGETHER))
    if until <= before:
        return
    e.timeout[0], e.timeout[1] = 0, until - before
    ppoll(0, 0, e.timeout.ctypes.data, 0)
    e.idle += clock(e) - before
