"""What a process costs, read from outside: CPU, memory, threads; and what sockets dropped. Linux only."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("weir", "numba", "numpy", "pylibsrtp", "aiortc", "aiohttp", "uvloop")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads that the process has or had, to the nanosecond.

    The process's CPU clock, whose id is made from the pid as clock_getcpuclockid(3) does: the sum of utime and stime in
    /proc/PID/stat, which is rounded to 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def busy_seconds() -> float:
    """CPU time that anything on this machine has used, time stolen by the host included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True)
class Memory:
    """Bytes: resident, and proportional with shared pages divided among those who map them."""

    resident: int
    proportional: int


def memory_of(pid: int) -> Memory:
    """Memory of a process now."""
    found = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return Memory(found["Rss"], found["Pss"])


def threads_of(pid: int) -> int:
    """The number of threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))


def socket_drops(ports: Iterable[int]) -> int:
    """Datagrams that the sockets bound to these local ports had no room for, since they were opened."""
    wanted, drops = set(ports), 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) in wanted:
                drops += int(fields[-1])
    return drops


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    found = {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in PACKAGES}


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
