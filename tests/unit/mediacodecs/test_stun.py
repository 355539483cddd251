"""STUN messages that the kernels write, read by aioice, and the other way round; checksums and hashes."""

from __future__ import annotations

import hmac
import ipaddress
import zlib
from typing import Any

import numpy as np
import pytest
from aioice.stun import Class, Message, Method, parse_message

from mediacodecs.checksum import crc32, ufrag_hash, username_hash
from mediacodecs.stun import (
    BINDING_SUCCESS,
    STUN,
    begin_integrity,
    end_integrity,
    fingerprint_ok,
    parse_stun,
    write_binding_request,
    write_binding_success,
    write_fingerprint,
)
from tests.unit.mediacodecs.records import array, noisy, written

KEY = b"a password of the ICE agent"
TRANSACTION = b"\0\xfftransactio"
AT = 3


def signed(b: Any, integrity_at: int) -> int:
    """Integrity and fingerprint, as any user of the writers adds them; returns the end."""
    begin_integrity(b, AT, integrity_at)
    digest = hmac.digest(KEY, bytes(b[AT:integrity_at]), "sha1")
    return int(write_fingerprint(b, AT, end_integrity(b, AT, integrity_at, array(digest))))


def read(data: bytes) -> Message:
    """The message by aioice, which checks the fingerprint; the integrity must be right."""
    message = parse_message(data)
    assert message.check_message_integrity(KEY) and message.transaction_id == TRANSACTION
    assert "FINGERPRINT" in message.attributes
    return message


def parse(data: bytes) -> Any:
    stun = noisy(STUN)
    assert parse_stun(array(data), 0, len(data), stun) == 0
    return stun


def authentic(data: bytes, key: bytes) -> bool:
    """The check that the module's docstring tells."""
    b, at = array(data).copy(), int(parse(data).integrity_at)
    begin_integrity(b, 0, at)
    return hmac.compare_digest(hmac.digest(key, bytes(b[:at]), "sha1"), data[at + 4 : at + 24])


@pytest.mark.parametrize("address", ["192.0.2.1", "255.0.18.33", "2001:db8::ffff", "fe80::1"])
def test_success_is_read_by_aioice(address: str) -> None:
    ip = ipaddress.ip_address(address)
    packed, source = array(ip.packed.ljust(16, b"\xaa")), array(b"?" + TRANSACTION + b"?")
    data = written(lambda b: signed(b, write_binding_success(b, AT, source, 1, packed, ip.version, 50001)), 44 + 32)
    message = read(data)
    assert (message.message_class, message.message_method) == (Class.RESPONSE, Method.BINDING)
    assert message.attributes["XOR-MAPPED-ADDRESS"] == (address, 50001)
    stun = parse(data)
    assert stun.kind == BINDING_SUCCESS and stun.mapped_family == ip.version and stun.mapped_port == 50001
    assert bytes(stun.mapped.tolist()) == ip.packed.ljust(16, b"\0")


def request(**attributes: Any) -> Message:
    names = {name.replace("_", "-"): value for name, value in attributes.items()}
    return Message(Method.BINDING, Class.REQUEST, TRANSACTION, names)


def test_request_of_aioice_is_authenticated() -> None:
    message = request(USERNAME="abcd:efgh", PRIORITY=7, ICE_CONTROLLING=1 << 63, USE_CANDIDATE=None)
    message.add_message_integrity(KEY)
    data = bytes(message)
    stun = parse(data)
    assert stun.use_candidate == stun.ice_controlling == 1
    assert authentic(data, KEY) and not authentic(data, b"x" + KEY)
    assert fingerprint_ok(array(data), 0, stun)
    assert data[stun.transaction_at :][:12] == TRANSACTION
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    assert not fingerprint_ok(array(wrong), 0, parse(wrong))


def test_message_without_integrity_or_fingerprint_says_so() -> None:
    data = bytes(request(USERNAME="a:b"))
    stun = parse(data)
    assert stun.integrity_at == 0 and stun.fingerprint_at == 0 and not fingerprint_ok(array(data), 0, stun)


def with_tail(message: Message, tail: str) -> bytes:
    data = bytearray(bytes(message) + bytes.fromhex(tail))
    data[2:4] = (len(data) - 20).to_bytes(2, "big")
    return bytes(data)


