"""A burst over a real line of UDP that is slow; needs a network namespace (unshare) and tc, so `make soak` runs it."""

from __future__ import annotations

import os
import subprocess
import sys


def test_burst_over_a_line_of_udp_that_is_slow_arrives_whole() -> None:
    line = "ip link set lo up mtu 1500 && tc qdisc add dev lo root tbf rate 20mbit burst 10k latency 60s"
    burst = f"{line} && exec {sys.executable} -m tests.soak.slow_line"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((".", "codecs"))}
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", burst], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    sent, came, dropped, waits = map(int, done.stdout.split()[-4:])
    assert (came, dropped) == (sent, 0) and waits > 0
