"""Connections: the time that each has for what, how many there may be, and what is said of those that are ended."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.schema import Http
from mediaserver.signalling.connections import FAREWELL, Connection
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import SDP, Running, running

TIMES = Http(header_timeout=10, idle_timeout=60, write_timeout=30)


class Pipe(asyncio.Transport):
    """A transport that holds what it is told to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.closed, self.aborted = 0, False, False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Clocked:
    """A connection with a clock of its own."""

    def __init__(self) -> None:
        self.now, self.gone, self.pipe = 0.0, 0, Pipe()
        self.connection = Connection(asyncio.Protocol(), lambda: self.now, self._gone)
        self.connection.connection_made(self.pipe)

    def _gone(self, _connection: Connection) -> None:
        self.gone += 1

    def overdue(self, at: float) -> str | None:
        self.now = at
        return self.connection.overdue(TIMES)


def test_new_connection_has_to_send_a_request() -> None:
    clocked = Clocked()
    assert clocked.overdue(9.9) is None
    clocked.connection.data_received(b"GET / HTTP")
    assert clocked.overdue(10.0) is None
    clocked.connection.data_received(b"/1.1")  # a byte now and then is no request
    assert "no whole request" in (clocked.overdue(10.1) or "")


def test_request_that_is_answered_takes_its_time() -> None:
    clocked = Clocked()
    clocked.connection.begin()
    assert clocked.overdue(100_000.0) is None


def test_connection_may_be_idle_after_a_request_and_then_has_to_send_a_whole_one() -> None:
    clocked = Clocked()
    clocked.connection.begin()
    clocked.now = 100.0
    clocked.connection.end()
    assert clocked.overdue(159.9) is None
    assert "idle" in (clocked.overdue(160.1) or "")
    clocked.now = 159.0
    clocked.connection.data_received(b"G")
    assert clocked.overdue(168.9) is None
    assert "no whole request" in (clocked.overdue(169.1) or "")


def test_client_that_does_not_read_is_overdue_even_while_it_is_answered() -> None:
    clocked = Clocked()
    clocked.connection.begin()
    clocked.pipe.waiting = 1000
    assert clocked.overdue(100.0) is None
    assert clocked.overdue(129.0) is None
    clocked.pipe.waiting = 0
    assert clocked.overdue(130.0) is None
    clocked.pipe.waiting = 1
    assert clocked.overdue(140.0) is None and clocked.overdue(169.0) is None
    assert "not read" in (clocked.overdue(170.1) or "")


def test_farewell_is_cut_short_when_nobody_reads_or_it_lasts() -> None:
    clocked = Clocked()
    assert clocked.connection.shut() and clocked.pipe.closed and not clocked.pipe.aborted
    assert not clocked.connection.shut() and not clocked.pipe.aborted
    clocked.now = FAREWELL + 0.1
    assert not clocked.connection.shut() and clocked.pipe.aborted
    stuck = Clocked()
    stuck.pipe.waiting = 1
    assert stuck.connection.shut() and stuck.pipe.aborted


def test_end_is_told_once_and_nothing_is_overdue_after_it() -> None:
    clocked = Clocked()
    clocked.connection.connection_lost(None)
    assert clocked.gone == 1 and clocked.overdue(1e9) is None and not clocked.connection.shut()


QUICK: dict[str, Any] = {"header_timeout": 0.3, "idle_timeout": 0.3, "write_timeout": 0.3, "body_timeout": 0.3}


@asynccontextmanager
async def open_to(node: Running, data: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.node.config.http.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.transport.abort()


def told(lines: io.StringIO, message: str) -> list[Any]:
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [one for one in found if one["message"] == message]


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("first", "drip", "reason"),
    [
        (b"", b"", "no whole request came"),
        (b"GET / HTTP/1.1\r\nX: ", b"a", "no whole request came"),
        (HEALTH + b"\r\n", b"", "it has been idle"),
    ],
    ids=["nothing", "slow-header", "idle"],
)
async def test_connection_that_wastes_time_is_closed_and_told(
    lines: io.StringIO, first: bytes, drip: bytes, reason: str
) -> None:
    async with running(http=QUICK) as node, open_to(node, first) as (reader, writer):
        dripping = asyncio.create_task(trickle(writer, drip))
        async with asyncio.timeout(20):
            await to_the_end(reader)
        dripping.cancel()
        (line,) = told(lines, "connection closed")
        assert line["source"] == "127.0.0.1" and line["reason"].startswith(reason)
        await until(lambda: not node.node.http._held and not node.node.http._sources)


