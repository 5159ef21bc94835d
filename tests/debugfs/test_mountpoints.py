"""Mount points, judged from the kernel's table alone: nothing is mounted here."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from pinnerfs.debugfs import mountpoints
from pinnerfs.debugfs.mountpoints import claim, unmount
from pinnerfs.errors import PinnerfsError
from tests.mount.support import DEADLINE

LINE = b"36 25 0:32 / %s rw,relatime shared:1 - %s debugfs rw,user_id=0\n"


def _table(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[bytes, bytes]) -> None:
    """Let the kernel's table have these mount points, with their types."""
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
    """A mount point is recognised whatever its name has in it, and however the kernel writes it."""
    folder = bytes(tmp_path) + b"/" + name
    Path(folder.decode(errors="surrogateescape")).mkdir()
    _table(monkeypatch, (b"/somewhere/else", b"tmpfs"), (bytes(tmp_path) + b"/" + written, b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match=r"it already is a mount point \(fuse.pinnerfs\)"):
        claim(folder.decode(errors="surrogateescape"))


def test_the_last_of_several_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of mounts on top of each other the last one is meant."""
    _table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"), (bytes(tmp_path), b"tmpfs"))
    with pytest.raises(PinnerfsError, match=r"wanted a fuse\.pinnerfs mount, but a tmpfs is mounted there"):
        unmount(str(tmp_path))


def test_neighbours_are_not_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mount below a folder, or beside it, is none on it."""
    _table(monkeypatch, (bytes(tmp_path) + b"/below", b"fuse.pinnerfs"), (bytes(tmp_path) + b"2", b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match="but nothing is mounted there"):
        unmount(str(tmp_path))


def test_a_dead_mount_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a pinnerfs left is cleared away."""
    _table(monkeypatch, (bytes(tmp_path), b"fuse.sshfs"))
    monkeypatch.setattr(mountpoints, "_is_dead", lambda path: True)
    monkeypatch.setattr(mountpoints, "fusermount", lambda: pytest.fail("it was unmounted"))
    with pytest.raises(PinnerfsError, match=r"a dead mount \(fuse.sshfs\) that is not ours"):
        claim(str(tmp_path))


@pytest.fixture
def usable_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can mount, whatever this one can."""
    monkeypatch.setattr(mountpoints, "_check_device", lambda: None)
    monkeypatch.setattr(mountpoints, "fusermount", lambda: "fusermount")


def test_a_claim_keeps_others_off(usable_fuse: None, tmp_path: Path) -> None:
    """Who comes second waits until the first has let go, and judges the place only then."""
    first = claim(str(tmp_path))
    judged = []

    def come_second() -> None:
        with pytest.raises(PinnerfsError, match="the folder is not empty"):
            claim(str(tmp_path))
        judged.append(True)

    second = threading.Thread(target=come_second, daemon=True)
    second.start()
    second.join(0.05)
    assert second.is_alive() and not judged
    (tmp_path / "something").write_text("")
    first.release()
    second.join(DEADLINE)
    assert judged == [True]


def test_a_claim_that_is_refused_keeps_nobody_off(usable_fuse: None, tmp_path: Path) -> None:
    """After an error the place is free at once."""
    (tmp_path / "something").write_text("")
    with pytest.raises(PinnerfsError, match="the folder is not empty"):
        claim(str(tmp_path))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_folder_that_stays_locked(usable_fuse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody else's lock, which has nothing to do with mounts, is waited for, but not for ever."""
    monkeypatch.setattr(mountpoints, "PATIENCE", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert claim(str(tmp_path)).path == str(tmp_path)
    finally:
        os.close(descriptor)


def test_a_dead_mount_that_somebody_else_clears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has judged a mount dead looks again when it is his turn, and leaves alone what is mounted by then."""
    verdicts = iter([True, True, False])
    _table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"))
    monkeypatch.setattr(mountpoints, "_is_dead", lambda path: next(verdicts))
    monkeypatch.setattr(mountpoints, "unmount_lazily", lambda path: pytest.fail("it was unmounted"))
    with pytest.raises(PinnerfsError, match=r"it already is a mount point \(fuse.pinnerfs\)"):
        claim(str(tmp_path))
