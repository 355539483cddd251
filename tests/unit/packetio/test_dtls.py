"""Two DTLS endpoints of ours, face to face: on a good network, a bad one, and with peers that mean no good."""

from __future__ import annotations

import datetime
import random
import weakref
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pylibsrtp import Policy, Session

from packetio.certificate import Certificate, fingerprint
from packetio.dtls import HANDSHAKE_SECONDS, MTU, PROFILES, DtlsContexts, DtlsEndpoint, State
from packetio.dtls_record import HANDSHAKE, HEADER_BYTES, datagrams, records

GCM, CM80, GCM256 = "SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80", "SRTP_AEAD_AES_256_GCM"
LIBSRTP = {
    GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    CM80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    GCM256: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
RTP = bytes.fromhex("8060000100000002cafebabe") + bytes(100)
HERE, THERE = Certificate.generate(), Certificate.generate()
SERVERS, CLIENTS = DtlsContexts(HERE), DtlsContexts(THERE)


def pair(servers: DtlsContexts = SERVERS, clients: DtlsContexts = CLIENTS) -> tuple[DtlsEndpoint, DtlsEndpoint]:
    """A server and a client that know each other's fingerprints."""
    server = DtlsEndpoint(servers, True, [("sha-256", clients.certificate.fingerprint)])
    return server, DtlsEndpoint(clients, False, [("sha-256", servers.certificate.fingerprint)])


def exchange(server: DtlsEndpoint, client: DtlsEndpoint, now: float = 0.0) -> None:
    """Carry datagrams both ways until neither has any."""
    client.start(now)
    quiet = False
    while not quiet:
        forth, back = client.datagrams(), server.datagrams()
        for datagram in forth:
            server.receive(datagram, now)
        for datagram in back:
            client.receive(datagram, now)
        quiet = not forth and not back


def connected() -> tuple[DtlsEndpoint, DtlsEndpoint]:
    server, client = pair()
    exchange(server, client)
    assert server.state == client.state == State.CONNECTED
    return server, client


class Network:
    """Loses, doubles and delays datagrams by a seeded die, on a clock that jumps to the next event."""

    def __init__(self, seed: int, loss: float) -> None:
        self.dice, self.loss, self.now = random.Random(seed), loss, 0.0
        self.flying: list[tuple[float, int, DtlsEndpoint, bytes]] = []
        self.sent = 0

    def take(self, sender: DtlsEndpoint, receiver: DtlsEndpoint) -> None:
        for datagram in sender.datagrams():
            for _ in range(2 if self.dice.random() < self.loss else 1):
                self.sent += 1
                if self.dice.random() >= self.loss:
                    self.flying.append((self.now + self.dice.uniform(0.01, 0.06), self.sent, receiver, datagram))

    def run(self, server: DtlsEndpoint, client: DtlsEndpoint, done: Callable[[], bool]) -> None:
        client.start(self.now)
        while not done():
            self.take(client, server)
            self.take(server, client)
            timers = [timer for end in (server, client) if (timer := end.timer()) is not None]
            self.flying.sort(key=lambda flight: flight[:2])
            arrivals = [self.flying[0][0]] if self.flying else []
            assert timers or arrivals, "the handshake is stuck"
            self.now = max(self.now, min(timers + arrivals))
            while self.flying and self.flying[0][0] <= self.now:
                _, _, receiver, datagram = self.flying.pop(0)
                receiver.receive(datagram, self.now)
            for end in (server, client):
                end.handle_timer(self.now)


def refragment(datagram: bytes, size: int) -> list[bytes]:
    """A ClientHello's one record as many, each with `size` bytes of the message (RFC 6347 4.2.3)."""
    header, message = datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]
    kind, body = message[:6], message[12:]
    out = []
    for number, at in enumerate(range(0, len(body), size)):
        piece = body[at : at + size]
        fragment = kind + at.to_bytes(3) + len(piece).to_bytes(3) + piece
        out.append(header[:5] + number.to_bytes(6) + len(fragment).to_bytes(2) + fragment)
    return out


def renumber(datagram: bytes, by: int) -> bytes:
    """The records' sequence numbers moved on, as if the client had sent that many more; plain text only."""
    out = b""
    for record in records(datagram):
        number = int.from_bytes(record.data[5:11]) + by * (record.epoch == 0)
        out += record.data[:5] + number.to_bytes(6) + record.data[11:]
    return out


def test_both_sides_connect_in_two_round_trips_and_mirror_each_others_keys() -> None:
    server, client = pair()
    client.start(0.0)
    for _ in range(2):
        for datagram in client.datagrams():
            server.receive(datagram, 0.0)
        for datagram in server.datagrams():
            client.receive(datagram, 0.0)
    assert server.state == client.state == State.CONNECTED
    assert server.srtp_keys() == client.srtp_keys()[::-1]
    assert server.srtp_keys()[0] != server.srtp_keys()[1]


