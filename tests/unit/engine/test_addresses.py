"""Whose an address is, what moves media, and how much an address gets before it is proven to be the peer's."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.commands import take_commands
from mediaserver.engine.handles import hash_of, put_text
from mediaserver.engine.paths import HELD, SILENT
from mediaserver.engine.questions import FIRST_WAIT
from mediaserver.engine.receive import receive_round
from mediaserver.engine.rtcp_out import goodbye
from mediaserver.engine.send import send_single
from mediaserver.engine.worker import RECEIVE_SLOTS
from packetio.memory import Table
from tests.unit.engine.desk import Desk
from tests.unit.engine.members import Member, port

LIMIT = 3  # times what came


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    for end in made.ends:
        if isinstance(end, Member):
            end.close()
    made.close()


def send_much(member: Member, size: int = 1000, count: int = 20) -> None:
    """Let the worker send datagrams to where media goes."""
    data = Table(L.WORKER, 1)  # any memory
    for _ in range(count):
        send_single(member.desk.w, member.record, data.address, size)


# Whose an address is


def test_address_of_a_living_session_is_not_taken_and_who_asks_gets_no_answer(desk: Desk) -> None:
    victim, thief = Member(desk), Member(desk, name="thief")
    victim.connect()
    desk.w.now += HELD // 2
    before = int(desk.w.drop_stun)
    thief.check(victim.sock, nominate=True)
    assert victim.waiting() == [] and desk.w.drop_stun == before + 1
    assert thief.record.remote_size == 0 and thief.record.last_check == 0
    victim.media()
    assert victim.record.packets_in == 1 and victim.record.last_heard == desk.w.now


@pytest.mark.parametrize("sign", ["check", "media"])
def test_any_sign_of_life_keeps_an_address(desk: Desk, sign: str) -> None:
    victim, thief = Member(desk), Member(desk, name="thief")
    victim.connect()
    for _ in range(5):
        desk.w.now += HELD - L.MS
        thief.check(victim.sock, nominate=True)
        assert victim.waiting() == []
        getattr(victim, sign)()
        victim.waiting()
    assert thief.record.remote_size == 0


def test_address_of_a_dead_session_is_the_next_ones_within_seconds_and_is_sent_nothing_of_the_old(desk: Desk) -> None:
    old, new = Member(desk), Member(desk, name="new")
    old.connect()
    transaction = random.Random(1).randbytes(12)
    desk.w.now += HELD
    new.check(old.sock, transaction=transaction)
    assert new.record.remote_size == 0
    desk.w.now += 1
    new.check(old.sock, transaction=transaction)  # the same request, repeated as STUN does
    answers, _ = new.stun(old.sock)
    assert len(answers) == 1 and new.remote == port(old.sock)
    send_much(old)
    assert old.waiting() == []
    elsewhere = old.another()
    old.check(elsewhere)
    for request in old.stun(elsewhere)[1]:
        old.answer(request, elsewhere)
    assert old.remote == port(elsewhere)  # it lives, only elsewhere
    send_much(old, count=1)
    assert len(old.waiting(elsewhere)) == 1


def test_nobody_sits_on_addresses_that_are_not_proven_to_be_its_own(desk: Desk) -> None:
    squatter, owner = Member(desk), Member(desk, name="owner")
    squatter.connect()
    place = squatter.another()
    end = desk.w.now + HELD
    while desk.w.now < end:
        squatter.check(place, nominate=True)
        squatter.media(place)
        owner.check(place)
        assert len(squatter.stun(place)[0]) == 1 and owner.record.remote_size == 0
        desk.w.now += L.SECOND
    squatter.check(place, nominate=True)
    squatter.waiting(place)
    desk.w.now += 1
    owner.check(place)
    assert owner.remote == port(place)


def test_address_is_held_while_the_worker_stood_still(desk: Desk) -> None:
    victim, thief = Member(desk), Member(desk, name="thief")
    victim.connect()
    desk.w.now += 25 * L.SECOND
    desk.w.awake_since = desk.w.now
    thief.check(victim.sock, nominate=True)
    assert victim.waiting() == [] and thief.record.remote_size == 0


def test_address_that_media_goes_to_stays_however_many_others_are_checked(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    sockets = [member.another() for _ in range(12)]
    for sock in sockets:
        desk.w.now += 1
        member.check(sock)
        assert len(member.stun(sock)[0]) == 1
        assert (desk.worker.addresses.rows["transport"] == member.index).sum() <= L.ADDRESSES
        member.media()
        member.media(sock)
    assert member.remote == port(member.sock)
    assert member.record.packets_in == 2 * len(sockets)


def test_answer_goes_to_who_asked_however_much_comes_before_it_leaves(desk: Desk) -> None:
    """Where an answer goes lies in the receive slot of the check, which the next batch uses again."""
    member = Member(desk)
    stranger = member.another()
    server = desk.sock.getsockname()
    member.sock.sendto(member.request(), server)
    for _ in range(2 * RECEIVE_SLOTS):
        stranger.sendto(b"\xff" * 20, server)
    receive_round(desk.w)
    assert len(member.stun()[0]) == 1 and member.waiting(stranger) == []


# What moves media


def test_new_address_that_is_nominated_gets_media_when_it_answers(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    answers, requests = member.stun(new)
    assert len(answers) == len(requests) == 1 and member.remote == port(member.sock)
    request = requests[0]
    assert request.attributes["USERNAME"] == "theirs:ours"
    assert "ICE-CONTROLLED" in request.attributes and request.attributes["PRIORITY"] >> 24 == 110
    member.answer(request, new)
    assert member.remote == port(new) and desk.events()[-1] == (L.ADDRESS_CHANGED, member.index)
    send_much(member)
    assert len(member.waiting(new)) == 20


def test_error_that_answers_a_question_proves_as_much_as_a_success(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    member.put(member.response(member.stun(new)[1][0], error=487), new)
    assert member.remote == port(new)


def test_answers_that_anybody_could_give_prove_nothing(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new, other = member.another(), member.another()
    member.check(other)
    member.check(new, nominate=True)
    (request,) = member.stun(new)[1]
    right = member.response(request)
    guessed = [bytearray(request.transaction_id) for _ in range(12)]
    for k, transaction in enumerate(guessed):
        transaction[k] ^= 1
    member.answer(request, new, key="wrong")
    member.answer(request, new, key=member.key)
    for transaction in guessed:
        member.put(member.response(request, transaction=bytes(transaction)), new)
    member.put(right, other)  # it has to come from where the question went
    member.put(right, member.sock)
    member.put(right[:-1] + bytes([right[-1] ^ 1]), new)  # a wrong fingerprint
    assert member.remote == port(member.sock)
    member.put(right, new)
    assert member.remote == port(new)


def test_answer_proves_no_address_that_has_the_place_of_the_one_that_was_asked(desk: Desk) -> None:
    """Else a member could be asked at its own address, and answer with a forged one."""
    member = Member(desk)
    member.connect()
    asked, *others = (member.another() for _ in range(L.ADDRESSES))
    desk.w.now += 1
    member.check(asked, nominate=True)
    (request,) = member.stun(asked)[1]
    for sock in others:
        desk.w.now += 1
        member.check(sock)
        member.waiting(sock)
    for sock in others:
        member.answer(request, sock)
    assert member.remote == port(member.sock)
    assert int(member.record.path_valid.sum()) == 1, "the one of the handshake"


def test_address_that_is_not_nominated_waits_until_the_old_one_is_silent(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new)
    assert member.stun(new)[1] == []
    desk.w.now += SILENT - L.MS
    member.media()
    desk.w.now += SILENT
    member.check(new)
    assert member.stun(new)[1] == [] and member.remote == port(member.sock)
    desk.w.now += 1
    member.check(new)
    member.answer(member.stun(new)[1][0], new)
    assert member.remote == port(new)


def test_nothing_moves_for_a_silence_in_which_the_worker_stood_still(desk: Desk) -> None:
    member = Member(desk)
    member.connect(answers=False)
    desk.w.now += 25 * L.SECOND
    desk.w.awake_since = desk.w.now
    new = member.another()
    member.check(new)
    assert member.remote == port(member.sock) and member.stun(new)[1] == []


def test_way_back_to_a_proven_address_needs_no_question(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    member.answer(member.stun(new)[1][0], new)
    assert member.remote == port(new)
    member.check(nominate=True)
    assert member.remote == port(member.sock) and member.stun()[1] == []
    send_much(member)
    assert len(member.waiting()) == 20


def test_peer_that_nominates_its_old_address_again_stays_there(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    (request,) = member.stun(new)[1]
    member.check(nominate=True)
    member.answer(request, new)
    assert member.remote == port(member.sock)


def test_peer_that_never_answers_moves_when_its_old_address_is_silent(desk: Desk) -> None:
    member = Member(desk)
    member.connect(answers=False)
    new = member.another()
    member.check(new, nominate=True)
    assert member.remote == port(member.sock)
    desk.w.now += SILENT + 1
    member.check(new, nominate=True)
    assert member.remote == port(new) and member.record.limited


def test_peer_that_answers_is_not_moved_by_silence_alone(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    desk.w.now += 2 * SILENT
    forged = member.another()
    member.check(forged, nominate=True)
    assert member.remote == port(member.sock)


# Replays


def test_replayed_check_moves_binds_and_answers_nothing(desk: Desk) -> None:
    member = Member(desk)
    member.connect(answers=False)
    captured = member.check(nominate=True)
    desk.w.now += SILENT + 1
    member.waiting()
    attacker = member.another()
    heard = member.record.last_heard
    member.put(captured, attacker)
    assert member.waiting(attacker) == [] and member.remote == port(member.sock)
    assert member.record.last_heard == heard
    member.media(attacker)
    assert member.record.packets_in == 0 and desk.w.drop_unknown == 1


def test_repeated_check_is_answered_but_is_no_new_sign_of_life(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    data = member.check(nominate=True)
    heard = member.record.last_heard
    member.waiting()
    for _ in range(3):
        desk.w.now += L.SECOND
        member.put(data)
        assert len(member.stun()[0]) == 1
    assert member.record.last_heard == member.record.last_check == member.record.remote_heard == heard


def test_replay_of_a_check_that_is_long_past_does_not_move_media(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    captured = member.check(nominate=True)
    for _ in range(L.REMEMBERED):
        desk.w.now += 2 * L.SECOND
        member.check(nominate=True)
        member.waiting()
    attacker = member.another()
    member.put(captured, attacker)
    assert member.remote == port(member.sock)
    desk.w.now += 2 * SILENT
    member.put(captured, attacker)
    assert member.remote == port(member.sock)


def test_two_members_may_use_the_same_transaction_id(desk: Desk) -> None:
    one, other = Member(desk), Member(desk, name="other")
    for member in (one, other):
        member.check(transaction=bytes(range(12)))
        assert len(member.stun()[0]) == 1


# FINGERPRINT


def test_check_with_a_wrong_fingerprint_is_not_answered(desk: Desk) -> None:
    member = Member(desk)
    for bit in range(32):
        data = bytearray(member.request())
        data[-4 + bit // 8] ^= 1 << bit % 8
        member.put(bytes(data))
    assert member.waiting() == [] and desk.w.drop_stun == 32
    member.check()
    assert len(member.stun()[0]) == 1


def test_check_without_fingerprint_is_tolerated(desk: Desk) -> None:
    member = Member(desk)
    member.check(fingerprint=False)
    assert len(member.stun()[0]) == 1


# How much an address gets


def within(member: Member, sock: socket.socket) -> bool:
    """Whether a socket has got at most three times what came from its address."""
    member.waiting(sock)
    return member.got[sock] <= LIMIT * member.sent[sock]


def test_first_address_gets_three_times_what_came_from_it(desk: Desk) -> None:
    member = Member(desk)
    member.check()
    for size in (1, 50, 200, 1200):
        send_much(member, size)
        assert within(member, member.sock)
    assert member.got[member.sock] > LIMIT * member.sent[member.sock] - 50
    member.put(bytes([22]) + bytes(199))  # a DTLS record counts as well
    send_much(member, 10, 100)
    assert within(member, member.sock) and member.got[member.sock] > LIMIT * member.sent[member.sock] - 10
    assert desk.w.drop_unproven > 0


def test_address_that_a_member_forges_gets_three_times_what_came_whatever_it_does(desk: Desk) -> None:
    """The member has its own address, where it gets everything, and sends from a victim's."""
    dice = random.Random(3)
    for answers in (True, False):
        member = Member(desk, name=f"member {answers}")
        member.connect(answers=answers)
        victim = member.another()
        for _ in range(300):
            desk.pass_time(dice.choice([0, 10, 500, 4000]) * L.MS)
            if dice.random() < 0.5:
                member.check(victim, nominate=dice.random() < 0.5)
            if dice.random() < 0.3:
                member.media(victim)
            if dice.random() < 0.1:
                member.put(bytes([23]) + bytes(100), victim)
            send_much(member, dice.choice([40, 1100]), 3)
            if victim in member.sent:
                assert within(member, victim)
        assert member.got[victim] > 0


