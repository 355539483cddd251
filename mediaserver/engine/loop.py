"""A worker's life: receive, log, forward, send, and now and then the timers. One call that returns only to stop.

A round takes all that has come, so rounds grow by themselves under load. When nothing came the worker sleeps in
ppoll on its socket and its eventfd, at most until the next timer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import feed_of, layer_of
from mediaserver.engine.commands import take_commands
from mediaserver.engine.forward import forward_feed
from mediaserver.engine.layout import MS, OPEN, SECOND, WORKER, worker_at
from mediaserver.engine.news import tell_again, tell_layer
from mediaserver.engine.paced import PACE, paced_round
from mediaserver.engine.paths import silent
from mediaserver.engine.receive import receive_round
from mediaserver.engine.ring import mark, wake
from mediaserver.engine.send import clock, flush, poll_at, tell_time
from mediaserver.engine.ticks import tick
from packetio.log import log_at
from packetio.memory import exchange, load_acquire, numbers_at
from packetio.native import clock_gettime, ppoll, read_fd

TICK = 10 * MS  # ns
SILENCE = 1500 * MS  # ns without media after which a layer counts as paused
POLLIN = 1
MAX_WORKERS = 64  # bits of a word
WAKE_WORDS = 2 * MAX_WORKERS  # each worker's eventfd, then the address of its news
STOP = WORKER.fields["stop"][1] if WORKER.fields else 0  # offset of the word that ends the loop


@kernel
def run(address: int) -> None:
    """The worker loop over the WORKER record at `address`; ends when its `stop` word is set and it is woken."""
    w = worker_at(address)
    while load_acquire(address + STOP) == 0:
        came = receive_round(w)
        work = take_commands(w) + came
        forward_news(w)
        timers(w)
        if w.queued:
            flush(w)
        w.rounds += 1
        if work == 0:
            sleep(w)
    flush(w)


@kernel
def forward_news(w: Any) -> None:
    """Serve the cursors of every feed that got packets. Other workers begin on the same packets while we fan out."""
    feeds = numbers_at(w.dirty, w.feed_count)
    if w.worker_count > 1 and w.dirty_count:
        tell_readers(w, feeds)
    for k in range(w.dirty_count):
        index = feeds[k]
        feed = feed_of(w, index)
        feed.dirty = 0
        if feed.state == OPEN:
            forward_feed(w, index)
    w.dirty_count = 0
    if w.foreign_feeds:
        take_news(w)


@kernel
def tell_readers(w: Any, feeds: Any) -> None:
    """Mark the feeds with news in the maps of the workers that read their logs, and wake each worker once."""
    wakes = numbers_at(w.worker_wakes, WAKE_WORDS)
    woken = int64(0)
    for k in range(w.dirty_count):
        feed = feed_of(w, feeds[k])
        if feed.state == OPEN:
            readers = log_at(feed.log).readers
            for other in range(w.worker_count):
                if readers[other] and other != w.index:
                    woken |= int64(mark(wakes[MAX_WORKERS + other], readers[other])) << other
    for other in range(w.worker_count):
        if (woken >> other) & 1:
            wake(w, wakes[other])


@kernel
def take_news(w: Any) -> None:
    """Serve other workers' feeds that they marked: none else is looked at, however many are open.

    A word is taken whole in one step, before the logs are read: what is appended later sets its bit again.
    """
    for k in range((w.feed_used + 63) >> 6):
        if load_acquire(w.news + 8 * k) == 0:
            continue
        bits = exchange(w.news + 8 * k, 0)
        for bit in range(64):
            if (bits >> bit) & 1:
                index = 64 * k + bit
                feed = feed_of(w, index)
                if feed.state == OPEN and feed.layer == 0:
                    forward_feed(w, index)


@kernel
def timers(w: Any) -> None:
    """What is due by the clock."""
    if w.first_paced and w.now >= w.next_paced:
        w.next_paced = w.now + PACE
        paced_round(w)
    if w.now >= w.next_tick:
        w.next_tick = w.now + TICK
        w.tick += 1
        tick(w)
        tell_again(w)
        if w.tick % 25 == 0:
            find_silent_layers(w)
            set_realtime(w)


@kernel
def find_silent_layers(w: Any) -> None:
    """Tell control of layers whose media has stopped."""
    for index in range(1, w.layer_used):
        layer = layer_of(w, index)
        if layer.state == OPEN and layer.active and silent(w, log_at(layer.log).last_arrival, SILENCE):
            layer.active = 0
            tell_layer(w, index, layer)


@kernel
def set_realtime(w: Any) -> None:
    """Measure how far the wall clock is from the monotonic one."""
    now = clock(w)
    clock_gettime(np.int32(0), w.words.ctypes.data + 96)
    w.realtime = w.words[12] * SECOND + w.words[13] - now


@kernel
def sleep(w: Any) -> None:
    """Wait for a datagram, a command or the next timer."""
    before = clock(w)
    until = w.next_tick
    if w.first_paced and w.next_paced < until:
        until = w.next_paced
    left = max(until - before, int64(0))
    w.timeout[0], w.timeout[1] = left // SECOND, left % SECOND
    socket, eventfd = poll_at(w.poll.ctypes.data), poll_at(w.poll.ctypes.data + 8)
    socket.fd, socket.events, socket.revents = w.fd, POLLIN, 0
    eventfd.fd, eventfd.events, eventfd.revents = w.wake, POLLIN, 0
    ppoll(w.poll.ctypes.data, 2, w.timeout.ctypes.data, 0)
    if eventfd.revents:
        read_fd(np.int32(w.wake), w.words.ctypes.data + 112, 8)
    if w.linger and socket.revents:
        w.timeout[0], w.timeout[1] = 0, w.linger
        ppoll(0, 0, w.timeout.ctypes.data, 0)
    tell_time(w)
    w.idle += w.now - before
    w.waits += 1
