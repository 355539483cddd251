"""Bytes that are no request, or a strange one: an answer below 500 or none, no traceback, and the node goes on."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import random
from collections.abc import AsyncIterator

import pytest

from tests.unit.signalling.nodes import KEY, OFFER, Running, running, token

HOST = b"Host: localhost\r\n"
SDP = b"Content-Type: application/sdp\r\n"
CLOSE = b"Connection: close\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n"
POST = b"POST /whip/a/b HTTP/1.1\r\n" + HOST + CLOSE
GET = b"GET /api/rooms HTTP/1.1\r\n" + HOST + CLOSE
PATIENCE = 60.0  # seconds
QUICK = {"header_timeout": 0.5, "body_timeout": 0.5, "idle_timeout": 0.5}


@pytest.fixture
async def node() -> AsyncIterator[Running]:
    async with running(http=QUICK) as made:
        yield made


def part(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def bearer(header: bytes, payload: bytes) -> bytes:
    return GET + b"Authorization: Bearer " + part(header) + b"." + part(payload) + b".AAAA\r\n\r\n"


ALG = b'{"alg": "HS256"}'
ODD = {
    "octets-in-authorization": GET + b"Authorization: Bearer \xff\xfe\xed\xa0\x80\r\n\r\n",
    "octets-in-each-header": GET
    + b"Origin: \xff\r\nAccept: \xff\r\nIf-None-Match: \xff\r\nX-Forwarded-For: \xff\r\nSec-Fetch-Site: \xff\r\n\r\n",
    "octets-in-types": POST + b"Content-Type: \xff/\xfe; charset=\xff\r\n\r\n",
    "deep-token": bearer(ALG, b"[" * 5000),
    "deep-objects-in-token": bearer(ALG, b'{"a":' * 1000),
    "long-number-in-token": bearer(ALG, b'{"iss": ' + b"9" * 5000 + b"}"),
    "surrogate-in-token": bearer(ALG, b'{"iss": "\\ud800"}'),
    "infinite-expiry": bearer(ALG, b'{"iss": "%s", "exp": 1e999}' % KEY.encode()),
    "list-as-header-of-a-token": bearer(b"[1]", b"{}"),
    "list-as-algorithm": bearer(b'{"alg": ["HS256"]}', b"{}"),
    "gzip-that-is-none": POST + SDP + b"Content-Encoding: gzip\r\n" + LENGTH % 4 + b"abcd",
    "deflate-that-is-none": POST + SDP + b"Content-Encoding: deflate\r\n" + LENGTH % 4 + b"abcd",
    "coding-of-octets": POST + SDP + b"Content-Encoding: \xff\r\n" + LENGTH % 4 + b"abcd",
    "bad-chunk": POST + SDP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "huge-chunk": POST + SDP + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "both-lengths": POST + SDP + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative-length": POST + SDP + b"Content-Length: -1\r\n\r\n",
    "endless-length": POST + SDP + b"Content-Length: 1" + b"0" * 40 + b"\r\n\r\n",
    "no-name-in-path": b"POST /whip// HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "octets-in-path": b"POST /whip/\xff\xfe/\xed\xa0\x80 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "octets-in-query": b"POST /whep/a/b?lag=\xff&layer=%ff%00 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "absolute-path": b"GET http://evil.example:99999/api/rooms HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "star-path": b"GET * HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "connect": b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    "upgrade": GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "bad-host": b"GET /api/rooms HTTP/1.1\r\nHost: [::1\xff]:x:y\r\n" + CLOSE + b"\r\n",
    "no-host": b"GET /api/rooms HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "two-hosts": GET + HOST + b"\r\n",
    "nul-in-a-header": GET + b"X: a\x00b\r\n\r\n",
    "long-header": GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
    "many-headers": GET + b"".join(b"X-%d: a\r\n" % k for k in range(5000)) + b"\r\n",
    "long-method": b"G" * 20_000 + b" / HTTP/1.1\r\n\r\n",
    "long-path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "http-0.9": b"GET /healthz\r\n\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-9.9": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "bare-line-feeds": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "folded-header": GET + b"X: a\r\n b\r\n\r\n",
    "expectation": POST + b"Expect: miracles\r\n\r\n",
    "zeros": bytes(1000),
}


async def exchange(node: Running, data: bytes) -> bytes:
    """What comes back until the node closes, which it does at the latest when it has waited long enough for more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.node.config.http.port)
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(data)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def fine(answer: bytes) -> bool:
    return not answer or (answer.startswith(b"HTTP/") and answer[9:10] in b"1234")