def test_media_flows_without_limit_once_the_address_has_answered(desk: Desk) -> None:
    member = Member(desk)
    member.connect(answers=False)
    desk.w.now += SILENT + 1
    new = member.another()
    member.check(new)
    requests = member.stun(new)[1]
    send_much(member)
    assert within(member, new)
    member.answer(requests[0], new)
    send_much(member)
    assert len(member.waiting(new)) == 20


def test_goodbye_counts_too(desk: Desk) -> None:
    member = Member(desk)
    member.connect(answers=False)
    desk.w.now += SILENT + 1
    new = member.another()
    member.check(new)
    for _ in range(50):
        goodbye(desk.w, member.index)
    assert within(member, new)


def test_keys_prove_the_address_only_when_all_of_the_handshake_went_there(desk: Desk) -> None:
    for moved in (False, True):
        member = Member(desk, name=f"member {moved}")
        member.check()
        member.record.proven = member.record.moves
        to = member.sock
        if moved:
            to = member.another()
            member.check(to, nominate=True)
            assert member.remote == port(to)  # the handshake may go on from there, within the limit
        member.record.secured = 1
        member.prove()
        assert member.record.limited == int(moved)
        send_much(member)
        assert (len([d for d in member.waiting(to) if d[0] == 0 and len(d) == 1000]) == 20) is not moved


