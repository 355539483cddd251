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
from mediaserver.engine.ring import wake
from mediaserver.engine.send import clock, flush, tell_time
from mediaserver.engine.ticks import tick
from packetio.log import JOURNAL_HEAD, log_at
from packetio.memory import load_acquire, numbers_at, pointer_to
from packetio.native import clock_gettime, ppoll, read_fd

TICK = 10 * MS  # ns
SILENCE = 1500 * MS  # ns without media after which a layer counts as paused
POLLIN = 1
MAX_WORKERS = 64
STOP = WORKER.fields["stop"][1] if WORKER.fields else 0  # offset of the word that ends the loop
poll_at = pointer_to(np.dtype([("fd", "i4"), ("events", "i2"), ("revents", "i2")]))


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
    """Serve the cursors of every feed that got packets: own ones are listed, other workers' are looked at."""
    feeds = numbers_at(w.dirty, w.feed_count)
    for k in range(w.dirty_count):
        index = feeds[k]
        feed = feed_of(w, index)
        feed.dirty = 0
        if feed.state == OPEN:
            forward_feed(w, index)
            wake_readers(w, feed)
    w.dirty_count = 0
    if w.foreign_feeds:
        for index in range(1, w.feed_used):
            feed = feed_of(w, index)
            if feed.state == OPEN and feed.layer == 0 and load_acquire(feed.log + JOURNAL_HEAD) > feed.read:
                forward_feed(w, index)


@kernel
def wake_readers(w: Any, feed: Any) -> None:
    """Wake the workers that read an own log too."""
    log = log_at(feed.log)
    wakes = numbers_at(w.worker_wakes, MAX_WORKERS)
    for k in range(w.worker_count):
        if log.readers[k] and k != w.index:
            wake(w, wakes[k])


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
