"""What proxies say of their clients: who is believed, which hop counts, and what a prefix may be."""

from __future__ import annotations

import random

import pytest
from multidict import CIMultiDict

from mediaserver.signalling.proxies import Client, Proxies, is_prefix, plain_address

PROXIES = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"], "/base")


def client(peer: str, *headers: tuple[str, str], scheme: str = "http") -> Client:
    return PROXIES.client(peer, scheme, CIMultiDict([("Host", "node:7880"), *headers]))


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "192.0.2.1:5000")], "192.0.2.1"),
        ([("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.1.2.3")], "192.0.2.1"),
        ([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.1, 10.1.2.3")], "192.0.2.1"),
        ([("X-Forwarded-For", "::ffff:192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "2001:db8::1")], "2001:db8::1"),
        ([("X-Forwarded-For", "127.0.0.1, 10.0.0.1")], "10.0.0.9"),
        ([("X-Forwarded-For", "192.0.2.1, unknown")], "10.0.0.9"),
        ([("X-Forwarded-For", "")], "10.0.0.9"),
        ([("Forwarded", 'for=192.0.2.1;proto=https, for="[2001:db8:1::5]:80"')], "192.0.2.1"),
        ([("Forwarded", "proto=https; For=192.0.2.1")], "192.0.2.1"),
        ([("Forwarded", "for=_hidden")], "10.0.0.9"),
        ([("X-Real-IP", "192.0.2.1")], "192.0.2.1"),
        ([("X-Real-IP", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
        ([("X-Real-IP", "192.0.2.1"), ("X-Forwarded-For", "6.6.6.6")], "10.0.0.9"),
        ([("X-Real-IP", "192.0.2.1"), ("Forwarded", "for=6.6.6.6")], "10.0.0.9"),
        ([("Via", "1.1 cache")], "10.0.0.9"),
    ],
)
def test_nearest_hop_that_is_no_proxy_of_ours_is_the_client(headers: list[tuple[str, str]], address: str) -> None:
    found = client("10.0.0.9", *headers)
    assert found.address == address and not found.direct
    assert client("203.0.113.5", *headers).address == "203.0.113.5", "a stranger's word"


def test_stranger_is_not_believed_but_is_no_direct_client_either() -> None:
    lies = [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "localhost")]
    found = client("203.0.113.5", *lies, ("X-Forwarded-Prefix", "/evil"))
    assert found == Client("203.0.113.5", "http", "node:7880", "/base", False)
    assert client("203.0.113.5").direct and client("10.0.0.9").direct


@pytest.mark.parametrize("name", ["x-forwarded-for", "Forwarded", "VIA", "X-Real-Ip", "X-Forwarded-Anything"])
def test_any_sign_of_a_proxy_makes_a_client_indirect(name: str) -> None:
    assert not client("203.0.113.5", (name, "x")).direct


def test_scheme_and_host_are_the_proxy_s() -> None:
    found = client("10.0.0.9", ("X-Forwarded-Proto", "http, https"), ("X-Forwarded-Host", "a, meet.example.org"))
    assert (found.scheme, found.host) == ("https", "meet.example.org")
    assert client("10.0.0.9", ("X-Forwarded-Proto", "javascript"), scheme="https").scheme == "https"


def test_host_that_is_there_twice_is_nobody_s() -> None:
    assert PROXIES.client("203.0.113.5", "http", CIMultiDict([("Host", "a"), ("Host", "b")])).host == ""
    assert PROXIES.client("203.0.113.5", "http", CIMultiDict()).host == ""


@pytest.mark.parametrize("text", ["/media", "/media/", "/a/b", "/a-b_c~d.e/f", "/v1.2"])
def test_prefix_of_a_proxy_is_taken(text: str) -> None:
    assert client("10.0.0.9", ("X-Forwarded-Prefix", text)).prefix == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "media",
        "//evil.example",
        "/a//b",
        "/..",
        "/a/../b",
        "/a/./b",
        "/.hidden",
        "/%2e%2e",
        "/a\r\nSet-Cookie: x",
        "/a b",
        "/a?b",
        "/a#b",
        "/a;b",
        "/a\\b",
        '/"><script>',
        "/<a>",
        "https://evil.example",
        "/é",
        "/a, /b",
        "/" + "a" * 200,
        "",
        "/",
        "/a\n",
    ],
)
def test_prefix_that_another_reader_could_misread_is_not(text: str) -> None:
    assert client("10.0.0.9", ("X-Forwarded-Prefix", text)).prefix == "/base"
    assert not is_prefix(text)


def test_prefix_that_is_there_twice_is_not_taken() -> None:
    assert client("10.0.0.9", ("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")).prefix == "/base"


def test_nothing_that_is_forwarded_raises() -> None:
    chance = random.Random(5)
    letters = '0123456789abcdef:.[]",;= forproto_%\x00é\udcff'
    for _ in range(3000):
        text = "".join(chance.choice(letters) for _ in range(chance.randint(0, 40)))
        name = chance.choice(["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Prefix", "X-Forwarded-Host"])
        found = client("10.0.0.9", (name, text))
        assert plain_address(found.address) is not None and is_prefix(found.prefix)
