"""The server under test as a process: started, measured, restarted, ended; and all the ways in which it isn't there."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.run.target import TAIL, Meter, Target, TargetError, family_of, usage_of
from loadtest.scenario.schema import Target as Settings

SERVER = """
import os, socket, subprocess, sys, time
port, mode = int(sys.argv[1]), sys.argv[2]
print("hello from", mode, flush=True)
if mode == "fails":
    print("no license", flush=True)
    sys.exit(3)
if mode == "silent":
    time.sleep(60)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) if mode == "family" else None
if mode == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listening = socket.create_server(("127.0.0.1", port))
if child:
    print("child", child.pid, flush=True)
while True:
    listening.accept()[0].close()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def made(mode: str = "plain", port: int = 0, cores: set[int] | None = None, **settings: Any) -> Target:
    port = port or free_port()
    fields = {"command": [sys.executable, "-c", SERVER, str(port), mode]} | settings
    return Target(Settings(url=f"http://127.0.0.1:{port}", **fields), cores)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_server_is_started_measured_and_ended() -> None:
    target = made()
    await target.start()
    try:
        pid = target.pid
        assert pid is not None and target.dead == ""
        usage = target.usage()
        assert usage is not None and usage.threads >= 1 and usage.resident > 1_000_000 and usage.cpu > 0
        assert "hello from plain" in target.tail()
    finally:
        await target.stop()
    assert target.dead and target.usage() is None and not alive(pid)
    await target.stop()
    assert target.tail() == ""


async def test_a_server_that_ends_before_it_answers_is_told_with_its_last_words() -> None:
    target = made("fails")
    with pytest.raises(TargetError, match=r"ended with 3 before it took connections: hello from fails \| no license"):
        await target.start()
    assert "ended with 3" in target.dead
    await target.stop()


async def test_a_server_that_never_answers_is_given_up_and_ended() -> None:
    target = made("silent", start_timeout=3.0)
    begun = time.monotonic()
    with pytest.raises(TargetError, match=r"nobody takes connections at http://127.0.0.1:\d+: hello from silent$"):
        await target.start()
    assert time.monotonic() - begun < 30 and target.pid is not None
    await target.stop()
    assert not alive(target.pid)


async def test_a_program_that_is_not_there_is_told() -> None:
    target, ours = made(command=["/nonexistent/server"], cores={0}), os.sched_getaffinity(0)
    with pytest.raises(TargetError, match="target.command: /nonexistent/server: No such file"):
        await target.start()
    await target.stop()
    assert os.sched_getaffinity(0) == ours


async def test_nobody_at_the_address_is_told_at_once() -> None:
    target = made(command=None, start_timeout=60.0)
    begun = time.monotonic()
    with pytest.raises(TargetError, match=r"nobody takes connections at http://127.0.0.1:\d+$"):
        await target.start()
    assert time.monotonic() - begun < 30 and target.usage() is None and target.dead == "" and target.tail() == ""


async def test_another_server_at_the_address_is_not_measured_as_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        target = made(port=other.getsockname()[1])
        with pytest.raises(TargetError, match="something answers at .* already"):
            await target.start()
        assert target.pid is None
        await target.stop()


@pytest.mark.parametrize("url", ["http://192.0.2.1:7880", "http://[2001:db8::1]:7880"])
async def test_other_hosts_are_not_even_asked_whether_they_are_there(url: str) -> None:
    with pytest.raises(ValueError, match="is not loopback"):
        await Target(Settings(url=url)).start()


async def test_a_name_is_asked_at_its_loopback_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        await Target(Settings(url=f"http://localhost:{other.getsockname()[1]}")).start()


async def test_a_process_that_runs_already_is_measured_and_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        target = made(port=other.getsockname()[1], command=None, pid=os.getpid())
        await target.start()
        usage = target.usage()
        assert usage is not None and usage.resident > 10_000_000 and target.dead == ""
        await target.stop()


async def test_a_process_id_that_nobody_has_is_told() -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    target = made(command=None, pid=gone.pid)
    with pytest.raises(TargetError, match=f"target.pid: there is no process {gone.pid}"):
        await target.start()
    assert target.dead == f"the target's process {gone.pid} is gone"


async def test_processes_that_it_has_started_count_and_end_with_it() -> None:
    target = made("family")
    await target.start()
    try:
        assert target.pid is not None
        await until(lambda: len(family_of(target.pid or 0)) == 2)
        child = family_of(target.pid)[1]
        alone, both = usage_of(child), target.usage()
        assert alone is not None and both is not None and both.threads >= alone.threads + 1
        assert both.resident > alone.resident
    finally:
        await target.stop()
    await until(lambda: not alive(child))


async def test_a_server_that_ignores_the_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.run.target.STOP_TIMEOUT", 0.2)
    target = made("stubborn")
    await target.start()
    await target.stop()
    assert target.pid is not None and not alive(target.pid) and "ended with -9" in target.dead


async def test_after_a_restart_cpu_goes_on_counting() -> None:
    target = made("family")
    await target.start()
    try:
        first, before = target.pid, target.usage()
        child = family_of(first or 0)[1]
        await target.restart()
        after = target.usage()
        assert before is not None and after is not None
        assert target.pid != first and after.cpu > before.cpu and target.dead == ""
        assert first is not None and not alive(first) and not alive(child)
    finally:
        await target.stop()


def test_what_an_ended_child_has_used_is_not_forgotten() -> None:
    meter = Meter()
    with subprocess.Popen([sys.executable, "-c", "input(sum(range(5_000_000)))"], stdin=subprocess.PIPE) as child:
        while (
            (usage := meter.usage(os.getpid())) is None or child.pid not in meter._cpu or meter._cpu[child.pid] < 0.05
        ):
            time.sleep(0.01)
        assert child.stdin
        child.stdin.close()
    after = meter.usage(os.getpid())
    assert after is not None and after.cpu >= usage.cpu


async def test_reading_its_output_does_not_disturb_it() -> None:
    target = made()
    await target.start()
    try:
        assert target._output is not None
        os.write(target._output.fileno(), b"x" * 3 * TAIL + b"\n")
        assert len(target.tail()) <= TAIL
        os.write(target._output.fileno(), b"the end\n")
        assert target.tail().endswith("x | the end")
    finally:
        await target.stop()


async def test_a_started_server_gets_the_cores_that_it_is_given() -> None:
    ours = os.sched_getaffinity(0)
    target = made(cores={max(ours)})
    await target.start()
    try:
        assert target.pid is not None and os.sched_getaffinity(target.pid) == {max(ours)}
        assert os.sched_getaffinity(0) == ours
    finally:
        await target.stop()


async def test_a_keyboard_s_signal_does_not_reach_it() -> None:
    target = made()
    await target.start()
    try:
        assert target.pid is not None and os.getpgid(target.pid) == os.getsid(target.pid) == target.pid != os.getpgid(0)
    finally:
        await target.stop()
