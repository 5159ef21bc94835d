"""Mount points: what is mounted where, whether a scenario can be mounted there, and taking it down again."""

from __future__ import annotations

import errno
import functools
import os
import re
import select
import shutil
import stat
import subprocess
from pathlib import Path

from pinnerfs.debugfs.control import CONTROL_FOLDER
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["fusermount", "prepare", "prepare_to_cover", "unmount", "unmount_lazily"]

FSTYPE = "fuse.pinnerfs"
UNMOUNT_DEADLINE = 30  # seconds until a daemon that was unmounted must be gone


def _mounted(path: str) -> str | None:
    """The type of what is mounted exactly here, or None. Does not touch the mount itself, which may be dead."""
    found = None
    # Bytes, and no splitlines(): a name may hold whatever some encoding takes for the end of a line.
    for line in Path("/proc/self/mountinfo").read_bytes().removesuffix(b"\n").split(b"\n"):
        left, _, right = line.partition(b" - ")
        # The kernel writes blanks, newlines and backslashes in octal.
        place = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), left.split(b" ")[4])
        if place == os.fsencode(path):
            found = right.split(b" ")[0].decode()
    return found


def _absolute(mountpoint: str) -> str:
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


def _is_dead(path: str) -> bool:
    try:
        # Not stat: of a mount that died a moment ago the kernel still knows the root's attributes.
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _check_device() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        there = os.path.exists("/dev/fuse")
        why = "Permission denied" if there else "No such file or directory"
        remedy = "chmod 666 /dev/fuse" if there else "modprobe fuse"
        raise PinnerfsError(
            f"cannot open /dev/fuse: {why}; mounting needs to read and write it (root can help: {remedy}; "
            "for a container: --device /dev/fuse)",
            NO_FUSE,
        )


def prepare(mountpoint: str) -> tuple[str, str | None]:
    """Check that something can be mounted here. Returns the absolute path, and a word about what was cleared away.

    A dead mount that an earlier daemon left is unmounted. PinnerfsError for a mount point that is already one, is
    missing, is not a folder, or is not empty; and where FUSE itself is out of reach.
    """
    if not mountpoint:
        # What an unset variable of a script comes to. Nobody means the working directory by it.
        raise PinnerfsError("cannot mount on '': No such file or directory")
    path = os.path.realpath(mountpoint) if not _is_dead(mountpoint) else _absolute(mountpoint)
    word = None
    if _is_dead(path):
        kind = _mounted(path)
        if kind != FSTYPE:
            raise PinnerfsError(f"cannot mount on {mountpoint}: a dead mount ({kind}) that is not ours lies there")
        unmount_lazily(path)
        if _is_dead(path):
            raise PinnerfsError(f"{mountpoint} is a dead mount that cannot be taken down: unmount it first")
        word = f"{mountpoint}: replaced a dead mount that an earlier daemon left"
    try:
        entries = os.listdir(path)
    except OSError as error:
        raise PinnerfsError(f"cannot mount on {mountpoint}: {error.strerror}") from None
    kind = _mounted(path)
    if kind is not None:
        raise PinnerfsError(
            f"cannot mount on {mountpoint}: it already is a mount point ({kind}); wanted an empty folder"
        )
    if entries:
        raise PinnerfsError(f"cannot mount on {mountpoint}: the folder is not empty ({entries[0]!r} is in it)")
    _check_device()
    if os.geteuid() != 0:
        fusermount()
    return path, word


def prepare_to_cover(mountpoint: str) -> str:
    """Check that something can be mounted over what lies here. Returns the absolute path. PinnerfsError as `prepare`.

    In a mount namespace of one's own, which goes with whatever is mounted in it: so anything but a folder is refused,
    and nothing is cleared away.
    """
    path = os.path.realpath(mountpoint)
    try:
        # An empty name, which stat refuses, is what an unset variable of a script comes to.
        is_folder = stat.S_ISDIR(os.stat(mountpoint).st_mode)
    except OSError as error:
        raise PinnerfsError(f"cannot mount over {mountpoint or repr('')}: {error.strerror}; wanted a folder") from None
    if path == "/":
        raise PinnerfsError(f"cannot mount over {mountpoint}: nobody would see it; wanted a folder below /")
    if not is_folder:
        raise PinnerfsError(f"cannot mount over {mountpoint}: Not a directory; wanted a folder")
    _check_device()
    return path


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
    path = _absolute(mountpoint)
    if not os.path.ismount(path) and not _is_dead(path):
        path = os.path.realpath(path)
    kind = _mounted(path)
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
