"""Compile, or load from the cache, everything that a worker runs, before the node takes its first packet.

The first compilation takes tens of seconds: callers show its progress. From then on the kernels load in well under a
second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mediacodecs.kernel import JIT, cache_dir

EXPECTED = "kernel-count"  # file in the cache folder: how many kernels the last compilation had
GUESS = 390


def warm(progress: Callable[[str, int, int], None]) -> None:
    """Make `loop.run` ready. `progress` gets a kernel's name, how many are done, and how many there are about to be."""
    from numba.core import event

    from mediaserver.engine.handles import hash_of
    from mediaserver.engine.loop import run

    if not JIT or run.signatures:  # type: ignore[attr-defined]
        return
    marker = cache_dir() / EXPECTED
    total = int(marker.read_text()) if marker.exists() else GUESS
    done = 0

    class Listener(event.Listener):
        def on_start(self, happened: Any) -> None:
            """A kernel begins to compile: nothing to show yet."""

        def on_end(self, happened: Any) -> None:
            """A kernel is compiled."""
            nonlocal done
            done += 1
            progress(happened.data["dispatcher"].py_func.__name__, done, max(total, done))

    with event.install_listener("numba:compile", Listener()):
        run.compile("void(int64)")  # type: ignore[attr-defined]
        hash_of("called by control at every join")
    if done:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(str(done))
    progress("ready", max(done, 1), max(done, 1))
