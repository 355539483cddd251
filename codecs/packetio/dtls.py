"""A DTLS 1.2 endpoint without sockets or clocks: datagrams and `now` in, datagrams, SRTP keys and a deadline out.

The server answers browsers with it (and calls, where the offer says setup:passive); load-test clients call with it.
OpenSSL does the handshake over memory buffers. All endpoints of a process share its certificate and one context per
role. Nothing raises because of what a peer sent: the endpoint becomes FAILED and `error` says why. A connection costs
some 100 KB, so `shrink` drops it when the handshake has settled and keeps what an SFU still needs: the SRTP keys, a
close_notify ready to send, and the means to read the peer's.

Sources: RFC 6347 (DTLS 1.2), 5764 (DTLS-SRTP), 7714 (AES-GCM for SRTP), 8122 (fingerprints), 8827 6.5 (WebRTC's use).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from OpenSSL import SSL

from packetio.certificate import HASHES, Certificate, fingerprint
from packetio.dtls_flight import LastFlight
from packetio.dtls_record import AlertReader, datagrams, records, whole_records

PROFILES: dict[str, tuple[int, int]] = {
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}  # bytes of the master key and of the master salt (RFC 5764 4.1.2, RFC 7714 14.2)
DEFAULT_PROFILES = ("SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80")  # GCM costs a quarter of CM with SHA-1
CIPHERS = b":".join(
    b"ECDHE-%b-%b" % (signature, cipher)
    for cipher in (b"AES128-GCM-SHA256", b"AES256-GCM-SHA384")
    for signature in (b"ECDSA", b"RSA")
)  # the first is what all of WebRTC has (RFC 8827 6.5); `whole_records` counts on GCM
MTU = 1200  # bytes of UDP payload that pass everywhere, as browsers assume
HANDSHAKE_SECONDS = 30.0  # a handshake that takes longer has failed
DTLS_1_2 = 0xFEFD
_FATAL, _CLOSE_NOTIFY = 2, 0  # an alert's level and its description (RFC 5246 7.2)
_READ_BYTES = 4096  # a flight fits, usually


class State(enum.StrEnum):
    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


class DtlsContexts:
    """What the endpoints of a process share: its certificate, and OpenSSL's settings for either role."""

    def __init__(self, certificate: Certificate, profiles: Sequence[str] = DEFAULT_PROFILES) -> None:
        """`profiles` are names from PROFILES, the preferred first. ValueError if there are none, or others."""
        unknown = [profile for profile in profiles if profile not in PROFILES]
        if unknown or not profiles:
            raise ValueError(f"SRTP profiles are {', '.join(PROFILES)}; got {', '.join(profiles) or 'none'}")
        self.certificate = certificate
        self.server = _context(SSL.DTLS_SERVER_METHOD, certificate, profiles)
        self.client = _context(SSL.DTLS_CLIENT_METHOD, certificate, profiles)


def _context(method: int, certificate: Certificate, profiles: Sequence[str]) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_options(SSL.OP_NO_QUERY_MTU)  # memory buffers know no MTU
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.key)
    # Any certificate passes here: what counts is its fingerprint, checked after the handshake.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.set_tlsext_use_srtp(":".join(profiles).encode())
    return context


