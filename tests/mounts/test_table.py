"""The mount table and unmounting. These tests mount nothing, and replace the kernel's mount table."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import table
from pinnerfs.mounts.claim import claim
from pinnerfs.mounts.table import resolve, unmount

LINE = b"36 25 0:32 / %s rw,relatime shared:1 - %s debugfs rw,user_id=0\n"


def show_table(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[bytes, bytes]) -> None:
    """Replace the kernel's table by one with these mount points and types."""
    text = b"25 1 8:1 / / rw - ext4 /dev/root rw\n" + b"".join(LINE % mount for mount in mounts)
    monkeypatch.setattr(Path, "read_bytes", lambda path: text)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"plain", b"plain"),
        (b"with\\040blank", b"with blank"),
        (b"back\\134slash", b"back\\slash"),
        (b"back\\134040slash", b"back\\040slash"),
        (b"new\\012line\\011tab", b"new\nline\ttab"),
        (b"hash\\043", b"hash#"),
        ("ünïcode".encode(), "ünïcode".encode()),
        (b"caf\xe9", b"caf\xe9"),
        (b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f", b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f"),
        (b"-", b"-"),
    ],
)
def test_names_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: bytes, name: bytes) -> None:
    """A mount point is found by any name, whether or not the kernel escapes it."""
    directory = os.fsdecode(bytes(tmp_path) + b"/" + name)
    os.mkdir(directory)
    show_table(monkeypatch, (b"/somewhere/else", b"tmpfs"), (bytes(tmp_path) + b"/" + written, b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match=r"it is already a mount point \(fuse.pinnerfs\)"):
        claim(directory)


def test_the_last_of_several_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of mounts on top of each other the last one in the table counts."""
    show_table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"), (bytes(tmp_path), b"tmpfs"))
    with pytest.raises(PinnerfsError, match=r"wanted a fuse\.pinnerfs mount, but tmpfs is mounted there"):
        unmount(str(tmp_path))


def test_neighbours_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mount below a directory, or beside it, is not a mount on it."""
    show_table(monkeypatch, (bytes(tmp_path) + b"/below", b"fuse.pinnerfs"), (bytes(tmp_path) + b"2", b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match="but nothing is mounted there"):
        unmount(str(tmp_path))


@pytest.mark.parametrize("fstype", [b"ext4", b"proc"])
def test_another_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fstype: bytes) -> None:
    """A mount of another type is not unmounted, and named."""
    show_table(monkeypatch, (bytes(tmp_path), fstype))
    with pytest.raises(PinnerfsError) as caught:
        unmount(str(tmp_path))
    wanted = f"wanted a fuse.pinnerfs mount, but {fstype.decode()} is mounted there"
    assert str(caught.value) == f"cannot unmount {tmp_path}: {wanted}"


def test_an_empty_path() -> None:
    """An empty path, such as that of an unset variable, is not the working directory."""
    with pytest.raises(PinnerfsError, match=r"^cannot unmount '': the path is empty$"):
        unmount("")


def test_a_link_to_a_dead_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A symbolic link is resolved although its target answers nothing."""
    (tmp_path / "link").symlink_to("mnt")
    lstat = os.lstat

    def dead(path: str) -> os.stat_result:
        if path == f"{tmp_path}/mnt":
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return lstat(path)

    with monkeypatch.context() as only_here:
        only_here.setattr(os, "lstat", dead)
        resolved = resolve(f"{tmp_path}/link", "unmount")
    assert resolved == f"{tmp_path}/mnt"


BUSY = "fusermount: failed to unmount X: Device or resource busy"


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (BUSY, 1, "it is busy: a process has a file open or its working directory there"),
        ("fusermount: entry for X not found in /etc/mtab", 1, "fusermount: entry for X not found in /etc/mtab"),
        ("", 3, "fusermount exited with status 3"),
    ],
)
def test_a_fusermount_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, status: int, reason: str
) -> None:
    """The error has fusermount's reason, or its exit status if it gives none."""
    show_table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"))
    program = tmp_path / "fusermount"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setattr(table, "fusermount", lambda: str(program))
    with pytest.raises(PinnerfsError) as caught:
        unmount(str(tmp_path))
    assert str(caught.value) == f"cannot unmount {tmp_path}: {reason}"
