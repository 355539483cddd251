"""The command line: bad input ends with exit status 2 and a message that names it, and secrets are not repeated."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import yaml

from loadtest import cli
from loadtest.results.schema import read_results, write_results
from loadtest.scenario.load import HIDDEN, shipped
from tests.unit.loadtest.results.sample import sample


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A scenario whose target is not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    synthetic = {"video": {"codec": "synthetic", "framerate": 25, "packets_per_frame": 4, "packet_size": 500}}
    keys = {"name": "absent", "target": {"url": url}, "duration": 1, "media": {"synthetic": synthetic}}
    keys |= {"publishers": [{"name": "hosts", "media": "synthetic"}], "subscribers": [{"name": "audience"}]}
    file = tmp_path / "absent.yaml"
    file.write_text(yaml.safe_dump(keys))
    return file


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of bad input."""
    assert cli.main(arguments) == cli.BAD_INPUT
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and not printed.out
    return printed.err.strip()


@pytest.mark.parametrize("option", ["--cores", "--target-cores"])
@pytest.mark.parametrize("text", ["5-2", "a", "", "1-", "0,,1", "-1"])
def test_what_names_no_cores_is_refused(
    capsys: pytest.CaptureFixture[str], scenario: Path, option: str, text: str
) -> None:
    said = refused(capsys, "run", str(scenario), f"{option}={text}")
    assert said == f"{option}: found {text!r}; expected numbers of cores such as 1 or 2-3,5"


@pytest.mark.parametrize("option", ["--cores", "--target-cores"])
@pytest.mark.parametrize("command", ["run", "ab"])
def test_cores_that_are_not_there_are_refused(
    capsys: pytest.CaptureFixture[str], scenario: Path, command: str, option: str
) -> None:
    assert refused(capsys, command, str(scenario), option, "9999").startswith(f"{option}: there is no core 9999 to use")


def test_cores_are_read() -> None:
    ours = sorted(os.sched_getaffinity(0))
    assert cli.read_cores("--cores", f"{ours[0]}-{ours[0]},{ours[-1]}") == {ours[0], ours[-1]}
    assert cli.read_cores("--cores", None) is None


@pytest.mark.parametrize("command", [["run"], ["ab"]])
def test_a_folder_that_is_not_there_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], scenario: Path, command: list[str]
) -> None:
    files = ["/nonexistent/a.json"] if command == ["run"] else ["/nonexistent/a.json", "b.json"]
    said = refused(capsys, *command, str(scenario), "--json", *files)
    assert said == "/nonexistent/a.json: there is no folder /nonexistent"


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_folder_is_no_file_to_write_to(
    capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path, option: str
) -> None:
    said = refused(capsys, "run", str(scenario), option, str(tmp_path))
    assert said == f"{tmp_path}: is a folder; expected the name of a file"
    if option == "--json":
        assert refused(capsys, "ab", str(scenario), option, str(tmp_path / "a.json"), str(tmp_path)) == said


@pytest.mark.parametrize("command", ["run", "ab"])
def test_cores_of_a_target_that_nobody_starts_are_refused(
    capsys: pytest.CaptureFixture[str], scenario: Path, command: str
) -> None:
    core = str(min(os.sched_getaffinity(0)))
    said = refused(capsys, command, str(scenario), "--target-cores", core)
    assert said.startswith("--target-cores: there is no target.command")


def test_both_of_a_comparison_may_be_short(capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    words = ["--set", "subscribers.audience.count=90", "--set", "duration=60", "--short", "--quiet"]
    words += ["--repetitions", "1", "--json", *map(str, files)]
    assert cli.main(["ab", str(scenario), *words]) == cli.FAILED
    assert capsys.readouterr().out.count("BROKEN OFF: nobody takes connections") == 4
    for file in files:
        ran = yaml.safe_load(read_results(file).scenario.text)
        assert ran["duration"] == 5 and ran["subscribers"][0]["count"] == 5


def test_repetitions_do_not_go_with_a_search(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    assert "--repetitions" in refused(capsys, "run", str(scenario), "--find-limit", "--repetitions", "2")


def test_a_scenario_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in refused(capsys, "nothing-of-this-name")
    assert "no such file" in refused(capsys, "show", "nothing-of-this-name")


def test_an_absent_target_fails_and_the_results_hide_the_token(
    capsys: pytest.CaptureFixture[str], scenario: Path, tmp_path: Path
) -> None:
    file = tmp_path / "absent.json"
    words = ["--set", "target.token=tell-nobody", "--quiet", "--json", str(file), "--html", str(tmp_path / "a.html")]
    assert cli.main([str(scenario), *words]) == cli.FAILED
    results, printed = read_results(file), capsys.readouterr().out
    assert results.broken_off.startswith("nobody takes connections at ") and results.broken_off in printed
    assert results.command.startswith("weir loadtest run ") and f"target.token={HIDDEN}" in results.command
    for text in (file.read_text(), printed, (tmp_path / "a.html").read_text()):
        assert "tell-nobody" not in text
    assert results.broken_off in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--set", "target.token=x"], ["--set", f"target.token={HIDDEN}"]),
        (["--set-b", "target.token_secret=x=y"], ["--set-b", f"target.token_secret={HIDDEN}"]),
        (["--set=target.token=x"], [f"--set=target.token={HIDDEN}"]),
        (["--set", "target={url: u, token: x}"], ["--set", f"target={HIDDEN}"]),
        (["--set", " target . token =x"], ["--set", f" target . token ={HIDDEN}"]),
        (["--set", "target.url=http://a", "rooms=2"], ["--set", "target.url=http://a", "rooms=2"]),
        (["--set", "rooms=2", "target.token=x"], ["--set", "rooms=2", "target.token=x"]),
    ],
)
def test_secrets_are_hidden_in_the_command(arguments: list[str], shown: list[str]) -> None:
    assert cli.without_secrets(arguments) == shown


def test_results_are_compared_and_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b, html = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.html"
    write_results(sample(1), a)
    write_results(sample(2, slower=2.0), b)
    assert cli.main(["compare", str(a), str(b)]) == cli.HELD
    assert "latency.p50" in capsys.readouterr().out
    assert cli.main(["compare", str(a), str(b), "--json"]) == cli.HELD
    assert json.loads(capsys.readouterr().out)["figures"]["latency.p50"]["ratio"] > 1.5
    assert cli.main(["report", str(a), str(html)]) == cli.HELD and "<svg" in html.read_text()
    assert "/nonexistent.json" in refused(capsys, "report", "/nonexistent.json", str(html))
    assert "/nonexistent" in refused(capsys, "report", str(a), "/nonexistent/a.html")
    assert "/nonexistent.json" in refused(capsys, "compare", "/nonexistent.json", str(b))
    a.write_text("{}")
    assert "schema is missing" in refused(capsys, "compare", str(a), str(b))


def test_shipped_scenarios_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == cli.HELD
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == shipped()
    assert cli.main(["show", "meeting"]) == cli.HELD
    assert yaml.safe_load(capsys.readouterr().out)["rooms"] == 10
    for words in (["schema"], ["schema", "--results"]):
        assert cli.main(words) == cli.HELD and "properties" in json.loads(capsys.readouterr().out)
