"""Mount points: what is mounted where, whether a scenario can be mounted there, and taking it down again."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import select
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pinnerfs.debugfs.control import CONTROL_FOLDER
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = [
    "FSTYPE",
    "Claim",
    "claim",
    "fusermount",
    "parse_mount_table",
    "prepare_to_cover",
    "unmount",
    "unmount_lazily",
]

FSTYPE = "fuse.pinnerfs"
PATIENCE = 10  # seconds that another pinnerfs has to get done with a mount point
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


def _mounted(path: str) -> str | None:
    """The type of what is mounted exactly here, or None. Does not touch the mount itself, which may be dead."""
    mounts = parse_mount_table(Path("/proc/self/mountinfo").read_bytes())
    return {place: kind for _, place, kind in mounts}.get(os.fsencode(path))


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
    """See to it that /dev/fuse can be opened, which its mode alone does not tell: a container may forbid it."""
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        reason, remedy = "it is no device", "rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229"
    except OSError as error:
        is_device = False
        reason = os.strerror(error.errno or 0)
        remedy = "chmod 666 /dev/fuse" if error.errno == errno.EACCES else "modprobe fuse"
    if not is_device:
        raise PinnerfsError(
            f"cannot open /dev/fuse: {reason}; mounting needs to read and write it (root can help: {remedy}; "
            "for a container: --device /dev/fuse)",
            NO_FUSE,
        )


def _lock(folder: str) -> int | None:
    """A descriptor that keeps other pinnerfs off a folder until it is closed, or None where there cannot be one.

    Waits for another to let go of it, but not for ever: it may be locked for some other purpose.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
        except OSError:
            pass  # such as a network file system without locks
        os.close(descriptor)
        return None


@dataclass
class Claim:
    """A mount point that is fit for a mount, and that no other pinnerfs takes meanwhile."""

    path: str  # absolute
    word: str | None  # about what was cleared away
    _lock: int | None

    def release(self) -> None:
        """Let others see for themselves what is mounted there now. In a child, this does not release the parent's."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def claim(mountpoint: str) -> Claim:
    """Check that something can be mounted here, and keep others off until `release`.

    A dead mount that an earlier daemon left is unmounted. PinnerfsError for a mount point that is already one, is
    missing, is not a folder, or is not empty; and where FUSE itself is out of reach.
    """
    if not mountpoint:
        # What an unset variable of a script comes to. Nobody means the working directory by it.
        raise PinnerfsError("cannot mount on '': No such file or directory")
    path = os.path.realpath(mountpoint) if not _is_dead(mountpoint) else _absolute(mountpoint)
    word = _clear(mountpoint, path) if _is_dead(path) else None
    claimed = Claim(path, word, _lock(path))
    try:
        _check_folder(mountpoint, path)
        _check_device()
        if os.geteuid() != 0:
            fusermount()
    except PinnerfsError:
        claimed.release()
        raise
    return claimed


def _clear(mountpoint: str, path: str) -> str | None:
    """Unmount a dead mount, and return a word about it; None where somebody else has done so meanwhile."""
    # Who only comes to know of it now must not unmount the new mount of who was faster.
    lock = _lock(os.path.dirname(path))
    try:
        if not _is_dead(path):
            return None
        kind = _mounted(path)
        if kind != FSTYPE:
            raise PinnerfsError(f"cannot mount on {mountpoint}: a dead mount ({kind}) that is not ours lies there")
        unmount_lazily(path)
        if _is_dead(path):
            raise PinnerfsError(f"{mountpoint} is a dead mount that cannot be taken down: unmount it first")
        return f"{mountpoint}: replaced a dead mount that an earlier daemon left"
    finally:
        if lock is not None:
            os.close(lock)


def _check_folder(mountpoint: str, path: str) -> None:
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


def prepare_to_cover(mountpoint: str) -> str:
    """Check that something can be mounted over what lies here. Returns the absolute path. PinnerfsError as `claim`.

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