# Questions


def test_question_that_is_lost_is_repeated_within_the_limit(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    (first,) = member.stun(new)[1]
    desk.pass_time(FIRST_WAIT + 20 * L.MS)
    (second,) = member.stun(new)[1]
    assert second.transaction_id == first.transaction_id
    desk.pass_time(20 * L.SECOND)
    assert within(member, new)
    member.check(new, nominate=True)
    (third,) = member.stun(new)[1]
    assert third.transaction_id != first.transaction_id
    member.answer(first, new)
    assert member.remote == port(member.sock)
    member.answer(third, new)
    assert member.remote == port(new)
    desk.pass_time(5 * L.SECOND)
    assert member.stun(new)[1] == []


def test_transaction_ids_never_repeat(desk: Desk) -> None:
    members = [Member(desk, name=f"member {k}") for k in range(5)]
    found = []
    for member in members:
        member.connect()
        for sock in [member.another() for _ in range(6)]:
            member.check(sock, nominate=True)
            found += [request.transaction_id for request in member.stun(sock)[1]]
    assert len(set(found)) == len(found) == 30


def test_more_peers_than_the_list_of_repetitions_holds_are_asked_all_the_same(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    desk.w.questions_listed = L.QUESTIONS
    desk.w.questions[:] = member.index
    new = member.another()
    member.check(new, nominate=True)
    member.answer(member.stun(new)[1][0], new)
    assert member.remote == port(new)
    desk.pass_time(20 * L.MS)
    assert desk.w.questions_listed == 0


@pytest.mark.parametrize("size", [4, 22, 64, 65, 256])
def test_passwords_of_every_length_are_understood(desk: Desk, size: int) -> None:
    member = Member(desk, password="p" * size)
    member.connect()
    new = member.another()
    member.check(new, nominate=True)
    member.answer(member.stun(new)[1][0], new)
    assert member.remote == port(new)


def test_questions_follow_a_restart_of_ice_and_checks_under_the_old_names_get_old_ones(desk: Desk) -> None:
    member = Member(desk)
    member.connect()
    t = member.record
    t.next_ufrag, t.next_password_size = hash_of("newer"), put_text(t.next_password, "a newer password")
    t.next_peer_password_size = put_text(t.next_peer_password, b"its newer one")
    member.check(member.another(), nominate=True)  # a question is out, and its answer will come too late
    desk.worker.command(L.RESTART_ICE, member.index)
    take_commands(desk.w)
    (late,) = member.stun(member.others[-1])[1]
    member.answer(late, member.others[-1])
    assert member.remote == port(member.sock)
    old = member.another()
    member.check(old, nominate=True)
    member.answer(member.stun(old)[1][0], old)
    assert member.remote == port(old)
    member.name, member.key, member.password = "newer", "a newer password", "its newer one"
    new = member.another()
    member.check(new, nominate=True)
    (request,) = member.stun(new)[1]
    assert request.attributes["USERNAME"] == "theirs:newer"
    member.answer(request, new, key="its own")
    assert member.remote == port(old)
    member.answer(request, new)
    assert member.remote == port(new)


def test_peer_whose_password_is_not_known_is_not_asked(desk: Desk) -> None:
    member = Member(desk)
    member.record.peer_password_size = 0
    member.connect(answers=False)
    new = member.another()
    member.check(new, nominate=True)
    assert [len(part) for part in member.stun(new)] == [1, 0]


def test_peer_that_we_call_is_answered_when_it_has_answered(desk: Desk) -> None:
    """It falls silent after our answer, and our first flight has to fit into the limit."""
    member = Member(desk, calls=True)
    member.check()
    answers, requests = member.stun()
    assert answers == [] and len(requests) == 1 and desk.events() == []
    member.answer(requests[0])
    assert len(member.stun()[0]) == 1 and desk.events() == [(L.ICE_CONNECTED, member.index)]
    assert member.record.limited == 0
    member.answer(requests[0])
    assert member.stun() == ([], []) and desk.events() == []


def test_check_that_waited_is_answered_by_its_own_transaction_id(desk: Desk) -> None:
    member = Member(desk, calls=True)
    member.check()
    check = member.check()
    _, requests = member.stun()
    member.answer(requests[-1])
    (answer,), _ = member.stun()
    assert answer.transaction_id == check[8:20]


def test_peer_that_we_call_is_answered_at_last_though_it_never_answers(desk: Desk) -> None:
    member = Member(desk, calls=True)
    data = member.check()
    member.put(data)
    assert member.stun()[0] == []
    member.put(data)
    assert len(member.stun()[0]) == 1 and desk.events() == [(L.ICE_CONNECTED, member.index)]
    send_much(member, 167, 2)  # our first flight, and its repetition
    assert len([data for data in member.waiting() if len(data) == 167]) == 2
    assert within(member, member.sock)
