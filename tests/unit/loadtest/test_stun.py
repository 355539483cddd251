"""The load client's connectivity checks against aioice's STUN."""

from __future__ import annotations

import random

from aioice import stun

from loadtest.stun import (
    BINDING_REQUEST,
    BINDING_SUCCESS,
    COOKIE,
    ICE_CONTROLLED,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    read_message,
)

TRANSACTION, PASSWORD = bytes(range(12)), "a-password-of-some-length"


def response(transaction: bytes, password: str) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction)
    message.attributes["XOR-MAPPED-ADDRESS"] = ("127.0.0.1", 4242)
    message.add_message_integrity(password.encode())
    message.add_fingerprint()
    return bytes(message)


def test_aioice_reads_a_nominating_check_and_trusts_it() -> None:
    request = stun.parse_message(binding_request("remote:local", PASSWORD, TRANSACTION, 2**63 + 5))
    assert request.message_method == stun.Method.BINDING and request.message_class == stun.Class.REQUEST
    assert request.transaction_id == TRANSACTION
    assert request.attributes["USERNAME"] == "remote:local"
    assert request.attributes["ICE-CONTROLLING"] == 2**63 + 5
    assert "USE-CANDIDATE" in request.attributes and "FINGERPRINT" in request.attributes
    assert request.check_message_integrity(PASSWORD.encode())
    assert not request.check_message_integrity(b"another")


def test_a_check_without_nomination_has_no_use_candidate() -> None:
    request = stun.parse_message(binding_request("r:l", PASSWORD, TRANSACTION, 1, nominate=False))
    assert "USE-CANDIDATE" not in request.attributes


def test_the_answer_to_our_check_is_read_and_trusted_by_its_password() -> None:
    good = response(TRANSACTION, PASSWORD)
    message = read_message(good)
    assert message is not None and (message.kind, message.transaction) == (BINDING_SUCCESS, TRANSACTION)
    assert is_authentic(good, message, PASSWORD) and not is_authentic(good, message, "another")


def test_cut_answers_are_not_read() -> None:
    good = response(TRANSACTION, PASSWORD)
    assert not any(read_message(good[:size]) for size in range(len(good)))


def test_aioice_takes_our_answer_to_its_check() -> None:
    for address in (("127.0.0.1", 4242), ("2001:db8::9", 65535)):
        data = binding_success(TRANSACTION, address, PASSWORD)
        answer = stun.parse_message(data)
        assert answer.check_message_integrity(PASSWORD.encode())
        assert (answer.message_class, answer.transaction_id) == (stun.Class.RESPONSE, TRANSACTION)
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == address
        assert "FINGERPRINT" in answer.attributes and "MESSAGE-INTEGRITY" in answer.attributes


def test_aioice_takes_our_refusal() -> None:
    refusal = stun.parse_message(binding_error(TRANSACTION, 487, "Role Conflict", PASSWORD))
    assert refusal.check_message_integrity(PASSWORD.encode())
    assert refusal.message_class == stun.Class.ERROR
    assert refusal.attributes["ERROR-CODE"] == (487, "Role Conflict")


def test_a_check_of_aioice_is_read() -> None:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, TRANSACTION)
    request.attributes["USERNAME"] = "local:remote"
    request.attributes["ICE-CONTROLLED"] = 77
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(PASSWORD.encode())
    request.add_fingerprint()
    message = read_message(bytes(request))
    assert message is not None and message.kind == BINDING_REQUEST
    assert (message.username, message.role, message.tie_breaker) == ("local:remote", ICE_CONTROLLED, 77)
    assert not message.nominates
    assert is_authentic(bytes(request), message, PASSWORD) and not is_authentic(bytes(request), message, "another")


def test_a_message_with_any_bit_turned_is_not_believed() -> None:
    good = binding_request("local:remote", PASSWORD, TRANSACTION, 5)
    for at in range(8 * len(good)):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        message = read_message(bytes(bad))  # the FINGERPRINT may become an attribute that nobody knows
        if message is not None and is_authentic(bytes(bad), message, PASSWORD):
            assert message == read_message(good)


def test_noise_is_no_message() -> None:
    source = random.Random(7)
    for size in range(200):
        assert read_message(source.randbytes(size)) is None
        cookie = b"\x00\x01" + max(size - 20, 0).to_bytes(2) + COOKIE.to_bytes(4)
        read_message((cookie + source.randbytes(size))[:size])  # whatever it is, it raises nothing
