"""The load client's connectivity checks against aioice's STUN."""

from __future__ import annotations

from aioice import stun

from loadtest.stun import binding_request, is_success, new_transaction

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


def test_the_answer_to_our_check_is_taken() -> None:
    assert is_success(response(TRANSACTION, PASSWORD), TRANSACTION, PASSWORD)


def test_answers_of_others_are_not_taken() -> None:
    good = response(TRANSACTION, PASSWORD)
    assert not is_success(good, new_transaction(), PASSWORD)
    assert not is_success(good, TRANSACTION, "another")
    assert not is_success(binding_request("r:l", PASSWORD, TRANSACTION, 1), TRANSACTION, PASSWORD)


def test_cut_answers_are_not_taken() -> None:
    good = response(TRANSACTION, PASSWORD)
    assert not any(is_success(good[:size], TRANSACTION, PASSWORD) for size in range(len(good) - 32))
