"""The command `weir`, as an operator meets it: help with examples, tokens, and one readable message per mistake."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
import yaml

import config
from config import json_schema

EXAMPLES = Path(config.__file__).parent
SECRET = "0123456789abcdef0123456789abcdef"
COMMANDS = ("", "serve", "config", "config check", "config schema", "token", "bench", "version")


def weir(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without colours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_") or "CACHE" in name}
    return subprocess.run(
        [sys.executable, "-c", "from mediaserver.cli import main; main()", *arguments],
        env=clean | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"} | environ,
        capture_output=True,
        text=True,
        timeout=100,
    )


def refused(*arguments: str, **environ: str) -> str:
    """What a refused command says: on standard error only, with exit code 2 and no traceback."""
    done = weir(*arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    done = weir(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Example: weir {command}" in done.stdout


def test_help_and_tokens_come_without_loading_the_engine() -> None:
    program = "import sys, mediaserver.cli, mediaserver.minting; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_sound_file_is_summed_up() -> None:
    done = weir("config", "check", str(EXAMPLES / "dev.yaml"))
    assert done.returncode == 0
    assert "dev.yaml: sound" in done.stdout and "UDP 7882" in done.stdout and "272 MiB" in done.stdout


def test_a_file_for_another_machine_is_sound_but_not_served(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("media:\n  cpus: [4000]\n")
    done = weir("config", "check", str(file), WEIR_AUTH__KEYS__a=SECRET)
    assert done.returncode == 0
    assert "not on this machine: media.cpus[0] is 4000; expected a CPU that the node may use here: " in done.stdout
    for command in (("serve", str(file)), ("config", "check", "--here", str(file))):
        said = refused(*command, WEIR_AUTH__KEYS__a=SECRET)
        assert said.startswith(f"{file}:2: media.cpus[0]: found 4000; expected a CPU that the node may use here: ")


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("http:\n  prot: 1\nmedia:\n  workers: 0\n")
    lines = refused("config", "check", str(file), WEIR_AUTH__KEYS__a=SECRET).splitlines()
    assert lines[0].startswith(f"{file}:2: http.prot: found an unknown key")
    assert lines[1].startswith(f"{file}:4: media.workers: found 0")
    assert lines[2] == f"weir: {file} cannot be used: 2 problems"


def test_serve_refuses_a_wrong_file_before_anything_is_compiled(tmp_path: Path) -> None:
    assert "no such file" in refused("serve", str(tmp_path / "none.yaml"))


def test_the_schema_is_json() -> None:
    assert json.loads(weir("config", "schema").stdout) == json_schema()


def test_a_token_carries_livekits_grants() -> None:
    done = weir(*"token --room lobby --identity ann --no-publish --ttl 15m --key test --secret".split(), SECRET)
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert claims["iss"] == "test" and claims["sub"] == "ann" and claims["exp"] - claims["nbf"] == 900
    assert claims["video"] == {"room": "lobby", "roomJoin": True, "canPublish": False, "canSubscribe": True}


def test_a_token_is_signed_with_a_key_of_the_file() -> None:
    done = weir("token", "--room", "lobby", "--identity", "ann", "--config", str(EXAMPLES / "dev.yaml"))
    secret = yaml.safe_load((EXAMPLES / "dev.yaml").read_text())["auth"]["keys"]["devkey"]
    assert jwt.decode(done.stdout.strip(), secret, algorithms=["HS256"])["iss"] == "devkey"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give --config FILE, or --key and --secret"),
        ("--key a --secret short", "the secret has 5 characters; expected at least 32"),
        (f"--key a --secret {SECRET} --ttl soon", "'soon' is no span of time"),
        (f"--config {EXAMPLES / 'dev.yaml'} --key other", "has no key 'other' in auth.keys; it has devkey"),
        (f"--config {EXAMPLES / 'dev.yaml'} --secret {SECRET}", "with --config the secret is in the file"),
    ],
)
def test_a_token_without_a_good_key_is_refused(arguments: str, message: str) -> None:
    assert message in refused("token", "--room", "lobby", "--identity", "ann", *arguments.split())


def test_an_unknown_command_is_refused() -> None:
    assert "No such command 'nonsense'" in refused("nonsense")


def test_versions_are_told() -> None:
    assert weir("version").stdout.startswith("weir ") and "numba" in weir("version").stdout


def test_a_kernel_cache_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Who can write there could run code as the node."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").write_text("")
    for name, reason in (("open", "open can be written by others"), ("file", "Not a directory")):
        said = refused("serve", str(EXAMPLES / "dev.yaml"), **free(), WEIR_CACHE_DIR=str(tmp_path / name))
        assert said.startswith(f"weir: cannot serve: the kernel cache {tmp_path / name}/kernels-")
        assert said.endswith(f"{reason} (WEIR_CACHE_DIR)\n") and said.count("\n") == 1


def free() -> dict[str, str]:
    """Ports for a node."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("0.0.0.0", 0))
        return {"WEIR_HTTP__PORT": str(tcp.getsockname()[1]), "WEIR_MEDIA__PORT": str(udp.getsockname()[1])}


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refused("serve", str(EXAMPLES / "dev.yaml"), WEIR_HTTP__PORT=port)
    assert said == f"weir: cannot serve: TCP port {port} at 127.0.0.1 (http.port): address already in use\n"
