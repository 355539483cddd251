"""The command `weir loadtest`, also `python -m loadtest`: run scenarios, find limits, compare and report results."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from config.errors import ConfigError

if TYPE_CHECKING:
    from loadtest.results.schema import Results
    from loadtest.run.repeat import Runs
    from loadtest.run.runner import Options
    from loadtest.scenario.schema import Scenario

Found = TypeVar("Found")

HELD, FAILED, BAD_INPUT, NO_VERDICT, INTERRUPTED = 0, 1, 2, 3, 130  # exit status
STATUS = {"passed": HELD, "failed": FAILED, "no verdict": NO_VERDICT, "interrupted": INTERRUPTED}

SETTERS = ("--set", "--set-b")
COMMAND: list[str] = []  # as it was given, for the results

app = typer.Typer(
    name="loadtest",
    help="Load test a WHIP/WHEP server: how many, how fast, and where it breaks.",
    epilog="Example: weir loadtest webinar --html webinar.html (the same as weir loadtest run webinar …)",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


class Varied(StrEnum):
    """What a search for the limit varies."""

    SUBSCRIBERS = "subscribers"
    PUBLISHERS = "publishers"
    ROOMS = "rooms"


def stop(message: str, status: int = BAD_INPUT) -> typer.Exit:
    """Print an error; raise what is returned."""
    typer.echo(message, err=True)
    return typer.Exit(status)


@app.command(epilog="Example: weir loadtest run meeting --set rooms=2 --json meeting.json --html meeting.html")
def run(
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped one (see list).")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key: --set target.url=http://…")] = None,
    short: Annotated[bool, typer.Option(help="A short form: few clients, few seconds; function, not speed.")] = False,
    duration: Annotated[float | None, typer.Option(help="Seconds to measure instead of the scenario's.")] = None,
    find_limit: Annotated[bool, typer.Option(help="Raise the load until an expectation breaks.")] = False,
    vary: Annotated[Varied, typer.Option(help="What --find-limit raises.")] = Varied.SUBSCRIBERS,
    most: Annotated[int, typer.Option(min=1, help="How far --find-limit goes.")] = 20_000,
    repetitions: Annotated[int, typer.Option(min=1, help="Run it so often; figures are medians.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the results to.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="File to write a report to.")] = None,
    quiet: Annotated[bool, typer.Option(help="No live table; the summary only.")] = False,
    allow_remote: Annotated[bool, typer.Option(help="Allow targets that are not on this machine.")] = False,
    cores: Annotated[str | None, typer.Option(help="Cores of the load test itself, such as 1 or 2-3,5.")] = None,
    target_cores: Annotated[str | None, typer.Option(help="Cores of a target that target.command starts.")] = None,
) -> None:
    """Run a scenario and hold what was measured against what it expects."""
    chosen = read_scenario(scenario, set_ or [], short, duration)
    check_folders(json_file, html_file)
    if find_limit and repetitions > 1:
        raise stop("--repetitions does not go with --find-limit, which repeats what breaks")
    options = options_of([chosen], allow_remote, cores, target_cores)
    work = search(chosen, options, vary, most) if find_limit else repeat(chosen, options, repetitions)
    results = carry_out(work, options, quiet)
    write(results, json_file, html_file)
    raise typer.Exit(STATUS[results.verdict])


def carry_out(work: Coroutine[Any, Any, Found], options: Options, quiet: bool) -> Found:
    """Do it under a live table; a scenario that can't be run here ends with a message."""
    from loadtest.results.live import Live

    try:
        with Live(quiet=quiet) as live:
            options.progress = live.update
            return asyncio.run(work)
    except (ValueError, OSError) as error:
        raise stop(str(error)) from error


def check_folders(*files: Path | None) -> None:
    """What a run finds must not be lost at its end because there is nowhere to write it."""
    for file in files:
        if file is None:
            continue
        if file.is_dir():
            raise stop(f"{file}: is a folder; expected the name of a file")
        if not file.absolute().parent.is_dir():
            raise stop(f"{file}: there is no folder {file.absolute().parent}")


