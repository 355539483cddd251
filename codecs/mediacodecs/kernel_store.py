"""Files of compiled code, kept from one start to the next.

Whoever can change such a file runs code as us, so a folder counts only when nobody can but us, root and the owner of
Weir's own sources: it and all folders and links on the way to it. Each file begins with the SHA-256 of its rest; one
that is cut short, damaged or no file at all is dropped, and its kernel compiled again. What can't be kept is no reason
to stop: `problem` says it, once, for the operator.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

SEAL = 32  # bytes of SHA-256
UNUSED = 30 * 86400  # seconds after which the kernels of other sources are removed
FOLDERS = "kernels-*"
CIRCUMSTANCES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors that say nothing against the choice of the folder."""


class Store:
    """Sealed files in the first of `folders` that can be used.

    `mistake`: the first can't be, and not for want of room or rights, but because it is the wrong one.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folder: Path | None = None
        self.problem: str | None = None
        self.mistake = False
        for folder in folders:
            try:
                settle(folder)
            except OSError as error:
                self.problem = self.problem or said(folder, error)
                self.mistake = self.mistake or error.errno not in CIRCUMSTANCES
            else:
                self.folder, self.problem, self.mistake = folder, None, False
                return

    def read(self, name: str) -> bytes | None:
        """What was written under a name; None when it is not there or not whole."""
        if self.folder is None:
            return None
        try:
            with open(self.folder / name, "rb", opener=_open) as file:
                sealed = file.read() or b""
        except FileNotFoundError:
            return None
        except OSError:  # a folder, a link, a bad disk
            sealed = b""
        if hashlib.sha256(sealed[SEAL:]).digest() == sealed[:SEAL]:
            return sealed[SEAL:]
        self.drop(name)
        return None

    def write(self, name: str, data: bytes) -> None:
        """Keep data under a name: whole or not at all, whoever else writes it. Not after a write has failed."""
        if self.folder is None or self.problem is not None:
            return
        temporary = self.folder / f"{name}.{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "xb", opener=_open) as file:
                file.write(hashlib.sha256(data).digest() + data)
            temporary.replace(self.folder / name)
        except OSError as error:
            self.problem = said(self.folder, error, "cannot be written")
            with contextlib.suppress(OSError):
                temporary.unlink()

    def drop(self, name: str) -> None:
        """Remove what is there under a name, whatever it is, if that can be done."""
        if self.folder is None:
            return
        path = self.folder / name
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def tidy(self) -> None:
        """Note that this folder is in use, and remove those beside it that have not been for UNUSED seconds."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            os.utime(self.folder)
            now = self.folder.stat().st_mtime
            for other in self.folder.parent.glob(FOLDERS):
                if now - other.stat().st_mtime > UNUSED:
                    shutil.rmtree(other, ignore_errors=True)


def _open(path: str, flags: int) -> int:
    """Follows no link, waits for no pipe, and what is made is ours alone."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


class Distrusted(OSError):
    """Others could put files into the folder."""


def settle(folder: Path) -> None:
    """Make the folder if need be. Raises OSError when it can't be used, Distrusted among them."""
    for make in (True, False):  # again for what was not there before
        if reason := distrust(folder):
            raise Distrusted(0, reason)
        if make:
            _make(folder)


def said(folder: Path, error: OSError, verb: str = "cannot be used") -> str:
    """A sentence for the operator."""
    verb = "is refused" if isinstance(error, Distrusted) else verb
    return f"the kernel cache {folder} {verb}: {error.strerror or error}"


def _make(folder: Path) -> None:
    for missing in [one for one in (*reversed(folder.parents), folder) if not one.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def distrust(folder: Path) -> str | None:
    """Who else could put files into folder, as a clause; None: nobody. What does not exist yet is not looked at.

    A folder on the way that everybody may write is good enough when it is sticky (/tmp): nobody can move what is ours.
    Raises OSError for a way that can't be gone.
    """
    trusted = {0, os.geteuid(), os.stat(__file__).st_uid}
    places = list(way(Path.cwd() / folder))
    for place in places:
        try:
            found = place.lstat()
        except FileNotFoundError:
            return None
        if found.st_uid not in trusted:
            return f"{place} belongs to {_user(found.st_uid)}"
        sticky = found.st_mode & stat.S_ISVTX and place is not places[-1]
        if not stat.S_ISLNK(found.st_mode) and not sticky and _open_to_others(found):
            return f"{place} can be written by others"
    return None


def _open_to_others(found: os.stat_result) -> bool:
    group = bool(found.st_mode & stat.S_IWGRP) and not _our_own_group(found.st_gid)
    return group or bool(found.st_mode & stat.S_IWOTH)


def way(path: Path, links: int = 40) -> Iterator[Path]:
    """Every folder and link that leads to path, from the root on. Raises OSError where links go in a circle."""
    for place in (*reversed(path.parents), path):
        yield place
        if place.is_symlink():
            if not links:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            yield from way(place.parent / place.readlink() / path.relative_to(place), links - 1)
            return


def _our_own_group(group: int) -> bool:
    """Whether it is the group of ours that many systems make for each user, with nobody else in it."""
    try:
        us, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return us.pw_gid == group and found.gr_name == us.pw_name and set(found.gr_mem) <= {us.pw_name}


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
