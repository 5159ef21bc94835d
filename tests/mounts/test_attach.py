"""Errors of mounting, and their exit statuses. These tests mount nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts import attach as attaching
from pinnerfs.mounts.attach import attach

FORBIDDEN = "fusermount: mount failed: Operation not permitted"


@pytest.mark.parametrize(
    ("written", "shown", "status"),
    [
        ("", "libfuse gave no reason", 1),
        ("fuse: first\n\nsecond\n", "first; second", 1),
        ("fuse: no caf\udce9\n", "no caf\udce9", 1),
        (
            "fusermount: user has no write access to mountpoint /x",
            "fusermount: user has no write access to mountpoint /x",
            1,
        ),
        (
            FORBIDDEN,
            f"{FORBIDDEN} (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)",
            NO_FUSE,
        ),
    ],
)
def test_a_users_mount_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str, shown: str, status: int
) -> None:
    """The reason becomes one line. Only a missing permission means that this machine cannot mount."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    place = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(PinnerfsError) as caught:
        attach(place, "mnt", allow_other=False, mount_by_path=lambda *_: (-1, written))
    os.close(place)
    assert (str(caught.value), caught.value.exit_status) == (f"cannot mount on mnt: {shown}", status)


@pytest.mark.parametrize(
    ("number", "shown", "status"),
    [
        (
            errno.EPERM,
            "Operation not permitted (for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)",
            NO_FUSE,
        ),
        (errno.ENOSYS, "Function not implemented (wanted Linux 5.2 or later)", NO_FUSE),
        (errno.ENODEV, "No such device", NO_FUSE),
        (errno.ENOENT, "No such file or directory", 1),
        (errno.ENOSPC, "No space left on device", 1),
    ],
)
def test_a_system_call_that_fails(monkeypatch: pytest.MonkeyPatch, number: int, shown: str, status: int) -> None:
    """Only errors that this machine always gives have the status of a machine that cannot mount."""

    def failing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(attaching, "_open_device", failing)
    with pytest.raises(PinnerfsError) as caught:
        attach(-1, "mnt", allow_other=False, mount_by_path=lambda *_: (-1, "not called"))
    assert (str(caught.value), caught.value.exit_status) == (f"cannot mount on mnt: {shown}", status)
