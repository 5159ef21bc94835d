"""The kernel's mount table, dead mounts, and unmounting."""

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

from pinnerfs.debugfs.control import CONTROL_DIRECTORY
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = [
    "FSTYPE",
    "fusermount",
    "is_dead",
    "mounted_type",
    "parse_mount_table",
    "resolve",
    "unmount",
    "unmount_lazily",
]

FSTYPE = "fuse.pinnerfs"
DAEMON_EXIT_TIMEOUT = 30  # seconds from the unmount


def parse_mount_table(text: bytes) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield the device, mount point and type of each mount in a /proc/PID/mountinfo, lower mounts first."""
    # Bytes, and no splitlines(): a name may hold what some encoding takes for a line end.
    for line in text.removesuffix(b"\n").split(b"\n"):
        left, _, right = line.partition(b" - ")
        fields = left.split(b" ")
        # The kernel writes blanks, newlines and backslashes in octal.
        mountpoint = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), fields[4])
        yield fields[2], mountpoint, right.split(b" ")[0].decode()


def mounted_type(path: str) -> str | None:
    """Return the type of the mount exactly at this path, or None. Does not access the mount, which may be dead."""
    mounts = parse_mount_table(Path("/proc/self/mountinfo").read_bytes())
    return {mountpoint: fstype for _, mountpoint, fstype in mounts}.get(os.fsencode(path))


def resolve(name: str, action: str) -> str:
    """Return the absolute path of a mount point or a log file, without symbolic links. It may be a dead mount.

    PinnerfsError if it is empty, or relative to a deleted directory; `action`, such as "unmount", starts the message.
    """
    if not name:
        # An unset variable of a script must not mean the working directory.
        raise PinnerfsError(f"cannot {action} '': the path is empty")
    try:
        return os.path.realpath(name)
    except FileNotFoundError:  # from getcwd()
        raise PinnerfsError(f"cannot {action} {name}: the working directory was deleted") from None


@functools.cache  # so that a process that has mounted can unmount although PATH has changed
def fusermount() -> str:
    """Return the program that mounts and unmounts for users. PinnerfsError if PATH has none."""
    program = shutil.which("fusermount") or shutil.which("fusermount3")
    if program is None:
        raise PinnerfsError("cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)", NO_FUSE)
    return program


def is_dead(path: str) -> bool:
    """Return whether this is a mount whose daemon is gone."""
    try:
        # Not stat: the kernel may still have the attributes of the root cached.
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount_lazily(path: str) -> None:
    """Detach a mount at once, even a dead or busy one. Does nothing if there is none."""
    subprocess.run([fusermount(), "-u", "-z", "--", path], check=False, capture_output=True)


def _open_daemon(path: str) -> int | None:
    """Return a pidfd of the daemon of a mount, or None if the mount does not tell its pid."""
    try:
        return os.pidfd_open(int(Path(path, CONTROL_DIRECTORY, "pid").read_text()))
    except (OSError, ValueError):
        return None


def unmount(mountpoint: str) -> None:
    """Unmount, and wait until the daemon has exited. PinnerfsError if this is no pinnerfs mount, or it is busy."""
    path = resolve(mountpoint, "unmount")
    fstype = mounted_type(path)
    if fstype != FSTYPE:
        found = f"{fstype or 'nothing'} is mounted there"
        raise PinnerfsError(f"cannot unmount {mountpoint}: wanted a {FSTYPE} mount, but {found}")
    daemon = _open_daemon(path)
    try:
        done = subprocess.run([fusermount(), "-u", "--", path], check=False, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip() or f"fusermount exited with status {done.returncode}"
            if "busy" in reason:
                reason = "it is busy: a process has a file open or its working directory there"
            raise PinnerfsError(f"cannot unmount {mountpoint}: {reason}")
        if daemon is not None and not select.select([daemon], [], [], DAEMON_EXIT_TIMEOUT)[0]:
            raise PinnerfsError(
                f"unmounted {mountpoint}, but its daemon is still running after {DAEMON_EXIT_TIMEOUT} s: another mount "
                "namespace (unshare -m) may have a copy of the mount"
            )
    finally:
        if daemon is not None:
            os.close(daemon)