@pytest.mark.parametrize("profile", PROFILES)
def test_keys_fit_libsrtp_in_every_profile(profile: str) -> None:
    server, client = pair(
        DtlsContexts(HERE, [profile]), CLIENTS if profile != GCM256 else DtlsContexts(THERE, [GCM256])
    )
    exchange(server, client)
    assert server.srtp_profile == client.srtp_profile == profile
    for sender, receiver in ((server, client), (client, server)):
        seal = Session(Policy(sender.srtp_keys()[0], Policy.SSRC_ANY_OUTBOUND, srtp_profile=LIBSRTP[profile]))
        unseal = Session(Policy(receiver.srtp_keys()[1], Policy.SSRC_ANY_INBOUND, srtp_profile=LIBSRTP[profile]))
        assert unseal.unprotect(seal.protect(RTP)) == RTP


def test_server_prefers_gcm_whatever_the_client_prefers() -> None:
    server, client = pair(clients=DtlsContexts(THERE, [CM80, GCM256, GCM]))
    exchange(server, client)
    assert (server.srtp_profile, len(server.srtp_keys()[0])) == (GCM, 28)


def test_contexts_refuse_unknown_and_missing_profiles() -> None:
    for profiles in ([], ["SRTP_NULL"]):
        with pytest.raises(ValueError, match="SRTP profiles are"):
            DtlsContexts(HERE, profiles)


def test_peers_without_a_common_profile_fail() -> None:
    server, client = pair(DtlsContexts(HERE, [GCM]), DtlsContexts(THERE, [CM80]))
    exchange(server, client)
    assert server.state == client.state == State.FAILED
    assert "SRTP profiles" in server.error


@pytest.mark.parametrize("algorithm", ["sha-256", "SHA-384", "sha-512"])
def test_fingerprints_of_each_trusted_hash_match_in_either_case(algorithm: str) -> None:
    value = fingerprint(THERE.certificate, algorithm.lower())
    for spelled in (value.lower(), value.upper()):
        server, client = DtlsEndpoint(SERVERS, True, [(algorithm, spelled)]), pair()[1]
        exchange(server, client)
        assert server.state is State.CONNECTED


def test_one_of_several_fingerprints_suffices_but_only_of_the_strongest_hash() -> None:
    right, wrong = THERE.fingerprint, HERE.fingerprint
    for offered, state in (
        ([("sha-256", wrong), ("sha-256", right)], State.CONNECTED),
        ([("sha-1", "00:11"), ("sha-256", right)], State.CONNECTED),
        ([("sha-512", "00:11"), ("sha-256", right)], State.FAILED),
    ):
        server, client = DtlsEndpoint(SERVERS, True, offered), pair()[1]
        exchange(server, client)
        assert server.state is state


@pytest.mark.parametrize("server_is_fooled", [True, False])
def test_wrong_fingerprint_fails_and_the_other_side_hears_of_it(server_is_fooled: bool) -> None:
    server, client = pair()
    stranger = [("sha-256", Certificate.generate().fingerprint)]
    if server_is_fooled:
        server = DtlsEndpoint(SERVERS, True, stranger)
    else:
        client = DtlsEndpoint(CLIENTS, False, stranger)
    exchange(server, client)
    fooled, other = (server, client) if server_is_fooled else (client, server)
    assert fooled.state is State.FAILED and "which its SDP doesn't have" in fooled.error
    for datagram in fooled.datagrams():
        other.receive(datagram, 0.0)
    assert other.state is State.CLOSED
    assert fooled.srtp_keys() == (b"", b"")


@pytest.mark.parametrize("offered", [[], [("sha-1", "AA:BB")], [("md5", "AA")]])
def test_untrusted_hashes_fail_before_anything_is_sent(offered: list[tuple[str, str]]) -> None:
    client = DtlsEndpoint(CLIENTS, False, offered)
    client.start(0.0)
    assert client.state is State.FAILED and "no fingerprint of a hash we trust" in client.error
    assert client.datagrams() == [] and client.timer() is None


@pytest.mark.parametrize("size", [20, 64, 120])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_fragmented_client_hello_is_reassembled_in_any_order(size: int, seed: int | None) -> None:
    server, client = pair()
    client.start(0.0)
    fragments = [piece for datagram in client.datagrams() for piece in refragment(datagram, size)]
    assert len(fragments) > 1
    if seed is not None:
        fragments += fragments[:2]
        random.Random(seed).shuffle(fragments)
    for fragment in fragments:
        server.receive(fragment, 0.0)
    for datagram in server.datagrams():
        client.receive(datagram, 0.0)
    for datagram in client.datagrams():
        server.receive(renumber(datagram, len(fragments)), 0.0)
    exchange(server, client)
    assert server.state == client.state == State.CONNECTED


