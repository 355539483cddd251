"""Values that are sound alone and wrong together."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import config
from config import Config, ConfigError, load_config
from config.checks import Listener, machine_faults, port_faults

SECRET = "0123456789abcdef0123456789abcdef"


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    try:
        load_config(file, {"WEIR_AUTH__KEYS__test": SECRET} | environ)
    except ConfigError as error:
        return [str(problem).replace(f"{tmp_path}/", "") for problem in error.problems]
    return []


def certificate(folder: Path, name: str) -> None:
    """A self-signed pair, name.pem and name.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + datetime.timedelta(days=9))
    (folder / f"{name}.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form))


def listener(name: str, protocol: str, host: str, first: int, last: int) -> Listener:
    return Listener((name, "port"), ((name, "port"),), protocol, host, first, last)


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (("UDP", "0.0.0.0", 7882, 7885), ("UDP", "0.0.0.0", 7885, 7885), True),
        (("UDP", "0.0.0.0", 7882, 7885), ("UDP", "0.0.0.0", 7886, 7890), False),
        (("UDP", "0.0.0.0", 7882, 7885), ("TCP", "0.0.0.0", 7882, 7882), False),
        (("TCP", "127.0.0.1", 80, 80), ("TCP", "0.0.0.0", 80, 80), True),
        (("TCP", "127.0.0.1", 80, 80), ("TCP", "::", 80, 80), True),
        (("TCP", "127.0.0.1", 80, 80), ("TCP", "10.0.0.1", 80, 80), False),
    ],
)
def test_ports_clash_on_the_same_protocol_and_address_only(
    one: tuple[str, str, int, int], two: tuple[str, str, int, int], clash: bool
) -> None:
    faults = list(port_faults([listener("a", *one), listener("b", *two)]))
    assert bool(faults) is clash
    assert not clash or faults[0].expected == f"none of {one[2]} to {one[3]}, which a.port takes"


def test_http_on_tcp_may_use_the_number_of_a_udp_port(tmp_path: Path) -> None:
    assert problems(tmp_path, "http: {port: 7882}") == []


def test_the_workers_ports_end_below_65536(tmp_path: Path) -> None:
    assert problems(tmp_path, "media:\n  port: 65534\n  workers: 4") == [
        "node.yaml:2: media.port: found UDP ports 65534 to 65537; expected no port above 65535: at most 65532 here"
    ]


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    certificate(tmp_path, "a")
    assert problems(tmp_path, "http:\n  certificate: a.pem") == [
        "node.yaml:1: http.private_key: found nothing; "
        "expected a PEM file, because http.certificate is set (both or none)"
    ]


def test_missing_certificate_files_are_named(tmp_path: Path) -> None:
    assert problems(tmp_path, "http:\n  certificate: a.pem\n  private_key: a.key") == [
        'node.yaml:2: http.certificate: found "a.pem" (no such file or directory); expected a readable PEM file',
        'node.yaml:3: http.private_key: found "a.key" (no such file or directory); expected a readable PEM file',
    ]


def test_a_pair_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    certificate(tmp_path, "a")
    certificate(tmp_path, "b")
    (only,) = problems(tmp_path, "http: {certificate: a.pem, private_key: b.key}")
    assert only.endswith("expected a PEM certificate that http.private_key fits")


def test_a_pair_beside_the_file_is_found_and_made_absolute(tmp_path: Path) -> None:
    certificate(tmp_path, "a")
    (tmp_path / "node.yaml").write_text("http: {certificate: a.pem, private_key: a.key}")
    config = load_config(tmp_path / "node.yaml", {"WEIR_AUTH__KEYS__test": SECRET})
    assert config.http.certificate == str(tmp_path / "a.pem")


def test_each_worker_has_a_cpu_of_its_own(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "media: {workers: 2, cpus: [1, 1]}")
    assert only.endswith("media.cpus: found [1, 1]; expected a different CPU for each worker")
    (only,) = problems(tmp_path, "media: {workers: 3, cpus: [1, 2]}")
    assert only.endswith("found a list of 2; expected one CPU for each worker (media.workers is 3), or none")


def test_advertised_addresses_are_of_a_family_that_is_listened_on(tmp_path: Path) -> None:
    assert problems(tmp_path, "media: {host: '::', advertised: [203.0.113.7, '2001:db8::7']}") == []
    (only,) = problems(tmp_path, "media: {advertised: [203.0.113.7, '2001:db8::7']}")
    assert 'media.advertised[1]: found "2001:db8::7"; expected an IPv4 address' in only


def test_a_node_that_nobody_could_join_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "auth: {keys: {}}", WEIR_AUTH__KEYS="{}", WEIR_AUTH__KEYS__test=SECRET) == []
    file = tmp_path / "node.yaml"
    file.write_text("\nauth: {keys: {}}")
    with pytest.raises(ConfigError, match="node.yaml:2: auth.keys: found no key; expected at least one key"):
        load_config(file, {})
    file.write_text("auth: {required: false}")
    assert load_config(file, {}).auth.keys == {}


