"""All log lines of the node are one stream, and each says whom it is about."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from config.schema import Log
from mediaserver import logs


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    """Give pytest its handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(output: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def set_up(**log: str) -> io.StringIO:
    output = io.StringIO()
    logs.set_up(Log.model_validate(log), output, node="edge-1")
    return output


def test_a_line_is_one_json_object_that_names_node_room_and_participant() -> None:
    output = set_up()
    with logs.about(room="lobby", participant="ann"):
        logs.get_logger("rooms").info("joined", tracks=2)
    (line,) = lines(output)
    assert list(line)[:7] == ["timestamp", "level", "node", "logger", "message", "room", "participant"]
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "node": "edge-1",
        "logger": "rooms",
        "message": "joined",
        "room": "lobby",
        "participant": "ann",
        "tracks": 2,
    }


def test_a_line_about_nobody_says_so() -> None:
    output = set_up()
    logs.get_logger("node").info("started")
    assert lines(output)[0]["room"] is None and lines(output)[0]["participant"] is None


def test_lines_of_libraries_join_the_stream() -> None:
    output = set_up()
    with logs.about(room="lobby"):
        logging.getLogger("aiohttp.server").error("failed %s", "badly")
    assert lines(output)[0]["message"] == "failed badly" and lines(output)[0]["room"] == "lobby"


def test_warnings_join_the_stream() -> None:
    output = set_up()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)
        logging.captureWarnings(False)
    assert "careful" in str(lines(output)[0]["message"])


def test_an_exception_is_part_of_its_line() -> None:
    output = set_up()
    try:
        raise ValueError("odd")
    except ValueError:
        logs.get_logger("node").exception("failed")
    assert "ValueError: odd" in str(lines(output)[0]["exception"])


def test_lines_below_the_level_are_not_written() -> None:
    output = set_up(level="warning")
    logs.get_logger("node").info("started")
    assert output.getvalue() == ""


def test_access_lines_come_at_debug_only() -> None:
    output = set_up()
    logging.getLogger("aiohttp.access").info("GET /")
    assert output.getvalue() == ""
    output = set_up(level="debug")
    logging.getLogger("aiohttp.access").info("GET /")
    assert lines(output)[0]["message"] == "GET /"


def test_the_console_shows_text_and_no_local_variables() -> None:
    output = set_up(format="console")
    password = "hunter2".upper()
    try:
        raise ValueError(len(password))
    except ValueError:
        logs.get_logger("node").exception("failed", room="lobby")
    assert "failed" in output.getvalue() and "room=lobby" in output.getvalue()
    assert "HUNTER2" not in output.getvalue()
