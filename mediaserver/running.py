"""Brings a node up before the operator's eyes: kernels are compiled with a progress display, then the address is shown.

Progress goes to standard error, so that standard output holds log lines only; on a terminal it is a moving bar, else a
line for each tenth.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.checks import listeners
from config.errors import dotted
from config.schema import Config
from mediaserver.logs import get_logger

log = get_logger("weir.kernels")
UP = frozenset({"listening", "ready"})
"""Steps that mean: the node takes joins now."""
UNCACHED = "until that is mended every start compiles the kernels anew, and takes half a gigabyte more memory"


def run(config: Config, read: Callable[[], Config]) -> None:
    """Compile, serve, and return when the node has ended. Raises OSError when it cannot listen.

    `read` reads the configuration again, for its keys. It raises ConfigError.
    """
    console = Console(stderr=True)
    try_ports(config)
    from mediaserver.compiling import ended_at_once

    with ended_at_once(lambda: console.show_cursor(True)):
        warm(console)
    from mediaserver.node import serve

    announced = False

    def on_progress(step: str, done: int = 1, total: int = 1) -> None:
        nonlocal announced
        if step in UP and not announced:
            announced = True
            announce(config)

    uvloop.run(serve(config, on_progress, read, attended=os.isatty(0)))


def try_ports(config: Config) -> None:
    """Open every port for a moment: whoever has to move one should not wait for the compiler first. Raises OSError."""
    for one in listeners(config):
        family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
        for port in range(one.first, one.last + 1):
            with socket.socket(family, socket.SOCK_STREAM if one.protocol == "TCP" else socket.SOCK_DGRAM) as trial:
                if one.protocol == "TCP":
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind((one.host, port))
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                    raise OSError(f"{one.protocol} port {port} at {one.host} ({dotted(one.path)}): {reason}") from error


def warm(console: Console) -> None:
    """Compile the engine's kernels, or load them from the cache, and show how far that is."""
    if not console.is_terminal:
        warm_up(Tenths(console))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Compiling kernels", total=None)
        warm_up(
            lambda name, done, total: progress.update(
                task, completed=done, total=total, description=f"Compiling kernels: {name:<28.28}"
            )
        )


def warm_up(progress: Callable[[str, int, int], None]) -> None:
    """Load what is compiled, after a process of its own has compiled what is not; without a cache, compile here.

    Raises OSError when WEIR_CACHE_DIR names a folder that is the wrong one.
    """
    from mediacodecs.kernel import store
    from mediaserver.compiling import compile_apart
    from mediaserver.engine import warm as kernels
    from mediaserver.memory import give_back

    before = store().problem
    if before and store().mistake and os.environ.get("WEIR_CACHE_DIR"):
        raise OSError(f"{before} (WEIR_CACHE_DIR)")
    if before:
        log.warning(f"{before}; {UNCACHED}")
    elif not kernels.compiled() and (failed := compile_apart(progress)):
        log.warning(f"the process that compiles kernels did not finish: {failed}; this one compiles them now")
    kernels.warm(progress)
    if store().problem != before:
        log.warning(f"{store().problem}; {UNCACHED}")
    give_back("libllvmlite")


class Tenths:
    """Reports progress as lines of plain text, one for each tenth."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.shown = -1

    def __call__(self, name: str, done: int, total: int) -> None:
        """A step is done: say so when another tenth is full."""
        tenth = 10 * done // max(total, 1)
        if tenth > self.shown and name != "ready":
            self.shown = tenth
            self.console.print(f"Compiling kernels: {done} of {total}", highlight=False)


def page_address(config: Config) -> str:
    """Where a browser on this machine finds the node's page."""
    host = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost", "::1": "localhost"}.get(
        config.http.host, f"[{config.http.host}]" if ":" in config.http.host else config.http.host
    )
    return f"http{'s' if config.http.certificate else ''}://{host}:{config.http.port}/"


def announce(config: Config) -> None:
    """Show the address: among the log lines when people read them, beside them when machines do."""
    console = Console(stderr=config.log.format == "json")
    console.print(f"Weir is up: publish and watch at {page_address(config)}", highlight=False, soft_wrap=True)
