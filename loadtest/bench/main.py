"""`weir bench`: the node's speed and memory, through the whole server, with real ICE, DTLS and SRTP peers.

The server runs as a process of its own on one core, the clients on the next. Repetitions are interleaved: each goes
through all stages with fresh servers, so that a slow minute of the machine spoils one value of each figure and not all
values of one. docs/BENCHMARKS.md explains the method.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shlex
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.bench import hold, stages
from loadtest.bench.book import Book
from loadtest.bench.server import split_cores
from loadtest.bench.stages import QUICK, Plan
from loadtest.drivers.base import DriverError
from loadtest.measure import busy_seconds, machine, own_seconds
from loadtest.transport.peer import JoinError

Stage = Callable[[Book, Plan], Awaitable[None]]
STAGES: dict[str, Stage] = {
    "floor": stages.floor,
    "yardstick": stages.yardstick,
    "cost": stages.cost,
    "joins": stages.joins,
    "latency": stages.latency,
    "flood": stages.flood,
    "hostile": hold.hostile_member,
}
NODE_STAGES = {"cost", "joins", "latency", "flood", "hostile"}
STAGE_TIMEOUT = 330.0  # seconds
OTHERS = 0.05  # of the machine, taken by others, that makes figures doubtful
OPEN_FILES = 8192
INTERRUPTED = 130  # exit code
WIDTH = 120  # columns

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: weir bench -- --quick --stages cost,joins --json bench.json")
def bench(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: fewer sizes, one repetition.")] = False,
    repetitions: Annotated[int, typer.Option(help="How often to go through all stages; 0: as the plan says.")] = 0,
    only: Annotated[str, typer.Option("--stages", help=f"Comma-separated: {', '.join(STAGES)}.")] = "",
    json: Annotated[Path | None, typer.Option(help="File to write all figures to.")] = None,
) -> None:
    """Measure CPU per packet, latency, joins, memory, a flood and a hostile member, and print them beside limits."""
    chosen = [name.strip() for name in only.split(",") if name.strip()] or list(STAGES)
    unknown = [name for name in chosen if name not in STAGES]
    if unknown:
        raise typer.BadParameter(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    plan = QUICK if quick else Plan()
    if repetitions:
        plan = replace(plan, repetitions=repetitions)
    book, console = Book(machine(), shlex.join(["weir", "bench", "--", *(context.obj or [])])), console_of_width()
    prepare()
    try:
        code = int(asyncio.run(run(book, plan, chosen, console)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        book.remark("the run was interrupted")
        code = INTERRUPTED
    book.print(console)
    if json:
        book.write(json)
        console.print(f"Written to {json}")
    raise typer.Exit(code)


def console_of_width() -> Console:
    """The terminal as it is; a file or a pipe gets lines long enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def prepare() -> None:
    """Pin this process and allow it enough sockets."""
    server, clients = split_cores()
    os.sched_setaffinity(0, clients)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(OPEN_FILES, hard)), hard))


async def run(book: Book, plan: Plan, chosen: list[str], console: Console) -> bool:
    """All repetitions of all stages; a stage that fails is told and does not end the run. True if any failed."""
    task, failed = asyncio.current_task(), False
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for title, name, stage in schedule(plan, chosen):
        with console.status(title):
            begun = time.monotonic(), busy_seconds(), own_seconds()
            try:
                async with asyncio.timeout(STAGE_TIMEOUT):  # wait_for would lose a Ctrl-C during a server's start
                    await stage(book, plan)
                note_others(book, name, *begun)
            except (DriverError, JoinError, RuntimeError, OSError, TimeoutError) as error:
                failed = True
                text = str(error) or type(error).__name__
                book.remark(f"stage {name} failed: {text[:2000]}")
    stages.ratios(book)
    return failed


def note_others(book: Book, name: str, begun: float, busy: float, own: float) -> None:
    """Remark on a stage that had to share the machine."""
    others = (busy_seconds() - busy - own_seconds() + own) / (time.monotonic() - begun) / (os.cpu_count() or 1)
    if others > OTHERS:
        book.remark(f"{name}: other processes took {others:.0%} of the machine")


def schedule(plan: Plan, chosen: list[str]) -> Iterator[tuple[str, str, Stage]]:
    """What to run, in order, each with a title: the kernel cache is filled first, repetitions are interleaved."""
    if set(chosen) & NODE_STAGES:
        yield "first start, which fills the kernel cache", "first start", stages.first_start
    for repetition in range(plan.repetitions):
        for name in chosen:
            yield f"repetition {repetition + 1} of {plan.repetitions}: {name}", name, STAGES[name]


def main(args: list[str]) -> int:
    """Run with command-line arguments; returns the exit code."""
    result = app(args=args, standalone_mode=False, prog_name="weir bench", obj=args)
    return int(result or 0)
