"""The ICE agent on a clock of the test's own, against aioice's STUN."""

from __future__ import annotations

import itertools

from aioice import stun

from loadtest.stun import Address
from loadtest.transport.ice import CONSENT_LASTS, MAX_PAIRS, Agent, Credentials

NAMES = Credentials("mine", "my-password-of-24-letters", "theirs", "the-password-of-the-server")
FIRST, SECOND, OTHER = ("127.0.0.1", 1001), ("127.0.0.2", 1002), ("127.0.0.3", 1003)
HIGH, LOW = (1 << 64) - 1, 0


def sent(agent: Agent) -> list[tuple[stun.Message, Address]]:
    """What the agent sends now, as aioice reads it; the checks are authentic."""
    messages = [(stun.parse_message(data), address) for data, address in agent.datagrams()]
    for message, _ in messages:
        password = NAMES.remote_password if message.message_class == stun.Class.REQUEST else NAMES.local_password
        assert message.check_message_integrity(password.encode())
    return messages


def answer(request: stun.Message, password: str = NAMES.remote_password) -> bytes:
    response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
    response.attributes["XOR-MAPPED-ADDRESS"] = ("127.0.0.1", 9)
    response.add_message_integrity(password.encode())
    response.add_fingerprint()
    return bytes(response)


def refuse(request: stun.Message, code: int) -> bytes:
    response = stun.Message(stun.Method.BINDING, stun.Class.ERROR, request.transaction_id)
    response.attributes["ERROR-CODE"] = (code, "no")
    response.add_message_integrity(NAMES.remote_password.encode())
    response.add_fingerprint()
    return bytes(response)


def check(
    tie_breaker: int, *, controlling: bool = False, nominate: bool = False, username: str = "mine:theirs"
) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = username
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING" if controlling else "ICE-CONTROLLED"] = tie_breaker
    if nominate:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(NAMES.local_password.encode())
    request.add_fingerprint()
    return bytes(request)


def begun(*addresses: Address) -> Agent:
    agent = Agent(NAMES, addresses, 0.0)
    agent.handle_timer(0.0)
    return agent


def test_the_only_address_is_nominated_with_the_first_check() -> None:
    agent = begun(FIRST)
    ((request, address),) = sent(agent)
    assert address == FIRST and request.attributes["USERNAME"] == "theirs:mine"
    assert "USE-CANDIDATE" in request.attributes and "ICE-CONTROLLING" in request.attributes
    agent.receive(answer(request), FIRST, 0.01)
    assert agent.selected == FIRST and agent.timer() is None


def test_checks_are_repeated_less_and_less_often() -> None:
    agent = begun(FIRST)
    now, times, transactions = 0.0, [0.0], {request.transaction_id for request, _ in sent(agent)}
    for _ in range(6):
        due = agent.timer()
        assert due is not None
        agent.handle_timer(due - 0.001)
        assert not sent(agent)
        agent.handle_timer(now := due)
        times.append(now)
        transactions |= {request.transaction_id for request, _ in sent(agent)}
    pauses = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 1.6] and len(transactions) == 1


def test_of_two_addresses_the_one_that_answers_is_nominated() -> None:
    agent = begun(FIRST, SECOND)
    ((to_first, _),) = sent(agent)
    agent.handle_timer(0.05)
    ((to_second, address),) = sent(agent)
    assert address == SECOND and "USE-CANDIDATE" not in to_second.attributes
    agent.receive(answer(to_second), SECOND, 0.06)
    assert agent.selected is None
    ((nomination, address),) = sent(agent)
    assert address == SECOND and "USE-CANDIDATE" in nomination.attributes
    agent.receive(answer(to_first), FIRST, 0.07)  # too late: one is nominated already
    assert agent.selected is None and not sent(agent)
    agent.receive(answer(nomination), SECOND, 0.08)
    assert agent.selected == SECOND


def test_answers_of_others_change_nothing() -> None:
    agent = begun(FIRST)
    ((request, _),) = sent(agent)
    agent.receive(answer(request, "not-the-password-of-the-server"), FIRST, 0.01)
    agent.receive(answer(stun.Message(stun.Method.BINDING, stun.Class.REQUEST)), FIRST, 0.01)
    agent.receive(b"\x01\x01 noise", FIRST, 0.01)
    assert agent.selected is None and not sent(agent)


def test_a_check_of_the_server_is_answered_with_where_it_came_from() -> None:
    agent = begun(FIRST)
    sent(agent)
    agent.receive(check(LOW), OTHER, 0.01)
    ((response, address),) = sent(agent)
    assert response.message_class == stun.Class.RESPONSE
    assert response.attributes["XOR-MAPPED-ADDRESS"] == OTHER == address


