"""The decorator's promise: kernels touch no reference counts and hold no interpreter lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from mediacodecs.kernel import JIT, OPTIONS, cache_dir, source_hash

uncached = numba.njit(**OPTIONS | {"cache": False})  # code from the cache can't be looked at


@uncached
def total(values: np.ndarray) -> int:
    s = 0
    for value in values:
        s += value
    return s


@uncached
def twice(values: np.ndarray) -> int:
    return total(values) + total(values[1:])


def test_kernels_hand_arrays_down_without_reference_counts() -> None:
    assert twice(np.arange(10)) == 90
    if JIT:
        code = "".join(twice.inspect_llvm().values())
        assert "NRT_incref" not in code and "NRT_decref" not in code
        with_counts = numba.njit(**OPTIONS | {"cache": False, "_nrt": True})(total.py_func)
        assert with_counts(np.arange(3)) == 3


@pytest.mark.parametrize("mark", ["kernel", "intrinsic"])
def test_an_edit_to_any_kernel_source_names_another_cache_folder(tmp_path: Path, mark: str) -> None:
    package = tmp_path / "loadtest"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "some.py").write_text(f"# {mark} 1")

    def folder() -> str:
        code = "from mediacodecs.kernel import cache_dir; print(cache_dir().name)"
        path = os.pathsep.join([str(tmp_path), *sys.path])
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            check=True,
            text=True,
        ).stdout

    before = folder()
    (package / "some.py").write_text(f"# {mark} 2")
    assert folder() != before


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIR_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path / f"kernels-{source_hash()}"
