"""Kernels are there before the first engine runs: a test's own waiting is for the engine, not for the compiler."""

from __future__ import annotations

import pytest

from mediaserver.engine.warm import warm


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile, or load, all that a worker runs."""
    warm(lambda name, done, total: None)