class DtlsEndpoint:
    """One side of one DTLS association. Take `datagrams()` after every call, and look at `timer()`.

    Times are seconds on any one monotonic clock of the caller's. `state` and `error` tell how it goes; from CONNECTED
    on `srtp_profile` and `srtp_keys()` are there. A server starts at the first datagram, a client at `start`.
    """

    __slots__ = (
        "state", "error", "srtp_profile", "_contexts", "_server", "_fingerprints", "_connection", "_flight", "_out",
        "_give_up", "_keys", "_close_notify", "_alerts",
    )  # fmt: skip

    def __init__(self, contexts: DtlsContexts, server: bool, peer_fingerprints: Sequence[tuple[str, str]]) -> None:
        """`peer_fingerprints` are the peer's SDP lines as (algorithm, value), such as ('sha-256', 'AA:BB:…')."""
        self.state = State.NEW
        self.error = ""  # a sentence, once FAILED
        self.srtp_profile = ""  # a key of PROFILES, once CONNECTED
        self._contexts, self._server = contexts, server
        self._fingerprints = _strongest(peer_fingerprints)
        self._connection: SSL.Connection | None = None
        self._flight = LastFlight()
        self._out: list[bytes] = []
        self._give_up = 0.0
        self._keys = (b"", b"")
        self._close_notify = b""
        self._alerts: AlertReader | None = None
        if not self._fingerprints[1]:
            self._fail(f"The peer gave no fingerprint of a hash we trust ({', '.join(HASHES)}).")

    def start(self, now: float) -> None:
        """Begin: a client sends its ClientHello, a server is ready for one. Does nothing the second time."""
        if self.state is not State.NEW:
            return
        self._connection = SSL.Connection(self._contexts.server if self._server else self._contexts.client)
        self._connection.set_ciphertext_mtu(MTU)
        if self._server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self.state, self._give_up = State.CONNECTING, now + HANDSHAKE_SECONDS
        self._step(now)

    def receive(self, datagram: bytes, now: float) -> None:
        """A datagram whose first byte is 20 to 63 (RFC 7983 7) came from the peer."""
        if self.state is State.NEW and self._server:
            self.start(now)
        if self.state is State.CONNECTING:
            self._receive_handshake(datagram, now)
        elif self.state is State.CONNECTED:
            self._receive_connected(datagram, now)

    def timer(self) -> float | None:
        """When to call `handle_timer`; None: not needed."""
        if self.state is not State.CONNECTING:
            return None
        deadline = self._flight.deadline
        return self._give_up if deadline is None else min(deadline, self._give_up)

    def handle_timer(self, now: float) -> None:
        """Send the last flight again if that is due. Calls that come early do nothing."""
        if self.state is not State.CONNECTING or self._connection is None:
            return
        if now >= self._give_up:
            self._fail(f"The DTLS handshake took more than {HANDSHAKE_SECONDS:.0f} s.")
        elif self._flight.deadline is not None and now >= self._flight.deadline:
            self._repeat_flight(self._connection, now)

    def datagrams(self) -> list[bytes]:
        """What is to be sent now, in order, each at most MTU bytes; handed out once."""
        out, self._out = self._out, []
        return out

    def srtp_keys(self) -> tuple[bytes, bytes]:
        """The master keys of what we send and of what the peer sends, each key || salt as libsrtp wants it."""
        return self._keys

    def seal_close_notify(self) -> bytes:
        """The alert record that tells the peer we leave, for sending later; b'' before the handshake is over."""
        if not self._close_notify and self.state is State.CONNECTED and self._connection is not None:
            self._close_notify = _shut_down(self._connection)
        return self._close_notify

    def shrink(self) -> None:
        """Give OpenSSL's connection back. Repeating the last flight and closing from either side work as before."""
        if self.state is not State.CONNECTED or self._connection is None:
            return
        self.seal_close_notify()
        self._alerts = _alert_reader(self._connection, self._server)
        self._connection = None

    def close(self) -> None:
        """Leave: CLOSED, with a close_notify to send if the handshake was over."""
        if self.state in (State.FAILED, State.CLOSED):
            return
        notify = self.seal_close_notify()
        self._out += [notify] if notify else []
        self._end(State.CLOSED)

    def _receive_handshake(self, datagram: bytes, now: float) -> None:
        asked_again = self._flight.asked_again(datagram, now)
        answered = self._feed(datagram, now)
        if asked_again and not answered and self.state is State.CONNECTING:
            self._out += self._flight.datagrams

    def _receive_connected(self, datagram: bytes, now: float) -> None:
        asked_again = self._server and self._flight.finished_again(datagram, now)
        if self._connection is None:
            answered = self._read_alerts(datagram)
        else:
            answered = self._feed(datagram, now)
        if asked_again and not answered and self.state is State.CONNECTED:
            self._out += self._flight.datagrams

    def _feed(self, datagram: bytes, now: float) -> bool:
        """Hand a datagram to OpenSSL, one at a time because a memory buffer forgets where one ends."""
        assert self._connection is not None
        readable = whole_records(datagram)
        if readable:
            self._connection.bio_write(readable)
        return self._step(now)

    def _step(self, now: float) -> bool:
        """Let OpenSSL work and take over what it wrote. True if that was anything."""
        connection, connecting = self._connection, self.state is State.CONNECTING
        assert connection is not None
        failure = self._advance(connection)
        written = datagrams(_written(connection), MTU)
        self._out += written
        if connecting and written:
            self._flight.send(written, now)
        if self.state is not State.CONNECTING:
            self._flight.settle()
        if failure:
            self._fail(failure)
        return bool(written)

    def _advance(self, connection: SSL.Connection) -> str:
        """Handshake, then read; returns why the association has failed, '' if it hasn't."""
        connecting = self.state is State.CONNECTING
        try:
            if connecting:
                connection.do_handshake()
                if failure := self._finish(connection):
                    _shut_down(connection, keep=True)
                    return failure
            while True:
                connection.recv(MTU)  # application data has no use yet
        except SSL.WantReadError:
            return ""
        except SSL.ZeroReturnError:
            self.close()
            return ""
        except (SSL.Error, ValueError) as error:
            return f"The DTLS {'handshake' if connecting else 'association'} failed: {_reason(error)}."

    def _finish(self, connection: SSL.Connection) -> str:
        """Check whom we talk to and export the SRTP keys (RFC 5764 4.2); returns why that failed, or ''."""
        certificate = connection.get_peer_certificate(as_cryptography=True)
        algorithm, values = self._fingerprints
        if certificate is None:
            return "The peer showed no certificate."
        if (actual := fingerprint(certificate, algorithm)) not in values:
            return f"The peer's certificate has the {algorithm} fingerprint {actual}, which its SDP doesn't have."
        profile = connection.get_selected_srtp_profile().decode()
        if profile not in PROFILES:
            return "The peer supports none of our SRTP profiles."
        self.srtp_profile, self.state = profile, State.CONNECTED
        self._keys = _export_keys(connection, profile, self._server)
        return ""

    def _repeat_flight(self, connection: SSL.Connection, now: float) -> None:
        try:
            connection.DTLSv1_handle_timeout()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._fail(f"The DTLS handshake failed: {_reason(error)}.")
            return
        self._flight.datagrams = datagrams(_written(connection), MTU) or self._flight.datagrams
        self._flight.send_again(now)
        self._out += self._flight.datagrams

    def _read_alerts(self, datagram: bytes) -> bool:
        """What `shrink` left of reading: the peer's close_notify and its fatal alerts. Returns whether we answered."""
        for record in records(datagram) if self._alerts else ():
            alert = self._alerts.read(record) if self._alerts else None
            if alert and alert[1] == _CLOSE_NOTIFY:
                self.close()
                return True
            if alert and alert[0] == _FATAL:
                self._fail(f"The peer sent the fatal alert {alert[1]}.")
                return False
        return False

    def _fail(self, error: str) -> None:
        self.error = error
        self._end(State.FAILED)

    def _end(self, state: State) -> None:
        self.state, self._connection, self._alerts = state, None, None
        self._flight = LastFlight()


