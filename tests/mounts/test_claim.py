"""Whether one may mount somewhere, judged from the kernel's table alone: nothing is mounted here."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import claim as claims
from pinnerfs.mounts.claim import claim
from tests.mount.support import DEADLINE
from tests.mounts.test_table import show_table


def test_a_dead_mount_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a pinnerfs left is cleared away."""
    show_table(monkeypatch, (bytes(tmp_path), b"fuse.sshfs"))
    monkeypatch.setattr(claims, "is_dead", lambda path: True)
    monkeypatch.setattr(claims, "unmount_lazily", lambda path: pytest.fail("it was unmounted"))
    with pytest.raises(PinnerfsError, match=r"a dead mount \(fuse.sshfs\) that is not ours"):
        claim(str(tmp_path))


@pytest.fixture
def usable_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can mount, whatever this one can."""
    monkeypatch.setattr(claims, "_check_device", lambda: None)
    monkeypatch.setattr(claims, "fusermount", lambda: "fusermount")


def test_a_claim_keeps_others_off(usable_fuse: None, tmp_path: Path) -> None:
    """Who comes second waits until the first has let go, and judges the place only then."""
    first = claim(str(tmp_path))
    judged = []

    def come_second() -> None:
        with pytest.raises(PinnerfsError, match="the directory is not empty"):
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
    with pytest.raises(PinnerfsError, match="the directory is not empty"):
        claim(str(tmp_path))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_folder_that_stays_locked(usable_fuse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody else's lock, which has nothing to do with mounts, is waited for, but not for ever."""
    monkeypatch.setattr(claims, "PATIENCE", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert claim(str(tmp_path)).path == str(tmp_path)
    finally:
        os.close(descriptor)


def test_a_dead_mount_that_somebody_else_clears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has judged a mount dead looks again when it is his turn, and leaves alone what is mounted by then."""
    verdicts = iter([True, True, False])
    show_table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"))
    monkeypatch.setattr(claims, "is_dead", lambda path: next(verdicts))
    monkeypatch.setattr(claims, "unmount_lazily", lambda path: pytest.fail("it was unmounted"))
    with pytest.raises(PinnerfsError, match=r"it is already a mount point \(fuse.pinnerfs\)"):
        claim(str(tmp_path))
