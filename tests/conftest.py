"""Every test begins as an ordinary thread: SVT-AV1 makes its caller a real-time one, and that starves others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


def be_ordinary() -> None:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """Before and after each test; threads inherit what their maker has."""
    be_ordinary()
    yield
    be_ordinary()
