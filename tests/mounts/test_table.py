"""The mount table and unmounting. These tests mount nothing, and replace the kernel's mount table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import unmount as unmounting
from pinnerfs.mounts.claim import claim
from pinnerfs.mounts.table import Mount, Proc
from pinnerfs.mounts.unmount import unmount


def show_table(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[int, bytes, bytes]) -> None:
    """Add mounts to the kernel's table, by their number, mount point and type. Number 0 is that of the directory."""
    read = Proc._read

    def changed(proc: Proc, name: str) -> bytes:
        text = read(proc, name)
        if name == "mountinfo":
            text += b"".join(b"%d 1 0:32 / %s rw shared:1 - %s debugfs rw,user_id=0\n" % mount for mount in mounts)
        return text

    monkeypatch.setattr(Proc, "_read", changed)
    monkeypatch.setattr(Proc, "mount_id", lambda proc, descriptor: 0)


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
    show_table(monkeypatch, (0, bytes(tmp_path) + b"/" + written, b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match=r"it is already a mount point \(fuse.pinnerfs\)"):
        claim(directory)


def test_another_mount_of_the_same_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of several mounts with the same path the one of the directory's id counts."""
    show_table(monkeypatch, (-1, bytes(tmp_path), b"fuse.pinnerfs"), (0, bytes(tmp_path), b"tmpfs"))
    with pytest.raises(
        PinnerfsError, match=r"wanted a fuse\.pinnerfs mount, but tmpfs is mounted there; tmpfs on .* covers one$"
    ):
        unmount(str(tmp_path))


def test_a_directory_inside_a_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory of a mount is not its mount point."""
    show_table(monkeypatch, (0, bytes(tmp_path.parent), b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match=r"but nothing is mounted there$"):
        unmount(str(tmp_path))


@pytest.mark.parametrize("fstype", [b"ext4", b"proc"])
def test_another_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fstype: bytes) -> None:
    """A mount of another type is not unmounted, and named."""
    show_table(monkeypatch, (0, bytes(tmp_path), fstype))
    with pytest.raises(PinnerfsError) as caught:
        unmount(str(tmp_path))
    wanted = f"wanted a fuse.pinnerfs mount, but {fstype.decode()} is mounted there"
    assert str(caught.value) == f"cannot unmount {tmp_path}: {wanted}"


def test_an_empty_path() -> None:
    """An empty path, such as that of an unset variable, is not the working directory."""
    with pytest.raises(PinnerfsError, match=r"^cannot unmount '': the path is empty$"):
        unmount("")


def test_a_directory_that_is_renamed_all_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If a rename comes between the reads of a path and of the table, both are read again."""
    mount = bytes(tmp_path)
    show_table(monkeypatch, (0, mount, b"tmpfs"))
    paths = iter(["/elsewhere", f"{tmp_path}2", str(tmp_path)])
    monkeypatch.setattr(Proc, "path", lambda proc, descriptor: next(paths))
    with Proc() as proc:
        assert proc.mount_at(0) == Mount(0, 1, b"0:32", str(tmp_path), "tmpfs")


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
    show_table(monkeypatch, (0, bytes(tmp_path), b"fuse.pinnerfs"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    program = tmp_path / "fusermount"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setattr(unmounting, "fusermount", lambda: str(program))
    with pytest.raises(PinnerfsError) as caught:
        unmount(str(tmp_path))
    assert str(caught.value) == f"cannot unmount {tmp_path}: {reason}"
