"""The one way to compile: every kernel of Weir goes through `kernel`, so all share the options that make them cheap.

Numba's disk cache does not notice an edit to a callee in another file and would run stale code, so the cache folder is
named by a hash of all kernel sources. That has to be settled before numba is imported: import this module first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

KERNEL_PACKAGES = ("mediacodecs", "packetio", "mediaserver", "loadtest")
MARKS = (b"kernel", b"intrinsic")  # a source without these words is in no compiled code
F = TypeVar("F", bound=Callable[..., Any])


def source_hash() -> str:
    """A short hash over every Python source of the packages that hold kernels, found without importing them."""
    digest = hashlib.sha256(sys.version.encode())
    for name in KERNEL_PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in sorted(spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                text = file.read_bytes()
                if any(mark in text for mark in MARKS):
                    digest.update(file.name.encode() + text)
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Where compiled kernels are kept: WEIR_CACHE_DIR, else beside the install, else the user's cache."""
    chosen = os.environ.get("WEIR_CACHE_DIR")
    if chosen:
        return Path(chosen)
    install = Path(sys.prefix) / "var" / "weir"
    try:
        install.mkdir(parents=True, exist_ok=True)
        if os.access(install, os.W_OK):
            return install
    except OSError:
        pass
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "weir"


def cache_dir() -> Path:
    """The cache folder of exactly these sources."""
    return cache_root() / f"kernels-{source_hash()}"


if "numba" not in sys.modules:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))

import numba  # noqa: E402  (the cache folder must be known first)

JIT = not getattr(numba.config, "DISABLE_JIT")  # noqa: B009  (numba sets its options at run time)
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "_nrt": False,
}


def kernel(fn: F) -> F:
    """Compile fn to machine code that runs without the interpreter lock and without reference counts.

    Kernels can't allocate; whoever calls one keeps the arrays alive. With NUMBA_DISABLE_JIT=1 fn stays plain Python.
    """
    return cast(F, numba.njit(**OPTIONS)(fn))
