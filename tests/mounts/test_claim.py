"""Checks of a mount point. These tests mount nothing, and replace the kernel's mount table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import claim as claims
from pinnerfs.mounts.claim import claim, prepare_to_cover
from pinnerfs.mounts.unmount import unmount
from tests.mounts.test_table import show_table


def test_a_dead_mount_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only a dead pinnerfs mount is unmounted."""
    show_table(monkeypatch, (0, bytes(tmp_path), b"fuse.sshfs"))
    monkeypatch.setattr(claims, "is_dead", lambda descriptor: True)
    monkeypatch.setattr(claims, "unmount_lazily", lambda *_: pytest.fail("unmounted it"))
    with pytest.raises(PinnerfsError, match=r"a dead mount of another type \(fuse.sshfs\) is there"):
        claim(str(tmp_path))


@pytest.fixture
def usable_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine can mount."""
    monkeypatch.setattr(claims, "_check_device", lambda: None)
    monkeypatch.setattr(claims, "fusermount", lambda: "fusermount")


def test_a_dead_mount_that_another_process_replaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dead mount is unmounted by its id, and the live mount of another process that replaced it is kept."""
    verdicts = iter([True, False])
    unmounted = []
    show_table(monkeypatch, (0, bytes(tmp_path), b"fuse.pinnerfs"))
    monkeypatch.setattr(claims, "is_dead", lambda descriptor: next(verdicts))
    monkeypatch.setattr(claims, "unmount_lazily", lambda proc, mount: unmounted.append(mount.id))
    with pytest.raises(PinnerfsError, match=r"it is already a mount point \(fuse.pinnerfs\)"):
        claim(str(tmp_path))
    assert unmounted == [0]


def test_a_dead_mount_that_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dead mount that cannot be unmounted is an error with the remedy."""
    show_table(monkeypatch, (0, bytes(tmp_path), b"fuse.pinnerfs"))
    monkeypatch.setattr(claims, "is_dead", lambda descriptor: True)
    monkeypatch.setattr(claims, "unmount_lazily", lambda *_: None)
    with pytest.raises(PinnerfsError, match=rf"cannot be unmounted \(as root: umount -l {tmp_path}\)$"):
        claim(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "'': the path is empty"),
        ("missing", "missing: No such file or directory"),
        ("file", "file: Not a directory"),
        (".", r"\.: the directory is not empty \('file' is in it\)"),
    ],
)
def test_unfit_directories(
    usable_fuse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, reason: str
) -> None:
    """An error names the path as it was given, and the reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(PinnerfsError, match=f"^cannot mount on {reason}$"):
        claim(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "'': the path is empty"),
        ("missing", "missing: No such file or directory; wanted a directory"),
        ("file", "file: Not a directory; wanted a directory"),
        ("/", "/: the mount would be hidden; wanted a directory below /"),
    ],
)
def test_what_cannot_be_covered(
    usable_fuse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, reason: str
) -> None:
    """An error names the path as it was given, and what was wanted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(PinnerfsError, match=f"^cannot mount over {reason}$"):
        prepare_to_cover(path)


def test_a_deleted_working_directory(usable_fuse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path relative to a deleted directory is refused with that reason."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for function in (claim, prepare_to_cover, unmount):
        with pytest.raises(PinnerfsError, match=r"^cannot \w+( \w+)? mnt: the working directory was deleted$"):
            function("mnt")