def test_what_follows_integrity_does_not_count() -> None:
    message = request(USERNAME="a:b")
    message.add_message_integrity(KEY)
    del message.attributes["FINGERPRINT"]
    assert parse(with_tail(message, "00250000")).use_candidate == 0
    assert parse(with_tail(message, "7fff0000")).unknown == 0


def test_the_first_attribute_that_must_be_understood_and_is_not_is_told() -> None:
    assert parse(with_tail(request(), "c0570004000100027abc000101000000" + "7abd0000")).unknown == 0x7ABC
    assert parse(with_tail(request(), "001c0004000000000014000478787878")).unknown == 0


@pytest.mark.parametrize(
    "tail",
    [
        "0025000400000000",  # USE-CANDIDATE that isn't empty
        "002400020000" + "0000",  # PRIORITY of 2 bytes
        "00080010" + "00" * 16,  # MESSAGE-INTEGRITY of 16
        "0006000500000000",  # USERNAME that runs over the end
        "0006000800000000",
        "00060204" + "61" * 516,  # longer than two ufrags can be
        "8028000000000000",  # FINGERPRINT of 0
        "8028000400000000" + "00250000",  # and one that isn't last
        "0009000300000400",  # ERROR-CODE of 3
        "0009000400000200",  # 200
        "0009000400000464",  # 4 hundred and 100
        "0020000800030000" + "00000000",  # XOR-MAPPED-ADDRESS of an unknown family
        "0020000800020000" + "00000000",  # IPv6 in 4 bytes
        "0020000000000000",  # empty
        "802a000400000000",  # ICE-CONTROLLING of 4
        "8029000c" + "00" * 12,  # ICE-CONTROLLED of 12
    ],
)
def test_attributes_of_a_wrong_size_or_value_are_refused(tail: str) -> None:
    data = with_tail(request(), tail)
    assert parse_stun(array(data), 0, len(data), noisy(STUN)) == 2


def test_headers_that_are_not_stun_are_refused() -> None:
    data = bytes(request(PRIORITY=7))
    for at, value in ((0, 0x40), (0, 0x80), (3, 12), (3, 4), (3, 7), (4, 0), (7, 0)):
        wrong = bytearray(data)
        wrong[at] = value
        assert parse_stun(array(bytes(wrong)), 0, len(wrong), noisy(STUN)) == 2
    assert parse_stun(array(data), 0, 19, noisy(STUN)) == 1


def test_crc32_is_zlibs() -> None:
    data = bytes(np.random.default_rng(1).integers(0, 256, 300, dtype=np.uint8))
    for size in (0, 1, 4, 297):
        assert crc32(array(data), 3, 3 + size) == zlib.crc32(data[3 : 3 + size])


def test_username_is_hashed_up_to_its_colon() -> None:
    assert ufrag_hash("") == 0xCBF29CE484222325 & (1 << 63) - 1
    assert ufrag_hash("foobar") == 0x85944171F73967E8 & (1 << 63) - 1  # published FNV-1a test vector
    rng = np.random.default_rng(2)
    for size in range(0, 40):
        ufrag = bytes(rng.integers(0x3B, 0x7F, size, dtype=np.uint8)).decode()
        for username in (ufrag, ufrag + ":", ufrag + ":peer:x"):
            found = username_hash(array(b"??" + username.encode() + b"z"), 2, len(username))
            assert found == ufrag_hash(ufrag) == ufrag_hash(username) and 0 <= found < 1 << 63


@pytest.mark.parametrize("username", ["ours:theirs", "a:b", "abc:", ":abc", "without", "x" * 256 + ":" + "y" * 43, ""])
def test_request_is_read_by_aioice_and_names_both_the_other_way_round(username: str) -> None:
    seed, source = array(TRANSACTION + bytes(range(8))), array(b"??" + username.encode())
    data = written(lambda b: signed(b, write_binding_request(b, AT, seed, source, 2, len(username))), 400)
    message = read(data)
    ours, colon, theirs = username.partition(":")
    assert message.message_class is Class.REQUEST
    assert message.attributes["USERNAME"] == theirs + colon + ours
    assert message.attributes["ICE-CONTROLLED"] == int.from_bytes(bytes(range(8)))
    assert message.attributes["PRIORITY"] == 110 << 24 | 65535 << 8 | 255
    assert len(data) == 20 + 4 + -(-len(username) // 4) * 4 + 8 + 12 + 24 + 8
