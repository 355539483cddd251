"""Gives back what a library has mapped and nobody needs now.

The compiler's own code is the largest part of a node's memory, 70 MB, and of use only until all functions are loaded.
Its pages are those of a file: they can be dropped, and come again when they are touched.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator

MADV_DONTNEED = 4
HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) .*?(\S*)$")


def give_back(library: str) -> int:
    """Drop the unchanged pages of a library. Returns how many bytes of memory they were."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return sum(resident for first, size, resident in unchanged(library) if madvise(first, size, MADV_DONTNEED) == 0)


def unchanged(library: str) -> Iterator[tuple[int, int, int]]:
    """Address, size and resident bytes of each mapping of a library that is as its file is, and stays so."""
    with open("/proc/self/smaps") as lines:
        for name, first, last, rights, fields in _mappings(lines.read()):
            if library in name and "w" not in rights and fields["Anonymous"] == fields["Private_Dirty"] == 0:
                yield first, last - first, fields["Rss"] * 1024


def _mappings(text: str) -> Iterator[tuple[str, int, int, str, dict[str, int]]]:
    blocks = re.split(r"^(?=[0-9a-f]+-)", text, flags=re.MULTILINE)
    for block in filter(None, blocks):
        head, *lines = block.splitlines()
        if found := HEAD.match(head):
            pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
            fields = {name: int(value.split()[0]) for name, value in pairs}
            yield found[4], int(found[1], 16), int(found[2], 16), found[3], fields
