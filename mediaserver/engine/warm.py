"""Compile, or load from the cache, everything that a node runs, before it takes its first packet.

The first compilation takes tens of seconds: callers show its progress. From then on the kernels load in well under a
second. The compiler leaves half a gigabyte behind in its process, so `compiling` gives it one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mediacodecs.kernel import JIT, store

EXPECTED = "count"  # file in the cache: how many kernels the last compilation had
GUESS = 510


def entries() -> list[tuple[Any, Any]]:
    """The kernels that Python calls in a node, each with its signature; all others are inside them."""
    import numba
    import numpy as np

    from mediacodecs.stun import username_hash
    from mediaserver.engine.loop import run
    from packetio.log import load_acquire_py, store_release_py

    type_of: Any = numba.typeof
    name, number = type_of(np.frombuffer(b"a user fragment", np.uint8)), type_of(0)
    return [
        (run, (number,)),
        (username_hash, (name, number, number)),
        (load_acquire_py, (number,)),
        (store_release_py, (number, number)),
    ]


def compiled() -> bool:
    """Whether nothing has to be compiled: all that a node runs is loaded, or in the cache and whole."""
    return not JIT or all(kernel.signatures or kernel._cache.has(sig, kernel.targetctx) for kernel, sig in entries())


def warm(progress: Callable[[str, int, int], None]) -> None:
    """Make `entries` ready. `progress` gets a kernel's name, how many are done, and how many there are about to be."""
    from numba.core import event

    if not JIT:
        return
    expected, done = store().read(EXPECTED), 0
    total = int(expected) if expected else GUESS

    class Listener(event.Listener):
        def on_start(self, happened: Any) -> None:
            """A kernel begins to compile: nothing to show yet."""

        def on_end(self, happened: Any) -> None:
            """A kernel is compiled."""
            nonlocal done
            done += 1
            progress(happened.data["dispatcher"].py_func.__name__, done, max(total, done))

    with event.install_listener("numba:compile", Listener()):
        for kernel, signature in entries():
            kernel.compile(signature)
    if done > total // 2:  # else a few were damaged
        store().write(EXPECTED, b"%d" % done)
    store().tidy()
    progress("ready", max(done, 1), max(done, 1))
