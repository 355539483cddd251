"""The command `weir`: what an operator types.

Commands import what they need when they run: `weir token` must not wait for the packet engine to load. Load test and
benchmark come by entry points of the group `weir.commands`, because imports run down only. An operator's mistake ends
in one readable message on standard error and exit code 2, never in a traceback.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from config import Config, ConfigError, json_schema, load_config
from config.checks import machine_faults
from config.errors import dotted

MISTAKE = 2
FAULT = 1


def stop(message: str, code: int = MISTAKE) -> NoReturn:
    """End with a message for the operator."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Weir, a self-hosted SFU media server.",
    epilog="Example: weir serve config/dev.yaml",
)
config_app = typer.Typer(
    no_args_is_help=True,
    help="Check configuration files, and print their schema.",
    epilog="Example: weir config check config/edge.yaml",
)
app.add_typer(config_app, name="config")
File = Annotated[Path, typer.Argument(metavar="FILE", help="The YAML configuration of the node.")]


def read(file: Path, *, to_serve: bool = False) -> Config:
    """The configuration in file, or the end of the program with all its problems."""
    try:
        return load_config(file, to_serve=to_serve)
    except ConfigError as error:
        count = len(error.problems)
        stop(f"{error}\nweir: {file} cannot be used: {count} problem{'s' if count > 1 else ''}")


@app.command(epilog="Example: weir serve config/dev.yaml")
def serve(file: File) -> None:
    """Start a node and run it until SIGTERM or Ctrl-C. SIGHUP: read keys, ICE servers and the certificate again."""
    from mediaserver import logs, running

    config = read(file, to_serve=True)
    logs.set_up(config.log, node=config.node.name)
    try:
        running.run(config, lambda: load_config(file, to_serve=True))
    except OSError as error:
        stop(f"weir: cannot serve: {error}")


@config_app.command(epilog="Example: weir config check config/edge.yaml")
def check(
    file: File,
    here: Annotated[bool, typer.Option("--here", help="Whether it has to suit this machine, as for serve.")] = False,
) -> None:
    """Check a configuration file, with the environment's overrides: every problem at once, with its line.

    A file may be for another machine: CPUs that this one lacks are told, and are no problem unless --here is given.
    """
    config = read(file, to_serve=here)
    kinds = (config.logs.video, config.logs.audio)
    mebibytes = config.media.workers * sum(kind.count * kind.bytes for kind in kinds) >> 20
    last = config.media.port + config.media.workers - 1
    typer.echo(f"{file}: sound")
    typer.echo(f"  HTTP{'S' if config.http.certificate else ''} on TCP {config.http.port} at {config.http.host}")
    typer.echo(f"  media on UDP {config.media.port} to {last} at {config.media.host}")
    for fault in machine_faults(config):
        typer.echo(f"  not on this machine: {dotted(fault.path)} is {fault.found}; expected {fault.expected}")
    typer.echo(f"  packet logs of {mebibytes} MiB, keys: {', '.join(config.auth.keys) or 'none'}")


@config_app.command(epilog="Example: weir config schema > weir.schema.json")
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))


def ttl_seconds(text: str) -> int:
    """The seconds of a --ttl, as typer wants it."""
    from mediaserver.minting import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command(epilog="Example: weir token --room lobby --identity ann --config config/dev.yaml")
def token(
    room: Annotated[str, typer.Option(help="Room to join.")],
    identity: Annotated[str, typer.Option(help="Who joins.")],
    publish: Annotated[bool, typer.Option(help="Whether the bearer may publish.")] = True,
    subscribe: Annotated[bool, typer.Option(help="Whether the bearer may watch.")] = True,
    ttl: Annotated[str, typer.Option(help="How long the token is good: 90s, 15m, 6h, 7d.")] = "6h",
    config: Annotated[Path | None, typer.Option(help="Configuration file to take the key from.")] = None,
    key: Annotated[str | None, typer.Option(help="Name of the key; with --config, which one to take.")] = None,
    secret: Annotated[str | None, typer.Option(help="Secret of the key, when there is no --config.")] = None,
) -> None:
    """Print an access token (a JWT with LiveKit's video grants)."""
    from mediaserver.minting import Grant, mint

    span = ttl_seconds(ttl)
    name, its_secret = signing_key(config, key, secret)
    grant = Grant(room=room, identity=identity, publish=publish, subscribe=subscribe)
    typer.echo(mint(grant, key=name, secret=its_secret, now=int(time.time()), ttl=span))


def signing_key(file: Path | None, key: str | None, secret: str | None) -> tuple[str, str]:
    """The key to sign with: from a configuration file, or both halves as given."""
    if file is None:
        if key is None or secret is None:
            stop("weir: give --config FILE, or --key and --secret")
        if len(secret) < 32:
            stop(f"weir: the secret has {len(secret)} characters; expected at least 32")
        return key, secret
    if secret is not None:
        stop("weir: --secret goes with --key alone; with --config the secret is in the file")
    keys = read(file).auth.keys
    name = key if key is not None else next(iter(keys), None)
    if name is None:
        stop(f"weir: {file} has no key in auth.keys")
    if name not in keys:
        stop(f"weir: {file} has no key {name!r} in auth.keys; it has {', '.join(keys) or 'none'}")
    return name, keys[name]


@app.command(
    epilog="Example: weir bench -- --help (shows the benchmark's own options)",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """Measure this node's speed and memory; arguments go to the benchmark as they are."""
    raise typer.Exit(plugin("bench")(context.args) or 0)


@app.command(
    epilog="Example: weir loadtest webinar --html webinar.html",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def loadtest(context: typer.Context) -> None:
    """Load test a WHIP/WHEP server, this one or another: how many, how fast, and where it breaks."""
    raise typer.Exit(plugin("loadtest")(context.args) or 0)


def plugin(name: str) -> Callable[[list[str]], int | None]:
    """The main function of a command that another package brings, by its entry point in the group weir.commands."""
    point = next(iter(entry_points(group="weir.commands", name=name)), None)
    if point is None:
        stop(f"weir: the package loadtest, which holds the command {name}, is not installed")
    function: Callable[[list[str]], int | None] = point.load()
    return function


@app.command("version", epilog="Example: weir version")
def show_version() -> None:
    """Print the versions of Weir, Python and the compiler of its engine."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    typer.echo(f"weir {version('weir')} (Python {python}, numba {version('numba')}, numpy {version('numpy')})")


def main() -> None:
    """The entry point of the command `weir`."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # the last resort: a fault of ours, told in a line; debug shows where
        logging.getLogger("weir").debug("internal error", exc_info=True)
        typer.echo(f"weir: internal error: {type(error).__name__}: {error}", err=True)
        sys.exit(FAULT)


if __name__ == "__main__":  # python -m mediaserver.cli, where no command is installed
    main()