def options_of(
    scenarios: Sequence[Scenario], allow_remote: bool, cores: str | None, target_cores: str | None
) -> Options:
    """How to run these, from the options of a command."""
    from loadtest.run.runner import Options

    own, targets = read_cores("--cores", cores), read_cores("--target-cores", target_cores)
    if targets and not any(scenario.target.command for scenario in scenarios):
        raise stop("--target-cores: there is no target.command, and only a target that it starts can be given cores")
    return Options(allow_remote, own, targets, command=" ".join(COMMAND))


def read_scenario(name: str, overrides: list[str], short: bool, duration: float | None) -> Scenario:
    """The scenario as it is to be run."""
    from loadtest.scenario.load import load_scenario
    from loadtest.scenario.short import shorten

    if duration is not None:
        overrides = [*overrides, f"duration={duration:g}"]
    try:
        scenario = load_scenario(name, overrides)
    except ConfigError as error:
        raise stop(str(error)) from error
    return shorten(scenario) if short else scenario


def read_cores(option: str, text: str | None) -> set[int] | None:
    """A list of cores such as `1` or `2-3,5`, all of which we may use."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise stop(f"{option}: found {text!r}; expected numbers of cores such as 1 or 2-3,5")
        found |= set(range(first, last + 1))
    if missing := sorted(found - os.sched_getaffinity(0)):
        usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise stop(f"{option}: there is no core {missing[0]} to use; there are {usable}")
    return found


def interruptible(runs: Runs) -> None:
    """Let Ctrl-C end the run under way in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, runs.stop)


async def repeat(scenario: Scenario, options: Options, repetitions: int) -> Results:
    """One run or several. ValueError."""
    from loadtest.run.repeat import Runs, together

    runs = Runs(options)
    interruptible(runs)
    return together((await runs.in_turn([scenario], repetitions))[0])


async def search(scenario: Scenario, options: Options, vary: Varied, most: int) -> Results:
    """Find the limit; each step is told as a line on standard error. ValueError."""
    from loadtest.run.limit import LimitSearch
    from loadtest.run.repeat import Runs

    runs = Runs(options)
    interruptible(runs)
    tell = Console(stderr=True, highlight=False).print
    return await LimitSearch(scenario, vary.value, most, runs.once, lambda line: tell(Text(line))).search()


async def alternate(a: Scenario, b: Scenario, options: Options, repetitions: int) -> list[list[Results]]:
    """Two scenarios in turn. ValueError."""
    from loadtest.run.repeat import Runs

    runs = Runs(options)
    interruptible(runs)
    return await runs.in_turn([a, b], repetitions)


def write(results: Results, json_file: Path | None, html_file: Path | None) -> None:
    """The summary on standard output, and the files."""
    from loadtest.results.summary import print_summary

    print_summary(results)
    write_files(results, json_file, html_file)


def write_files(results: Results, json_file: Path | None, html_file: Path | None) -> None:
    """Results and report, as far as they are wanted."""
    from loadtest.results.html import write_report
    from loadtest.results.schema import write_results

    try:
        if json_file:
            write_results(results, json_file)
        if html_file:
            write_report(results, html_file)
    except OSError as error:
        raise stop(f"{error.filename}: {error.strerror}") from error


