"""Compiles the engine in a process of its own, and ends at once when that is asked for.

What the compiler leaves behind, half a gigabyte, goes with that process: a node's memory is the same after its first
start and after every other. Ctrl-C and SIGTERM can't wait for Python's handlers while the compiler is in native code,
so a thread takes them meanwhile. This module is to be imported, and `ended_at_once` opened, before numpy: its threads
would take the signals too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
LINE = "kernel"
"""First word of the lines `kernel DONE TOTAL NAME` that the other process writes."""
ENDING = {signal.SIGINT, signal.SIGTERM}
LOOK = 0.1  # seconds between two looks at whether the thread is still needed
PR_SET_PDEATHSIG = 1  # prctl(2): a signal when the parent ends


def compile_apart(progress: Progress) -> str | None:
    """Fill the cache from a child process. Returns why that did not work, None: it did."""
    path = os.pathsep.join(folder for folder in sys.path if folder)
    command = [sys.executable, "-P", "-c", f"from {__name__} import child; child()"]
    last = ""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, *fields = line.split()[:4] or [""]
            if word == LINE and len(fields) == 3:
                progress(fields[2], int(fields[0]), int(fields[1]))
            else:
                last = line.strip() or last
    if process.returncode < 0:
        return f"it was ended by {signal.Signals(-process.returncode).name}"
    return last or f"it ended with {process.returncode}" if process.returncode else None


class Unkept(Exception):
    """A kernel was compiled that nobody will find: the cache can't be written."""


def child() -> None:
    """The other process: it ends with its parent, and quietly at Ctrl-C."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    from mediacodecs.kernel import store
    from mediaserver.engine.warm import warm

    def tell(name: str, done: int, total: int) -> None:
        if store().problem:
            raise Unkept(store().problem)
        print(LINE, done, total, name, flush=True)

    try:
        warm(tell)
    except Unkept as error:
        sys.exit(str(error))


@contextlib.contextmanager
def ended_at_once(clean_up: Callable[[], object]) -> Iterator[None]:
    """While this is open, Ctrl-C and SIGTERM call `clean_up` and end the process, whatever it is at."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            caught = signal.sigtimedwait(ENDING, LOOK)
            if caught is not None:
                clean_up()
                os._exit(128 + caught.si_signo)

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