def faults(lines: io.StringIO) -> list[str]:
    """Lines of the log that are worse than information, or more than a line. That it stood still is the machine's."""
    found = [one for line in lines.getvalue().splitlines() if (one := json.loads(line))["message"] != "stood still"]
    return [str(one) for one in found if one["level"] not in ("debug", "info") or "exception" in one]


@pytest.mark.parametrize("data", list(ODD.values()), ids=list(ODD))
async def test_strange_request_is_no_fault_of_the_node(lines: io.StringIO, node: Running, data: bytes) -> None:
    answer = await exchange(node, data)
    assert fine(answer), answer[:300]
    assert (await node.ask("GET", "/healthz"))[0] == 200
    assert not faults(lines)


async def test_request_that_is_none_is_one_line_at_debug(lines: io.StringIO, node: Running) -> None:
    assert b"400" in (await exchange(node, b"NONSENSE\r\n\r\n"))[:13]
    (line,) = [json.loads(one) for one in lines.getvalue().splitlines() if "could not be read" in one]
    assert line["level"] == "debug" and line["logger"] == "weir.http" and line["source"] == "127.0.0.1"


async def test_compressed_body_is_415_before_it_is_unpacked(node: Running) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    answer = await exchange(node, POST + SDP + b"Content-Encoding: gzip\r\n" + LENGTH % len(bomb) + bomb)
    assert answer.startswith(b"HTTP/1.1 415") and b"Accept-Encoding: identity" in answer


async def test_names_in_the_log_are_one_line(lines: io.StringIO, node: Running) -> None:
    path = b"/whip/a%0aforged%1b%5b31m/b%e2%80%ae"
    await exchange(node, b"POST " + path + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    (line,) = [json.loads(one) for one in lines.getvalue().splitlines() if "join refused" in one]
    assert line["room"].isprintable() and line["participant"].isprintable() and "forged" in line["room"]


def mangled(chance: random.Random) -> bytes:
    """A request with some bytes changed, left out, doubled or cut off."""
    bearers = token("a", "b")["Authorization"].encode()
    whole = [
        POST + SDP + b"Authorization: " + bearers + b"\r\n" + LENGTH % len(OFFER) + OFFER.encode(),
        GET + b"Authorization: " + bearers + b"\r\nOrigin: http://localhost\r\n\r\n",
        b"PATCH /whip/a/b/c HTTP/1.1\r\n" + HOST + b'If-Match: "x"\r\n' + LENGTH % 3 + b"a=b",
        POST + SDP + b"Transfer-Encoding: chunked\r\n\r\n3\r\nv=0\r\n0\r\n\r\n",
        b"GET /app.js HTTP/1.1\r\n" + HOST + b"If-None-Match: *\r\nRange: bytes=0-1\r\n\r\n",
    ]
    data = bytearray(chance.choice(whole))
    head = data.find(b"\r\n\r\n") + 4
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(min(head, len(data)) or 1)
        kind = chance.randrange(4)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randint(1, 20)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randint(1, 40)]
        else:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 5)))
        data = data or bytearray(b"\x00")
    return bytes(data)


async def test_mangled_requests_are_no_fault_of_the_node(lines: io.StringIO, node: Running) -> None:
    chance = random.Random(8)
    for _ in range(15):
        batch = [mangled(chance) for _ in range(40)]
        for data, answer in zip(batch, await asyncio.gather(*(exchange(node, one) for one in batch)), strict=True):
            assert fine(answer), (data, answer[:300])
        for session in list(node.node.sessions.sessions.values()):
            node.node.sessions.end(session, "the test is over")
    assert (await node.ask("GET", "/healthz"))[0] == 200
    assert not faults(lines)