@app.command(epilog="Example: weir loadtest compare before.json after.json")
def compare(
    a: Annotated[str, typer.Argument(help="Results file, or several with commas between: the one to compare with.")],
    b: Annotated[str, typer.Argument(help="Results file, or several: the one that is compared.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Two results side by side, with ratios and the spread of their repetitions."""
    from loadtest.results.compare import compare as compare_files
    from loadtest.results.compare import comparison_json, print_comparison

    try:
        found = compare_files(a.split(","), b.split(","))
    except OSError as error:
        raise stop(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise stop(str(error)) from error
    if as_json:
        typer.echo(comparison_json(found))
    else:
        print_comparison(found)


@app.command(epilog="Example: weir loadtest ab webinar --set-b target.url=http://127.0.0.1:8889 --json a.json b.json")
def ab(
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped one.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key of both.")] = None,
    set_b: Annotated[list[str] | None, typer.Option("--set-b", help="Override a key of B.")] = None,
    short: Annotated[bool, typer.Option(help="A short form: few clients, few seconds; function, not speed.")] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="How often each is run, in turn.")] = 3,
    duration: Annotated[float | None, typer.Option(help="Seconds to measure instead of the scenario's.")] = None,
    json_files: Annotated[tuple[Path, Path] | None, typer.Option("--json", help="Files for both results.")] = None,
    quiet: Annotated[bool, typer.Option(help="No live table.")] = False,
    allow_remote: Annotated[bool, typer.Option(help="Allow targets that are not on this machine.")] = False,
    cores: Annotated[str | None, typer.Option(help="Cores of the load test itself.")] = None,
    target_cores: Annotated[str | None, typer.Option(help="Cores of targets that it starts.")] = None,
) -> None:
    """Run a scenario against two targets (or in two ways) in turn, and compare them."""
    from loadtest.results.compare import Side, compared, print_comparison
    from loadtest.run.repeat import together

    check_folders(*(json_files or ()))
    both = read_scenario(scenario, set_ or [], short, duration)
    other = read_scenario(scenario, [*(set_ or []), *(set_b or [])], short, duration)
    options = options_of([both, other], allow_remote, cores, target_cores)
    found = carry_out(alternate(both, other, options, repetitions), options, quiet)
    if not all(found):
        raise stop("interrupted before both had been run", INTERRUPTED)
    print_comparison(compared(*(Side([name] * len(side), side) for name, side in zip("AB", found, strict=True))))
    for file, side in zip(json_files or (), found, strict=False):
        write_files(together(side), file, None)
    raise typer.Exit(max(STATUS[together(side).verdict] for side in found))


@app.command(epilog="Example: weir loadtest report meeting.json meeting.html")
def report(
    results: Annotated[Path, typer.Argument(help="Results file.")],
    html_file: Annotated[Path, typer.Argument(help="Report to write.")],
) -> None:
    """Make the HTML report of a results file."""
    from loadtest.results.html import write_report
    from loadtest.results.schema import read_results

    try:
        write_report(read_results(results), html_file)
    except OSError as error:
        raise stop(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise stop(str(error)) from error


@app.command("list", epilog="Example: weir loadtest list")
def list_scenarios() -> None:
    """The shipped scenarios."""
    from loadtest.scenario.load import load_scenario, shipped

    for name in shipped():
        scenario = load_scenario(name)
        size = f"{scenario.sessions():,} sessions, {scenario.duration:g} s"
        typer.echo(f"{name:<14} {size}")


@app.command(epilog="Example: weir loadtest show meeting > mine.yaml")
def show(name: Annotated[str, typer.Argument(help="Name of a shipped scenario.")]) -> None:
    """Print a shipped scenario, to start one's own from."""
    from loadtest.scenario.load import find

    try:
        typer.echo(find(name).read_text(), nl=False)
    except ConfigError as error:
        raise stop(str(error)) from error


@app.command(epilog="Example: weir loadtest schema > scenario.schema.json")
def schema(
    results: Annotated[bool, typer.Option(help="The schema of results files instead.")] = False,
) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from loadtest.results.schema import results_schema
    from loadtest.scenario.schema import scenario_schema

    typer.echo(json.dumps(results_schema() if results else scenario_schema(), indent=2))


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """Arguments as they may be shown: values that --set gives to secrets are hidden, also within a whole section."""
    from loadtest.scenario.load import HIDDEN, SECRETS

    shown, of_set = list[str](), False
    for argument in arguments:
        option, sign, value = argument.partition("=")
        inline = sign and option in SETTERS
        key = (value if inline else argument).partition("=")[0]
        path = tuple(step.strip() for step in key.strip().split("."))
        secret = any(path == whole[: len(path)] for whole in SECRETS)
        start = f"{option}={key}" if inline else key
        shown.append(f"{start}={HIDDEN}" if secret and (of_set or inline) else argument)
        of_set = argument in SETTERS
    return shown


def main(args: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; a scenario's name alone is run. Returns the exit status."""
    arguments = list(sys.argv[1:] if args is None else args)
    names = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    if arguments and arguments[0] not in names and not arguments[0].startswith("-"):
        arguments.insert(0, "run")
    COMMAND[:] = ["weir loadtest", shlex.join(without_secrets(arguments))]
    try:
        app(args=arguments, prog_name="weir loadtest")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return HELD
