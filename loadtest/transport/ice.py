"""ICE as a full agent that offers, and so controls (RFC 8445): checks, nomination, answers, consent (RFC 7675).

No sockets and no clocks: datagrams and `now` in, datagrams with their destination and a deadline out. Works with lite
servers, which only answer, and with full ones, which check us too and may even claim our role.
"""

from __future__ import annotations

import collections
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    ROLE_CONFLICT,
    Address,
    Message,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    new_transaction,
    read_message,
)

PACE = 0.05  # seconds between first checks of two pairs: Ta (RFC 8445 14.2)
FIRST_WAIT, LONGEST_WAIT = 0.1, 1.6  # seconds until a check is repeated, doubled each time
CONSENT_PAUSE = (4.0, 5.0)  # seconds between checks once connected; RFC 7675 5.1 has 4 to 6
CONSENT_LASTS = 30.0  # seconds from the last answer (RFC 7675 5.1)
MAX_PAIRS = 16
OUTSTANDING = 8  # checks of consent whose answers still count
NEVER = float("inf")


@dataclass
class Credentials:
    """What both ends call themselves."""

    local_ufrag: str
    local_password: str
    remote_ufrag: str
    remote_password: str


@dataclass
class Pair:
    """One address of the server's, and how far its checks are."""

    address: Address
    due: float  # when the check is sent next
    wait: float = FIRST_WAIT
    transaction: bytes = field(default_factory=new_transaction)
    valid: bool = False  # it has answered
    nominating: bool = False  # our check in flight nominates
    nominated: bool = False  # the server, controlling, has nominated it