def test_an_address_that_a_check_came_from_is_checked_and_nominated() -> None:
    agent = begun(FIRST)
    sent(agent)
    agent.receive(check(LOW), OTHER, 0.01)
    sent(agent)
    agent.handle_timer(0.01)
    ((request, address),) = sent(agent)
    assert address == OTHER
    agent.receive(answer(request), OTHER, 0.02)
    ((nomination, address),) = sent(agent)
    assert address == OTHER and "USE-CANDIDATE" in nomination.attributes
    agent.receive(answer(nomination), OTHER, 0.03)
    assert agent.selected == OTHER


def test_checks_of_strangers_are_not_answered() -> None:
    agent = begun(FIRST)
    sent(agent)
    agent.receive(check(LOW, username="somebody:theirs"), OTHER, 0.01)
    forged = bytearray(check(LOW))
    forged[30] ^= 1
    agent.receive(bytes(forged), OTHER, 0.01)
    unsigned = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    unsigned.attributes["USERNAME"] = "mine:theirs"
    agent.receive(bytes(unsigned), OTHER, 0.01)
    assert not sent(agent) and agent.addresses == [FIRST]


def test_strangers_with_the_password_do_not_fill_the_list_of_addresses() -> None:
    agent = begun(FIRST)
    for port in range(2 * MAX_PAIRS):
        agent.receive(check(LOW), ("127.0.0.1", 2000 + port), 0.01)
    assert len(agent.addresses) == MAX_PAIRS


def test_a_server_with_the_smaller_tie_breaker_must_give_way() -> None:
    agent = begun(FIRST)
    sent(agent)
    agent.receive(check(LOW, controlling=True), FIRST, 0.01)
    ((response, _),) = sent(agent)
    assert response.attributes["ERROR-CODE"][0] == 487 and agent.controlling


def test_before_a_larger_tie_breaker_we_give_way_and_wait_for_its_nomination() -> None:
    agent = begun(FIRST)
    sent(agent)
    agent.receive(check(HIGH, controlling=True), FIRST, 0.01)
    messages = [message for message, _ in sent(agent)]
    (request,) = (m for m in messages if m.message_class == stun.Class.REQUEST)
    assert "ICE-CONTROLLED" in request.attributes and not agent.controlling
    assert [m.message_class for m in messages].count(stun.Class.RESPONSE) == 1
    agent.receive(answer(request), FIRST, 0.02)
    assert agent.selected is None
    agent.receive(check(HIGH, controlling=True, nominate=True), FIRST, 0.03)
    assert agent.selected == FIRST


def test_a_role_conflict_that_the_server_finds_is_solved() -> None:
    agent = begun(FIRST)
    ((request, _),) = sent(agent)
    agent.receive(refuse(request, 487), FIRST, 0.01)
    ((again, _),) = sent(agent)
    assert "ICE-CONTROLLED" in again.attributes and again.transaction_id != request.transaction_id
    agent.receive(refuse(again, 487), FIRST, 0.02)  # and back
    ((third, _),) = sent(agent)
    agent.receive(answer(third), FIRST, 0.03)
    assert agent.controlling and agent.selected == FIRST


def test_another_refusal_is_kept_for_the_message() -> None:
    agent = begun(FIRST)
    ((request, _),) = sent(agent)
    agent.receive(refuse(request, 401), FIRST, 0.01)
    assert agent.refusal == 401 and agent.selected is None and agent.timer() is not None


def connected() -> Agent:
    agent = begun(FIRST)
    ((request, _),) = sent(agent)
    agent.receive(answer(request), FIRST, 0.0)
    agent.keep_alive(0.0)
    return agent


def test_consent_is_asked_for_every_four_to_five_seconds() -> None:
    agent, times = connected(), [0.0]
    while len(times) < 20:
        now = agent.timer()
        assert now is not None
        agent.handle_timer(now)
        ((request, address),) = sent(agent)
        assert address == FIRST
        agent.receive(answer(request), FIRST, now)
        times.append(now)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert all(4 <= pause <= 5 for pause in pauses) and len(set(pauses)) > 1
    assert agent.answered == 19 and not agent.lost


def test_consent_runs_out_thirty_seconds_after_the_last_answer() -> None:
    agent = connected()
    now = 0.0
    while not agent.lost:
        due = agent.timer()
        assert due is not None
        agent.handle_timer(now := due)
        for request, _ in sent(agent):
            agent.receive(answer(request, "not-the-password-of-the-server"), FIRST, now)
    assert now == CONSENT_LASTS and agent.timer() is None


def test_a_late_answer_still_renews_consent() -> None:
    agent = connected()
    requests: list[stun.Message] = []
    while len(requests) < 5:
        agent.handle_timer(agent.timer() or 0.0)
        requests += [request for request, _ in sent(agent)]
    agent.receive(answer(requests[1]), FIRST, 29.0)
    agent.handle_timer(58.0)
    assert not agent.lost
    agent.handle_timer(59.0)
    assert agent.lost


def test_checks_are_answered_after_the_handshake_too() -> None:
    agent = connected()
    agent.receive(check(LOW), FIRST, 1.0)
    ((response, _),) = sent(agent)
    assert response.message_class == stun.Class.RESPONSE and agent.selected == FIRST