def _strongest(fingerprints: Sequence[tuple[str, str]]) -> tuple[str, frozenset[str]]:
    """The strongest hash we trust among a peer's fingerprints, and its values: one must match (RFC 8122 5)."""
    for algorithm in HASHES:
        values = frozenset(value.strip().upper() for name, value in fingerprints if name.lower() == algorithm)
        if values:
            return algorithm, values
    return "", frozenset()


def _export_keys(connection: SSL.Connection, profile: str, server: bool) -> tuple[bytes, bytes]:
    """Our and the peer's key || salt, from client key, server key, client salt, server salt (RFC 5764 4.2)."""
    key, salt = PROFILES[profile]
    block = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
    salts = block[2 * key :]
    client, peer = block[:key] + salts[:salt], block[key : 2 * key] + salts[salt:]
    return (peer, client) if server else (client, peer)


def _alert_reader(connection: SSL.Connection, server: bool) -> AlertReader | None:
    """None for suites other than our first choice: there the peer's silence has to tell that it left."""
    secrets = connection.master_key(), connection.client_random(), connection.server_random()
    if not (connection.get_cipher_name() or "").endswith("AES128-GCM-SHA256") or None in secrets:
        return None
    master, client_random, server_random = (secret or b"" for secret in secrets)
    return AlertReader.derive(master, client_random, server_random, peer_is_client=server)


def _shut_down(connection: SSL.Connection, keep: bool = False) -> bytes:
    """Make OpenSSL write its close_notify; returned, or kept in its buffer."""
    try:
        connection.shutdown()
    except SSL.Error:
        return b""
    return b"" if keep else _written(connection)


def _written(connection: SSL.Connection) -> bytes:
    """All that OpenSSL has written, records in a row."""
    out = b""
    while True:
        try:
            out += connection.bio_read(_READ_BYTES)
        except SSL.WantReadError:
            return out


def _reason(error: Exception) -> str:
    """OpenSSL's own words, without its codes."""
    first = error.args[0] if error.args else ""
    if isinstance(first, list):
        return ", ".join(str(entry[-1]) for entry in first) or "no reason given"
    return ": ".join(str(part) for part in error.args) or type(error).__name__