@pytest.mark.parametrize("backwards", [False, True])
def test_client_hello_larger_than_a_datagram_works(backwards: bool) -> None:
    large = DtlsContexts(THERE)
    large.client.set_alpn_protos([bytes([65 + i]) * 250 for i in range(8)])  # 2 KB, as with post-quantum key shares
    server, client = pair(clients=large)
    client.start(0.0)
    hello = client.datagrams()
    assert len(hello) == 2 and all(len(datagram) <= MTU for datagram in hello)
    for datagram in reversed(hello) if backwards else hello:
        assert server.datagrams() == []
        server.receive(datagram, 0.0)
    for datagram in server.datagrams():
        client.receive(datagram, 0.0)
    exchange(server, client)
    assert server.state == client.state == State.CONNECTED


def test_large_flights_are_cut_into_datagrams_of_the_mtu() -> None:
    servers = DtlsContexts(HERE)
    for _ in range(5):
        servers.server.add_extra_chain_cert(Certificate.generate().certificate)
    server, client = pair(servers)
    client.start(0.0)
    server.receive(client.datagrams()[0], 0.0)
    flight = server.datagrams()
    assert len(flight) > 1 and all(len(datagram) <= MTU for datagram in flight)
    for datagram in reversed(flight):
        client.receive(datagram, 0.0)
    exchange(server, client)
    assert server.state == client.state == State.CONNECTED


@pytest.mark.parametrize("seed", range(40))
def test_lossy_network_delays_the_handshake_but_does_not_stop_it(seed: int) -> None:
    server, client = pair()
    network = Network(seed, loss=0.3)
    network.run(server, client, lambda: server.state == client.state == State.CONNECTED)
    assert server.srtp_keys() == client.srtp_keys()[::-1]
    assert network.now < 10.0 and network.sent < 100


def test_lossless_network_needs_no_repetition() -> None:
    server, client = pair()
    network = Network(0, loss=0.0)
    network.run(server, client, lambda: server.state == client.state == State.CONNECTED)
    assert network.sent == 4


@pytest.mark.parametrize("shrunk", [False, True])
def test_lost_last_flight_is_sent_again_even_after_shrinking(shrunk: bool) -> None:
    server, client = pair()
    client.start(0.0)
    server.receive(client.datagrams()[0], 0.0)
    client.receive(server.datagrams()[0], 0.0)
    server.receive(client.datagrams()[0], 0.0)
    assert server.state is State.CONNECTED and server.datagrams()  # lost
    if shrunk:
        server.shrink()
    client.handle_timer(1.0)
    for datagram in client.datagrams():
        server.receive(datagram, 1.0)
    for datagram in server.datagrams():
        client.receive(datagram, 1.0)
    assert client.state is State.CONNECTED


def test_repetitions_are_answered_at_most_once_in_a_while() -> None:
    server, client = pair()
    client.start(0.0)
    hello = client.datagrams()[0]
    server.receive(hello, 0.0)
    flight = server.datagrams()
    for _ in range(10):
        server.receive(hello, 0.06)
    assert server.datagrams() == flight


def test_timers_double_and_end_with_the_handshake() -> None:
    client = pair()[1]
    assert client.timer() is None
    client.start(10.0)
    waits: list[float] = []
    hello, now = client.datagrams(), 10.0
    for _ in range(6):
        deadline = client.timer()
        assert deadline is not None
        client.handle_timer(deadline - 0.001)
        assert client.datagrams() == []
        client.handle_timer(deadline)
        assert client.datagrams() == hello
        waits, now = [*waits, round(deadline - now, 3)], deadline
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert [end.timer() for end in connected()] == [None, None]


def test_handshake_that_never_ends_is_given_up() -> None:
    client = pair()[1]
    client.start(0.0)
    while (deadline := client.timer()) is not None:
        assert deadline <= HANDSHAKE_SECONDS
        client.handle_timer(deadline)
    assert client.state is State.FAILED and "more than 30 s" in client.error


@pytest.mark.parametrize("shrunk", [False, True])
@pytest.mark.parametrize("server_leaves", [False, True])
def test_close_reaches_the_other_side(server_leaves: bool, shrunk: bool) -> None:
    leaver, stayer = connected() if server_leaves else connected()[::-1]
    if shrunk:
        leaver.shrink()
        stayer.shrink()
    leaver.close()
    farewell = leaver.datagrams()
    assert leaver.state is State.CLOSED and len(farewell) == 1
    stayer.receive(farewell[0], 1.0)
    assert stayer.state is State.CLOSED and stayer.error == ""
    leaver.receive(stayer.datagrams()[0], 1.0)
    assert leaver.datagrams() == []


