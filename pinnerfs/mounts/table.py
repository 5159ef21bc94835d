"""Mount points: what is mounted where, and taking it down again."""

from __future__ import annotations

import errno
import functools
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pinnerfs.debugfs.control import CONTROL_FOLDER
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = [
    "FSTYPE",
    "absolute",
    "fusermount",
    "is_dead",
    "mounted",
    "parse_mount_table",
    "unmount",
    "unmount_lazily",
]

FSTYPE = "fuse.pinnerfs"
UNMOUNT_DEADLINE = 30  # seconds until a daemon that was unmounted must be gone


def parse_mount_table(text: bytes) -> Iterator[tuple[bytes, bytes, str]]:
    """The mounts of a /proc/PID/mountinfo, those on top of others behind them: device, mount point and type of each."""
    # Bytes, and no splitlines(): a name may hold whatever some encoding takes for the end of a line.
    for line in text.removesuffix(b"\n").split(b"\n"):
        left, _, right = line.partition(b" - ")
        fields = left.split(b" ")
        # The kernel writes blanks, newlines and backslashes in octal.
        place = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), fields[4])
        yield fields[2], place, right.split(b" ")[0].decode()


def mounted(path: str) -> str | None:
    """The type of what is mounted exactly here, or None. Does not touch the mount itself, which may be dead."""
    mounts = parse_mount_table(Path("/proc/self/mountinfo").read_bytes())
    return {place: kind for _, place, kind in mounts}.get(os.fsencode(path))


def absolute(mountpoint: str) -> str:
    """The mount point as the kernel names it; its last part is not looked into, for a dead mount answers nothing."""
    parent, name = os.path.split(os.path.abspath(mountpoint))
    return os.path.join(os.path.realpath(parent), name) if name else parent


@functools.cache  # whoever has mounted can unmount, even where PATH has changed meanwhile
def fusermount() -> str:
    """The program that unmounts. PinnerfsError where there is none in PATH."""
    program = shutil.which("fusermount") or shutil.which("fusermount3")
    if program is None:
        raise PinnerfsError("cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)", NO_FUSE)
    return program


def is_dead(path: str) -> bool:
    """Whether a mount without its daemon lies here."""
    try:
        # Not stat: of a mount that died a moment ago the kernel still knows the root's attributes.
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount_lazily(path: str) -> None:
    """Take a mount out of sight at once, dead or in use as it may be; where there is none, nothing happens."""
    subprocess.run([fusermount(), "-u", "-z", "--", path], check=False, capture_output=True)


def _open_daemon(path: str) -> int | None:
    """A pidfd of the daemon behind a mount, or None where it cannot be told."""
    try:
        return os.pidfd_open(int(Path(path, CONTROL_FOLDER, "pid").read_text()))
    except (OSError, ValueError):
        return None


def unmount(mountpoint: str) -> None:
    """Unmount and wait until the daemon is gone. PinnerfsError where that is no pinnerfs mount, or it is busy."""
    path = absolute(mountpoint)
    if not os.path.ismount(path) and not is_dead(path):
        path = os.path.realpath(path)
    kind = mounted(path)
    if kind != FSTYPE:
        there = "nothing" if kind is None else f"a {kind}"
        raise PinnerfsError(f"cannot unmount {mountpoint}: wanted a {FSTYPE} mount, but {there} is mounted there")
    daemon = _open_daemon(path)
    try:
        done = subprocess.run([fusermount(), "-u", "--", path], check=False, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip() or f"fusermount left with {done.returncode}"
            if "busy" in reason:
                reason = "it is busy: a file on it is open, or somebody's working directory lies on it"
            raise PinnerfsError(f"cannot unmount {mountpoint}: {reason}")
        if daemon is not None and not select.select([daemon], [], [], UNMOUNT_DEADLINE)[0]:
            raise PinnerfsError(
                f"unmounted {mountpoint}, but its daemon is still there after {UNMOUNT_DEADLINE} s: perhaps some other "
                "mount namespace (unshare -m) has a copy of the mount"
            )
    finally:
        if daemon is not None:
            os.close(daemon)
