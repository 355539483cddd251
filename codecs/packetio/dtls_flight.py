"""When a flight of handshake messages is sent again (RFC 6347 4.2.4).

OpenSSL has a timer of its own, but it reads the wall clock and starts at a second, which a viewer would feel. So the
last flight is kept and its very bytes are sent again: soon, on the caller's clock, and when the peer repeats the flight
that ours had answered. Repeated bytes suffice wherever the peer hasn't seen them. Where it has, it takes them for a
replay, so OpenSSL's timer goes on as a last resort: what it sends again is numbered anew.
"""

from __future__ import annotations

from packetio.dtls_record import HANDSHAKE, message_sequences, records

FIRST_TIMEOUT = 0.1  # seconds; RFC 9147 5.8.2 lets real-time media start below the classic 1 s
LAST_TIMEOUT = 3.2  # seconds; doubles up to here
REPEAT_GAP = 0.05  # seconds at least between our flight and its repetition for the peer's sake


class LastFlight:
    """Our last flight, its timer, and the span of the peer's messages that it answered."""

    __slots__ = ("datagrams", "deadline", "_timeout", "_sent", "_seen", "_answered")

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.deadline: float | None = None  # when to send it again, on the caller's clock
        self._timeout = FIRST_TIMEOUT
        self._sent = float("-inf")
        self._seen = -1  # the highest message_seq of the peer's
        self._answered = range(0)  # the message_seq our last flight answered

    def send(self, datagrams: list[bytes], now: float) -> None:
        """A new flight leaves; it waits for an answer until `settle`."""
        self.datagrams, self._timeout = datagrams, FIRST_TIMEOUT
        self._answered = range(self._answered.stop, self._seen + 1)
        self._wait(now)

    def send_again(self, now: float) -> None:
        """The same flight leaves once more, because its timer ran out: wait twice as long."""
        self._timeout = min(2 * self._timeout, LAST_TIMEOUT)
        self._wait(now)

    def settle(self) -> None:
        """The handshake is over: no timer any more, but a server may still be asked again."""
        self.deadline = None

    def asked_again(self, datagram: bytes, now: float) -> bool:
        """Note what the peer sent. True if it repeats what our flight answered, and ours left a moment ago."""
        sequences = message_sequences(datagram)
        repeats = bool(self.datagrams) and any(sequence in self._answered for sequence in sequences)
        self._seen = max([self._seen, *sequences])
        return self._due(repeats, now)

    def finished_again(self, datagram: bytes, now: float) -> bool:
        """After a server's handshake, any handshake record means that the client lacks our last flight."""
        return self._due(any(record.type == HANDSHAKE for record in records(datagram)), now)

    def _due(self, wanted: bool, now: float) -> bool:
        if not wanted or not self.datagrams or now < self._sent + REPEAT_GAP:
            return False
        self._sent = now
        return True

    def _wait(self, now: float) -> None:
        self._sent, self.deadline = now, now + self._timeout