def test_short_secrets_are_for_nodes_on_loopback_only(tmp_path: Path) -> None:
    text = "auth: {keys: {a: short}}"
    assert problems(tmp_path, text) == [
        "node.yaml:1: auth.keys.a: found a secret of 5 characters; expected at least 32"
    ]
    assert problems(tmp_path, f"http: {{host: 127.0.0.1}}\n{text}") == []


@pytest.mark.parametrize("name", ["devkey", "another"])
def test_published_development_secret_is_for_loopback_only(tmp_path: Path, name: str) -> None:
    published = load_config(Path(config.__file__).parent / "dev.yaml", {}).auth.keys["devkey"]
    text = f"auth: {{keys: {{{name}: {published}}}}}"
    (only,) = problems(tmp_path, text)
    assert only.startswith(f"node.yaml:1: auth.keys.{name}: found the published secret") and published not in only
    assert problems(tmp_path, f"http: {{host: 127.0.0.1}}\n{text}") == []
    assert problems(tmp_path, f"http: {{host: '::1'}}\n{text}") == []
    assert problems(tmp_path, f"http: {{host: 10.0.0.1}}\n{text}") != []


def test_turn_server_has_a_secret_or_a_password_but_not_both(tmp_path: Path) -> None:
    start = "ice_servers:\n  - urls: ['turn:a:3478']\n    secret: north"
    assert problems(tmp_path, start) == []
    (only,) = problems(tmp_path, start + "\n    credential: x")
    assert only.startswith("node.yaml:4: ice_servers[0].credential: found text beside a secret")


@pytest.mark.parametrize(
    "text",
    [
        "http: {names: ['meet.example.org:443']}",
        "http: {names: ['*']}",
        "http: {names: ['Meet.example.org']}",
        "http: {names: ['https://meet.example.org']}",
        "http: {trusted_proxies: [10.0.0.1/8]}",
        "http: {trusted_proxies: [proxy]}",
        "http: {base_path: /media/}",
        "http: {base_path: media}",
        "http: {base_path: //media}",
        "http: {base_path: /a/../b}",
        "http: {base_path: '/a b'}",
        "http: {base_path: '/a%2e'}",
        "http: {header_timeout: 0}",
        "ice_servers: [{urls: ['turn:a'], username: \"a\\nb\", credential: c}]",
        "ice_servers: [{urls: ['stun:a>b']}]",
        "ice_servers: [{urls: ['turn:a'], secret: s, ttl: 1}]",
    ],
)
def test_what_could_be_misread_in_headers_and_paths_is_refused(tmp_path: Path, text: str) -> None:
    assert len(problems(tmp_path, text)) == 1


def test_names_proxies_and_paths_are_taken(tmp_path: Path) -> None:
    names = "names: [meet.example.org, box], trusted_proxies: [127.0.0.1, 10.0.0.0/8, '2001:db8::/32']"
    assert problems(tmp_path, f"http: {{{names}, base_path: /media/weir-1}}") == []


def test_turn_servers_need_name_and_password(tmp_path: Path) -> None:
    found = problems(tmp_path, "ice_servers:\n  - urls: ['turn:a:3478']\n    username: me")
    assert found == [
        "node.yaml:2: ice_servers[0].credential: found nothing; expected text, because a turn: URL needs it"
    ]


def test_there_are_no_more_publishers_than_peers(tmp_path: Path) -> None:
    assert problems(tmp_path, "limits: {transports: 10, publishers: 11}") == [
        "node.yaml:1: limits.publishers: found 11; expected at most limits.transports, 10"
    ]


def test_cpus_count_where_the_node_is_to_run(tmp_path: Path) -> None:
    ours = os.sched_getaffinity(0)
    most = max(ours)
    file = tmp_path / "node.yaml"
    file.write_text(f"media:\n  workers: 2\n  cpus: [{most}, {most + 1}]\n")
    environ = {"WEIR_AUTH__KEYS__test": SECRET}
    assert load_config(file, environ).media.cpus == [most, most + 1]
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ, to_serve=True)
    (only,) = caught.value.problems
    assert (only.line, only.path, only.found) == (3, ("media", "cpus", 1), str(most + 1))
    os.sched_setaffinity(0, {most})
    try:
        with pytest.raises(ConfigError):
            load_config(file, environ, to_serve=True)
        file.write_text(f"media: {{cpus: [{most}]}}")
        assert load_config(file, environ, to_serve=True)
    finally:
        os.sched_setaffinity(0, ours)


@pytest.mark.parametrize(
    ("usable", "text"), [({0}, "0"), ({0, 1, 2, 3}, "0-3"), ({0, 2, 3, 9}, "0, 2-3, 9"), ({12, 8, 9}, "8-9, 12")]
)
def test_usable_cpus_are_told_as_ranges(monkeypatch: pytest.MonkeyPatch, usable: set[int], text: str) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: usable)
    config = Config.model_validate({"media": {"cpus": [4000]}})
    assert [fault.expected for fault in machine_faults(config)] == [f"a CPU that the node may use here: {text}"]
