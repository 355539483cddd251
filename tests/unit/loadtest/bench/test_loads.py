"""The flood of garbage and the floor: what they send, and how fast."""

from __future__ import annotations

from loadtest.bench.flood import garbage, run
from loadtest.bench.floor import measure_floor
from loadtest.transport.peer import open_socket


def test_garbage_is_the_same_for_a_seed_and_of_all_kinds() -> None:
    assert garbage(4) == garbage(4) != garbage(5)
    heads = {datagram[:1] for datagram in garbage(4)}
    assert {b"\x80", b"\x00", b"\x16", b"\x90"} <= heads
    assert all(1 <= len(datagram) <= 1400 for datagram in garbage(4))


def test_the_flood_keeps_its_rate() -> None:
    sock = open_socket("127.0.0.1")
    sent = run("127.0.0.1", sock.getsockname()[1], rate=20_000, seconds=0.2)
    assert 2_000 <= sent <= 4_200
    assert len(sock.recv(2048)) > 0
    sock.close()


def test_the_floor_sends_to_every_socket() -> None:
    sockets = [open_socket("127.0.0.1") for _ in range(2)]
    found = measure_floor([sock.getsockname()[1] for sock in sockets], rounds=3)
    assert set(found) == {"sendmmsg", "sendmmsg, GCM", "GSO of 10", "GSO of 10, GCM"}
    assert all(value > 0 for value in found.values())
    for sock in sockets:
        sizes = [len(sock.recv(4096)) for _ in range(4 * 2 + 4 * 20)]
        assert set(sizes) == {1136}
        sock.close()
