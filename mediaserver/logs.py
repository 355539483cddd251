"""One stream of log lines for the whole node: ours through structlog, and beside them those of libraries and warnings.

JSON for machines (one object per line, with `node`, and with `room` and `participant`, null where a line concerns
nobody) or coloured text for people. Whoever handles a participant binds it once: `with about(room=…, participant=…):`.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from config.schema import Log

Line = MutableMapping[str, Any]
QUIET = ("aiohttp.access", "aioice", "aiortc", "numba", "asyncio")
"""Libraries whose informative lines would drown ours: warnings and worse only, unless the level is debug."""
ALWAYS = ("timestamp", "level", "node", "logger", "message", "room", "participant")


def set_up(log: Log, stream: TextIO | None = None, *, node: str | None = None) -> None:
    """Send every log line of the process to stream (standard output) in the chosen format. Call again to change it.

    `node`: the name that JSON lines bear.
    """
    shared = _shared_processors()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    output = stream or sys.stdout
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_final(log.format, output, node))
    )
    _install(handler, log.level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `logger: name`; keyword arguments of its calls become fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def about(**fields: str) -> AbstractContextManager[None]:
    """Put fields, such as room and participant, on every line that this task logs inside the block."""
    return structlog.contextvars.bound_contextvars(**fields)


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _final(format: str, output: TextIO, node: str | None) -> list[Processor]:
    first: Processor = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if format == "console":
        return [first, _console(output)]
    return [
        first,
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        functools.partial(_put_in_order, node),
        structlog.processors.JSONRenderer(default=str),
    ]


def _console(output: TextIO) -> Processor:
    """For people. Plain tracebacks: the coloured ones print local variables, which may hold secrets."""
    return structlog.dev.ConsoleRenderer(
        colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )


def _put_in_order(node: str | None, _logger: Any, _method: str, line: Line) -> Line:
    """The fields that every line has come first, always in the same order; what is not known is null."""
    line["node"] = node
    return {field: line.pop(field, None) for field in ALWAYS} | dict(line)


def _install(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.getLogger("numba").setLevel(logging.WARNING)  # the compiler's own lines, thousands of them
