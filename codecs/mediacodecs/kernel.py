"""The one way to compile: every kernel of Weir goes through `kernel`, so all share the options that make them cheap.

Numba's own disk cache does not notice an edit to a callee in another file and would run stale code; where its folder
can't be used it quietly takes another, and a damaged file ends the process. So kernels have a cache of their own: a
folder that is named by a hash of all their sources, and sealed files in it (`kernel_store`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching, compiler, serialize

from mediacodecs.kernel_store import Store

KERNEL_PACKAGES = ("mediacodecs", "packetio", "mediaserver", "loadtest")
MARKS = (b"kernel", b"intrinsic", b"numba")  # a source without these words is in no compiled code
F = TypeVar("F", bound=Callable[..., Any])
JIT = not getattr(numba.config, "DISABLE_JIT")  # noqa: B009  (numba sets its options at run time)
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "_nrt": False,
}


def kernel(fn: F) -> F:
    """Compile fn to machine code that runs without the interpreter lock and without reference counts.

    Kernels can't allocate; whoever calls one keeps the arrays alive. With NUMBA_DISABLE_JIT=1 fn stays plain Python.
    """
    compiled = numba.njit(**OPTIONS)(fn)
    if JIT:
        compiled._cache = KernelCache(fn)
    return cast(F, compiled)


index_key: Any = caching.FunctionCache._index_key
rebuild: Any = compiler.CompileResult._rebuild
dumps: Any = serialize.dumps


class KernelCache:
    """What numba asks for a kernel's machine code, and gives it to: one sealed file for each signature."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._py_func = fn  # where index_key looks for the code

    @property
    def cache_path(self) -> str | None:
        """The folder, where there is one."""
        folder = store().folder
        return str(folder) if folder else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None when it has to be compiled."""
        target_context.refresh()
        name = self.file_of(sig, target_context)
        data = store().read(name)
        if data is None:
            return None
        try:
            key, parts = pickle.loads(data)
            if key == self._key(sig, target_context):
                return rebuild(target_context, *parts)
        except Exception:  # whole, but of no use to these versions of numba and Python, whatever they say
            pass
        store().drop(name)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function."""
        if not data.library.has_dynamic_globals:
            context = data.target_context
            store().write(self.file_of(sig, context), dumps((self._key(sig, context), data._reduce())))

    def has(self, sig: Any, target_context: Any) -> bool:
        """Whether a signature's machine code is there and whole."""
        return store().read(self.file_of(sig, target_context)) is not None

    def flush(self) -> None:
        """Nothing: other sources have another folder."""

    def file_of(self, sig: Any, target_context: Any) -> str:
        """The name of the file for a signature."""
        fn, key = self._py_func, repr(self._key(sig, target_context))
        plain = f"{fn.__module__}.{fn.__qualname__}".replace("<", "").replace(">", "")
        return f"{plain[-120:]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.kernel"

    def _key(self, sig: Any, target_context: Any) -> Any:
        return index_key(self, sig, target_context.codegen())


def source_hash() -> str:
    """A short hash over every Python source of the packages that hold kernels, found without importing them."""
    versions = sys.version, version("numba"), version("llvmlite"), version("numpy")
    digest = hashlib.sha256(repr(versions).encode())
    for name in KERNEL_PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in sorted(spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                text = file.read_bytes()
                if any(mark in text for mark in MARKS):
                    digest.update(file.name.encode() + text)
    return digest.hexdigest()[:16]


def cache_roots() -> list[Path]:
    """Where compiled kernels may be kept: WEIR_CACHE_DIR alone, else beside the install or in the user's cache."""
    chosen = os.environ.get("WEIR_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    roots = [Path(sys.prefix) / "var" / "weir", Path(users) / "weir"]
    return [root for root in roots if root.is_absolute()]  # a user without a home has no cache


@functools.cache
def store() -> Store:
    """The cache of exactly these sources."""
    name = f"kernels-{source_hash()}"
    return Store([root / name for root in cache_roots()])