async def trickle(writer: asyncio.StreamWriter, drip: bytes) -> None:
    while drip and not writer.transport.is_closing():
        writer.write(drip)
        await asyncio.sleep(0.02)


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes; what was sent to a closed connection may cost the last of it."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_body_that_nobody_wants_does_not_keep_a_connection() -> None:
    async with running(http=QUICK) as node:
        head = HEALTH + b"Content-Length: 9999\r\n\r\nv"
        async with open_to(node, head) as (reader, _), asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_client_that_does_not_read_its_answers_is_cut_off(lines: io.StringIO) -> None:
    async with running(http=QUICK) as node:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", node.node.config.http.port))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        with sock:
            request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400
            await loop.sock_sendall(sock, request)
            await until(lambda: node.node.http._held, 20)
            await until(lambda: not node.node.http._held, 20)
        assert any("not read" in one["reason"] for one in told(lines, "connection closed"))


async def test_reader_of_events_outlives_all_times() -> None:
    async with running(http=QUICK) as node:
        viewer = await node.join("/whep/a/b", connect=False)
        _, headers, _ = await node.ask("POST", f"{viewer.location}/sse", json=["viewercount"])
        async with node.http.get(headers["Location"]) as response, asyncio.timeout(20):
            assert await response.content.readuntil(b"\n\n")
            for data in (b"", HEALTH + b"\r\n"):  # those whose time is up at once go before it
                async with open_to(node, data) as (reader, _):
                    await to_the_end(reader)
            assert not response.content.at_eof()
            assert (await node.ask("DELETE", headers["Location"]))[0] == 200
            await response.content.read()


FEW: dict[str, Any] = {"http": {"connections": 16, "connections_per_source": 4}, "limits": {}}


async def test_connections_of_one_source_have_a_limit_that_is_told(lines: io.StringIO) -> None:
    sections = FEW | {"limits": {"unlimited_loopback_joins": False}}
    async with running(**sections) as node:
        held = [await asyncio.open_connection("127.0.0.1", node.node.config.http.port) for _ in range(4)]
        await until(lambda: node.node.http._held == 4)
        for _ in range(5):
            async with open_to(node) as (reader, _), asyncio.timeout(20):
                assert (await reader.read()).startswith(b"HTTP/1.1 503")
        (line,) = told(lines, "connection refused")
        assert "connections_per_source" in line["reason"] and line["source"] == "127.0.0.1"
        held[0][1].transport.abort()
        await until(lambda: node.node.http._held == 3)
        assert (await node.ask("GET", "/healthz"))[0] == 200
        for _, writer in held:
            writer.transport.abort()


async def test_connections_in_all_have_a_limit_that_is_told(lines: io.StringIO) -> None:
    async with running(**FEW) as node:  # unlimited per source here
        held = [await asyncio.open_connection("127.0.0.1", node.node.config.http.port) for _ in range(16)]
        await until(lambda: node.node.http._held == 16)
        async with open_to(node) as (reader, _), asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503") and json.loads(body)["status"] == 503
            assert f"Content-Length: {len(body)}".encode() in head
        assert "http.connections" in told(lines, "connection refused")[0]["reason"]
        for _, writer in held:
            writer.transport.abort()
        await until(lambda: node.node.http._held == 0)
        assert (await node.ask("GET", "/healthz"))[0] == 200


async def test_trusted_proxy_may_have_any_number_of_connections() -> None:
    sections = {
        "http": {"connections": 64, "connections_per_source": 2, "trusted_proxies": ["127.0.0.1"]},
        "limits": {"unlimited_loopback_joins": False},
    }
    async with running(**sections) as node:
        held = [await asyncio.open_connection("127.0.0.1", node.node.config.http.port) for _ in range(20)]
        await until(lambda: node.node.http._held == 20)
        assert (await node.ask("GET", "/healthz"))[0] == 200
        for _, writer in held:
            writer.transport.abort()


async def test_double_colon_listens_on_both_families() -> None:
    async with running(http={"host": "::"}) as node:
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, node.node.config.http.port)
            writer.write(HEALTH + b"Connection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200")
            writer.close()


async def test_body_that_comes_too_slowly_ends_the_connection() -> None:
    async with running(http=QUICK) as node:
        head = "POST /whip/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in SDP.items())
        async with open_to(node, head.encode() + b"\r\nv=") as (reader, _), asyncio.timeout(20):
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 408") and b"onnection: close" in answer