class Agent:
    """One end of one transport. Take `datagrams()` after every call, and look at `timer()`.

    `selected` is the address that answered and was nominated, None until then; `lost` is True when consent ran out.
    """

    def __init__(self, names: Credentials, addresses: Sequence[Address], now: float) -> None:
        """`addresses` are the server's, the preferred first; seconds are of any one monotonic clock."""
        self.selected: Address | None = None
        self.lost = False
        self.controlling = True
        self.refusal = 0  # the newest error code of an answer
        self.answered = 0  # checks of consent that were
        self._names = names
        self._tie_breaker = secrets.randbits(64)
        self._at_once = len(addresses) == 1  # nothing to choose between: the first check nominates, a round trip less
        self._chosen: Pair | None = None  # the one in nomination
        self._pairs = [Pair(address, now + PACE * at) for at, address in enumerate(addresses[:MAX_PAIRS])]
        for pair in self._pairs:
            pair.nominating = self._at_once
        self._out: list[tuple[bytes, Address]] = []
        self._consents: collections.deque[bytes] = collections.deque(maxlen=OUTSTANDING)
        self._next_consent = self._consent_until = NEVER

    @property
    def addresses(self) -> list[Address]:
        """All addresses tried."""
        return [pair.address for pair in self._pairs]

    def datagrams(self) -> list[tuple[bytes, Address]]:
        """What is to be sent now; handed out once."""
        out, self._out = self._out, []
        return out

    def timer(self) -> float | None:
        """When to call `handle_timer`; None: not needed."""
        if self.lost:
            return None
        if self.selected:
            due = min(self._next_consent, self._consent_until)
        else:
            due = min((pair.due for pair in self._pairs), default=NEVER)
        return None if due == NEVER else due

    def handle_timer(self, now: float) -> None:
        """Send what is due. Calls that come early do nothing."""
        if self.selected:
            self._keep_consent(now)
            return
        for pair in self._pairs:
            if pair.due <= now:
                self._check(pair, now)

    def keep_alive(self, now: float) -> None:
        """Check consent from now on."""
        self._consent_until = now + CONSENT_LASTS
        self._next_consent = now + random.uniform(*CONSENT_PAUSE)

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """A datagram came whose first byte is 0 to 3 (RFC 7983 7). What is not authentic is passed over."""
        message = read_message(data)
        if message is None:
            return
        if message.kind == BINDING_REQUEST:
            self._take_request(data, message, source, now)
        elif self.selected:
            self._take_consent(data, message, now)
        else:
            self._take_answer(data, message, now)

    def _check(self, pair: Pair, now: float) -> None:
        self._send(pair.address, pair.transaction, pair.nominating)
        pair.due, pair.wait = now + pair.wait, min(2 * pair.wait, LONGEST_WAIT)

    def _send(self, address: Address, transaction: bytes, nominate: bool) -> None:
        names = self._names
        request = binding_request(
            f"{names.remote_ufrag}:{names.local_ufrag}",
            names.remote_password,
            transaction,
            self._tie_breaker,
            nominate,
            self.controlling,
        )
        self._out.append((request, address))

    def _begin_again(self, pair: Pair, now: float) -> None:
        """A new check of a pair, at once."""
        pair.transaction, pair.due, pair.wait = new_transaction(), now, FIRST_WAIT
        self._check(pair, now)

    def _take_answer(self, data: bytes, message: Message, now: float) -> None:
        pair = next((pair for pair in self._pairs if pair.transaction == message.transaction), None)
        if pair is None:
            return
        if message.kind == BINDING_ERROR:
            self._take_error(message, now)
        elif is_authentic(data, message, self._names.remote_password):
            pair.valid, pair.due = True, NEVER
            if pair.nominated or (pair.nominating and self.controlling):
                self.selected = pair.address
            elif self.controlling and self._chosen is None:
                self._nominate(pair, now)

    def _take_error(self, message: Message, now: float) -> None:
        """A role conflict is ours to solve (RFC 8445 7.2.5.1); after other errors the check is repeated as if lost."""
        self.refusal = message.error
        if message.error == ROLE_CONFLICT:
            self._switch(now)

    def _nominate(self, pair: Pair, now: float) -> None:
        """Check a pair once more, with USE-CANDIDATE, and no other one (RFC 8445 8.1.1)."""
        for other in self._pairs:
            other.due = NEVER
        self._chosen, pair.nominating = pair, True
        self._begin_again(pair, now)

    def _switch(self, now: float) -> None:
        """Take the other role; checks begin again, since those under way name the old one."""
        self.controlling, self._chosen = not self.controlling, None
        for pair in self._pairs:
            pair.nominating = self.controlling and self._at_once
            if not pair.valid:
                self._begin_again(pair, now)
        valid = next((pair for pair in self._pairs if pair.valid), None)
        if valid and self.controlling:
            self._nominate(valid, now)

    def _take_request(self, data: bytes, message: Message, source: Address, now: float) -> None:
        """Answer a check of the server's (RFC 8445 7.3), and check the address it came from."""
        names = self._names
        if message.username.partition(":")[0] != names.local_ufrag:
            return
        if not is_authentic(data, message, names.local_password):
            return
        if message.role == (ICE_CONTROLLING if self.controlling else ICE_CONTROLLED):
            if (self._tie_breaker >= message.tie_breaker) == self.controlling or self.selected:
                refusal = binding_error(message.transaction, ROLE_CONFLICT, "Role Conflict", names.local_password)
                self._out.append((refusal, source))
                return
            self._switch(now)
        self._out.append((binding_success(message.transaction, source, names.local_password), source))
        if not self.selected:
            self._triggered(message, source, now)

    def _triggered(self, message: Message, source: Address, now: float) -> None:
        pair = next((pair for pair in self._pairs if pair.address == source), None)
        if pair is None:
            if len(self._pairs) >= MAX_PAIRS:
                return
            pair = Pair(source, NEVER)
            self._pairs.append(pair)
        if message.nominates and not self.controlling:
            pair.nominated = True
            if pair.valid:
                self.selected = pair.address
        elif not pair.valid and self._chosen is None:
            pair.due = now

    def _keep_consent(self, now: float) -> None:
        if now >= self._consent_until:
            self.lost = True
        elif now >= self._next_consent and self.selected:
            self._consents.append(new_transaction())
            self._send(self.selected, self._consents[-1], nominate=self.controlling)
            self._next_consent = now + random.uniform(*CONSENT_PAUSE)

    def _take_consent(self, data: bytes, message: Message, now: float) -> None:
        known = message.kind != BINDING_ERROR and message.transaction in self._consents
        if known and is_authentic(data, message, self._names.remote_password):
            self._consents.clear()
            self._consent_until, self.answered = now + CONSENT_LASTS, self.answered + 1
