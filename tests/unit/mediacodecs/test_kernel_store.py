"""Compiled code is kept only where nobody else can change it, and read only when it is whole."""

from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mediacodecs.kernel_store import SEAL, UNUSED, Store, way

NAME, DATA = "a.kernel", bytes(range(256)) * 40
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
SOMEBODY = 12345


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "kernels-1"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_is_written_is_read_by_the_next_process(folder: Path) -> None:
    Store([folder]).write(NAME, DATA)
    store = Store([folder])
    assert store.read(NAME) == DATA and store.problem is None
    assert store.read("another.kernel") is None
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_folders_and_files_are_the_users_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        Store([folder]).write(NAME, DATA)
    finally:
        os.umask(before)
    assert (mode(folder.parent), mode(folder), mode(folder / NAME)) == (0o700, 0o700, 0o600)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def shorter_than_the_seal(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: SEAL - 1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def garbage(file: Path) -> None:
    file.write_bytes(b"\x80\x04garbage" * 20)


def one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def full_folder(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "damage", [cut, shorter_than_the_seal, empty, garbage, one_bit, longer, full_folder, link, pipe]
)
def test_a_file_that_is_not_whole_is_dropped_and_can_be_written_again(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    Store([folder]).write(NAME, DATA)
    damage(folder / NAME)
    store = Store([folder])
    assert store.read(NAME) is None
    assert not os.path.lexists(folder / NAME)
    store.write(NAME, DATA)
    assert store.problem is None and Store([folder]).read(NAME) == DATA


@contextmanager
def no_room() -> Iterator[None]:
    """Files may not grow beyond 100 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing_half(folder: Path) -> None:
    store = Store([folder])
    store.write("before", b"small")
    with no_room():
        store.write(NAME, DATA)
    assert store.problem == f"the kernel cache {folder} cannot be written: File too large"
    assert not store.mistake
    assert [file.name for file in folder.iterdir()] == ["before"]
    store.write(NAME, DATA)
    assert store.read(NAME) is None, "one failure is enough"
    assert store.read("before") == b"small"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for folder in (tmp_path / "file", tmp_path / "file" / "kernels-1", tmp_path / "circle" / "k", Path("/proc/no/k")):
        store = Store([folder])
        store.write(NAME, DATA)
        store.drop(NAME)
        store.tidy()
        assert store.folder is None and store.read(NAME) is None and store.mistake
        assert store.problem and store.problem.startswith(f"the kernel cache {folder} cannot be used: ")


def refused(folder: Path, reason: str) -> None:
    store = Store([folder])
    assert store.problem == f"the kernel cache {folder} is refused: {reason}"
    assert store.folder is None and store.read(NAME) is None and store.mistake


@pytest.mark.parametrize("rights", [0o777, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_refused(folder: Path, rights: int) -> None:
    Store([folder]).write(NAME, DATA)
    folder.chmod(rights)
    refused(folder, f"{folder} can be written by others")


def test_a_way_that_others_may_change_is_refused(folder: Path) -> None:
    Store([folder]).write(NAME, DATA)
    folder.parent.chmod(0o757)
    refused(folder, f"{folder.parent} can be written by others")
    folder.parent.chmod(0o1777)  # as /tmp: nobody can move what is ours
    assert Store([folder]).read(NAME) == DATA


def test_a_link_is_followed_and_its_way_looked_at(tmp_path: Path, folder: Path) -> None:
    Store([folder]).write(NAME, DATA)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(folder.parent)
    through = tmp_path / "one" / folder.name
    assert Store([through]).read(NAME) == DATA
    folder.parent.chmod(0o777)
    refused(through, f"{folder.parent} can be written by others")


def test_a_link_up_is_gone_as_the_system_goes_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").symlink_to("a/b/..")
    assert list(way(tmp_path / "c"))[-1] == tmp_path / "a" / "b" / ".."
    assert (tmp_path / "a").samefile(tmp_path / "c")


@ROOT
def test_a_folder_or_link_of_another_user_is_refused(tmp_path: Path, folder: Path) -> None:
    Store([folder]).write(NAME, DATA)
    (tmp_path / "link").symlink_to(folder.parent)
    os.chown(tmp_path / "link", SOMEBODY, SOMEBODY, follow_symlinks=False)
    refused(tmp_path / "link" / folder.name, f"{tmp_path / 'link'} belongs to user {SOMEBODY}")
    os.chown(folder, SOMEBODY, SOMEBODY)
    refused(folder, f"{folder} belongs to user {SOMEBODY}")


@ROOT
def test_a_folder_for_a_group_with_others_in_it_is_refused(folder: Path) -> None:
    Store([folder]).write(NAME, DATA)
    folder.chmod(0o770)
    assert Store([folder]).read(NAME) == DATA, "a group of the user's own"
    os.chown(folder, 0, SOMEBODY)
    refused(folder, f"{folder} can be written by others")


def test_the_first_folder_that_can_be_used_is(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store([tmp_path / "file" / "k", folder])
    assert store.folder == folder and store.problem is None and not store.mistake
    assert Store([]).read(NAME) is None


def test_many_writers_and_readers_see_whole_files_only(folder: Path) -> None:
    texts = [bytes([k]) * 100_000 for k in range(4)]
    seen: list[bytes | None] = []

    def write(text: bytes) -> None:
        store = Store([folder])
        for _ in range(30):
            store.write(NAME, text)
            seen.append(store.read(NAME))

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 120 and set(seen) <= set(texts)
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_kernels_of_sources_that_are_long_unused_are_removed(folder: Path) -> None:
    store, new, old, other = (
        Store([folder]),
        folder.with_name("kernels-new"),
        folder.with_name("kernels-old"),
        folder.with_name("mine"),
    )
    for one in (new, old, other):
        one.mkdir()
        (one / NAME).write_bytes(b"")
    store.tidy()
    now = folder.stat().st_mtime
    os.utime(folder, (now, now - 2 * UNUSED))
    os.utime(new, (now, now - UNUSED + 3600))
    for one in (old, other):
        os.utime(one, (now, now - UNUSED - 3600))
    store.tidy()
    assert sorted(one.name for one in folder.parent.iterdir()) == ["kernels-1", "kernels-new", "mine"]