def test_sealed_close_notify_is_kept_and_sent_later() -> None:
    server, client = connected()
    sealed = server.seal_close_notify()
    assert sealed == server.seal_close_notify() and [record.type for record in records(sealed)] == [21]
    assert server.state is State.CONNECTED and server.datagrams() == []
    client.receive(sealed, 0.0)
    assert client.state is State.CLOSED


def test_close_before_the_handshake_ends_says_nothing() -> None:
    client = pair()[1]
    client.start(0.0)
    client.datagrams()
    assert client.seal_close_notify() == b""
    client.close()
    client.close()
    assert client.state is State.CLOSED and client.datagrams() == []


def test_shrinking_frees_the_connection_and_keeps_the_keys() -> None:
    server, _ = connected()
    keys, gone = server.srtp_keys(), weakref.ref(server._connection)
    server.shrink()
    assert gone() is None
    assert server.srtp_keys() == keys and server.state is State.CONNECTED


def test_forged_alerts_do_not_close() -> None:
    dice = random.Random(5)
    for shrunk in (False, True):
        server, client = connected()
        if shrunk:
            server.shrink()
        client.close()
        genuine = client.datagrams()[0]
        for at in set(range(len(genuine))) - {2}:  # OpenSSL ignores the minor version
            forged = bytearray(genuine)
            forged[at] ^= 1 << dice.randrange(8)
            server.receive(bytes(forged), 1.0)
            assert server.state is State.CONNECTED
        server.receive(b"\x15\xfe\xfd" + bytes(8) + b"\0\2\1\0", 1.0)
        assert server.state is State.CONNECTED


def test_noise_changes_nothing_once_connected() -> None:
    dice = random.Random(7)
    for shrunk in (False, True):
        server, client = connected()
        for end in (server, client):
            if shrunk:
                end.shrink()
            for _ in range(300):
                size = dice.randrange(1, 80)
                head = bytes([dice.randrange(20, 26)]) + b"\xfe\xfd" + bytes([0, dice.randrange(3)]) + dice.randbytes(6)
                end.receive(dice.choice([dice.randbytes(size), head + bytes([0, size]) + dice.randbytes(size)]), 1.0)
            assert end.state is State.CONNECTED and end.error == ""


@pytest.mark.parametrize("seed", range(60))
def test_damaged_handshakes_never_raise(seed: int) -> None:
    dice = random.Random(seed)
    server, client = pair()
    client.start(0.0)
    for _ in range(4):
        for sender, receiver in ((client, server), (server, client)):
            for datagram in sender.datagrams():
                damaged = bytearray(datagram)
                if dice.random() < 0.5:
                    damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
                receiver.receive(bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged))])]), 0.0)
        for end in (server, client):
            end.handle_timer(1.0)
    for end in (server, client):
        assert (end.state is State.FAILED) == bool(end.error)


def test_calls_on_a_finished_endpoint_are_harmless() -> None:
    for end in connected():
        end.close()
        end.datagrams()
        end.start(1.0)
        end.receive(b"", 1.0)
        end.receive(b"\x16" + bytes(40), 1.0)
        end.handle_timer(99.0)
        end.shrink()
        assert (end.state, end.datagrams(), end.timer()) == (State.CLOSED, [], None)


@pytest.mark.parametrize("theirs", ["rsa", "p384"])
def test_peers_with_other_kinds_of_certificates_connect(theirs: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if theirs == "rsa" else ec.generate_private_key(ec.SECP384R1())
    name, day = x509.Name([]), datetime.datetime(2025, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(9999))
    certificate = builder.sign(key, hashes.SHA256())
    # `key` is typed as our own kind; contexts take any
    other = DtlsContexts(Certificate(key, certificate, fingerprint(certificate, "sha-256")))  # type: ignore[arg-type]
    for server, client in (pair(clients=other), pair(servers=other)):
        exchange(server, client)
        assert server.state == client.state == State.CONNECTED


def test_certificate_fingerprint_is_the_sdp_form_of_sha_256() -> None:
    parts = HERE.fingerprint.split(":")
    assert len(parts) == 32 and all(len(part) == 2 and part == part.upper() for part in parts)
    assert HERE.fingerprint != THERE.fingerprint


def test_records_are_packed_whole_and_a_cut_one_is_left_out() -> None:
    one = bytes([HANDSHAKE]) + b"\xfe\xfd" + bytes(8) + (87).to_bytes(2) + bytes(87)
    assert [len(datagram) for datagram in datagrams(one * 5 + one[:50], 250)] == [200, 200, 100]
    assert datagrams(one, 50) == [one]
    assert datagrams(b"", 50) == []
