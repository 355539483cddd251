"""The decorator's promises: kernels touch no reference counts and hold no interpreter lock, and are kept on disk."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np
import pytest

from mediacodecs.kernel import JIT, KERNEL_PACKAGES, MARKS, OPTIONS, cache_roots, source_hash, store

plain = numba.njit(**OPTIONS)  # code from the cache can't be looked at
ROOT = Path(__file__).resolve().parents[3]


@plain
def total(values: np.ndarray) -> int:
    s = 0
    for value in values:
        s += value
    return s


@plain
def twice(values: np.ndarray) -> int:
    return total(values) + total(values[1:])


def test_kernels_hand_arrays_down_without_reference_counts() -> None:
    assert twice(np.arange(10)) == 90
    if JIT:
        code = "".join(twice.inspect_llvm().values())
        assert "NRT_incref" not in code and "NRT_decref" not in code
        with_counts = numba.njit(**OPTIONS | {"_nrt": True})(total.py_func)
        assert with_counts(np.arange(3)) == 3


def run(program: str, folder: Path, **environ: str) -> str:
    """What a program prints that runs in `folder`."""
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | environ,
        capture_output=True,
        check=True,
        text=True,
        timeout=100,
    ).stdout.strip()


@pytest.mark.parametrize("mark", ["kernel", "intrinsic"])
def test_an_edit_to_any_kernel_source_names_another_cache_folder(tmp_path: Path, mark: str) -> None:
    package = tmp_path / "loadtest"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "some.py").write_text(f"# {mark} 1")
    program = "from mediacodecs.kernel import source_hash; print(source_hash())"
    before = run(program, tmp_path)
    (package / "some.py").write_text(f"# {mark} 2")
    assert run(program, tmp_path) != before


def imported(file: Path) -> Iterator[str]:
    """The modules that a source imports, and what it imports from them, which may be modules too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def source_of(module: str) -> Path | None:
    """The file of a module of ours that holds anything."""
    package = importlib.util.find_spec(module.split(".")[0]) if module.split(".")[0] in KERNEL_PACKAGES else None
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder, *module.split(".")[1:]).with_suffix(".py")
        if file.is_file() and file.read_text().strip():
            return file
    return None


def test_all_that_kernels_import_counts_as_their_source() -> None:
    """Constants and record types are part of the machine code."""
    sources = [file for folder in ("codecs", "mediaserver", "loadtest") for file in (ROOT / folder).rglob("*.py")]
    kernels = [file for file in sources if "@kernel" in file.read_text()]
    found = {source for file in kernels for module in imported(file) if (source := source_of(module))}
    assert len(found) > 20
    assert not [file for file in found if not any(mark in file.read_bytes() for mark in MARKS)]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIR_CACHE_DIR", str(tmp_path))
    assert cache_roots() == [tmp_path]
    monkeypatch.delenv("WEIR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_roots() == [Path(sys.prefix) / "var" / "weir", tmp_path / "weir"]
    folder = store().folder
    assert folder is None or folder.name == f"kernels-{source_hash()}"


TOY = """
from mediacodecs.kernel import kernel, store

@kernel
def half(n: int) -> int:
    return n // 2

@kernel
def fifth(n: int) -> int:
    return half(n) // 2 + 1

if __name__ == "__main__":
    print(fifth(16), len(fifth.stats.cache_hits), len(fifth.stats.cache_misses), store().problem)
"""
COMPILER = {"NUMBA_DISABLE_JIT": "0"}  # also where this process runs kernels as plain Python
COMPILED, LOADED = "5 0 1 None", "5 1 0 None"


@pytest.fixture
def toy(tmp_path: Path) -> Callable[[Path], str]:
    """Runs two kernels in a process of their own, with this cache: result, loaded, compiled, problem."""
    home = tmp_path / "toy"
    home.mkdir()
    (home / "toy.py").write_text(TOY)

    def start(cache: Path) -> str:
        said = run(
            "import runpy; runpy.run_module('toy', run_name='__main__')", home, WEIR_CACHE_DIR=str(cache), **COMPILER
        )
        assert {file.suffix for file in home.rglob("*") if file.is_file()} <= {".py", ".pyc"}, "numba's own cache"
        return said

    return start


def test_kernels_are_compiled_once(toy: Callable[[Path], str], tmp_path: Path) -> None:
    assert toy(tmp_path / "cache") == COMPILED
    assert toy(tmp_path / "cache") == LOADED


def flip_a_bit_of_the_code(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b".text") // 2] ^= 8
    file.write_bytes(data)


def of_another_kernel(file: Path) -> None:
    other = next(one for one in file.parent.glob("*half*"))
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [flip_a_bit_of_the_code, of_another_kernel])
def test_a_damaged_kernel_is_compiled_again(
    toy: Callable[[Path], str], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    assert toy(tmp_path / "cache") == COMPILED
    (file,) = (tmp_path / "cache").rglob("*fifth*.kernel")
    damage(file)
    assert toy(tmp_path / "cache") == COMPILED
    assert toy(tmp_path / "cache") == LOADED


def test_without_a_cache_kernels_are_compiled_and_nothing_is_left(toy: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        said = toy(tmp_path / "file")
        assert said.startswith("5 0 1 the kernel cache ") and said.endswith("cannot be used: Not a directory")


def test_two_processes_that_compile_at_once_leave_one_whole_cache(toy: Callable[[Path], str], tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import runpy; runpy.run_module('toy', run_name='__main__')"]
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "toy"), *sys.path]),
        "WEIR_CACHE_DIR": str(tmp_path / "cache"),
        **COMPILER,
    }
    both = [subprocess.Popen(program, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all(process.communicate(timeout=100)[0].strip() in (COMPILED, LOADED) for process in both)
    assert toy(tmp_path / "cache") == LOADED
