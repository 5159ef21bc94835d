"""Check a mount point before a mount, and lock it against other pinnerfs processes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.table import FSTYPE, fusermount, is_dead, mounted_type, resolve, unmount_lazily

__all__ = ["Claim", "claim", "prepare_to_cover"]

LOCK_TIMEOUT = 10  # seconds to wait for another pinnerfs that uses the mount point


def _check_device() -> None:
    """Open /dev/fuse, as its mode does not tell whether that works: a container may forbid it."""
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        reason, remedy = "Not a device", "rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229"
    except OSError as error:
        is_device = False
        reason = os.strerror(error.errno or 0)
        remedy = "chmod 666 /dev/fuse" if error.errno == errno.EACCES else "modprobe fuse"
    if not is_device:
        raise PinnerfsError(
            f"cannot open /dev/fuse: {reason}; wanted a device to read and write (as root: {remedy}; "
            "for a container: --device /dev/fuse)",
            NO_FUSE,
        )


def _lock(directory: str) -> int | None:
    """Lock a directory against other pinnerfs processes. Return the descriptor to close, or None without a lock.

    Goes on without the lock after LOCK_TIMEOUT: a process that is no pinnerfs may hold it for another purpose.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
        except OSError:
            pass  # a network file system without locks
        os.close(descriptor)
        return None


@dataclass
class Claim:
    """A mount point that passed the checks, locked against other pinnerfs processes until `release`."""

    path: str  # absolute
    notice: str | None  # for the user: the dead mount that was replaced
    _lock: int | None

    def release(self) -> None:
        """Unlock. In a forked child this keeps the parent's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def claim(mountpoint: str) -> Claim:
    """Check that pinnerfs can mount here, and lock the directory. Unmounts a dead mount of an earlier daemon.

    PinnerfsError if this is a mount point already, is missing, is not a directory or is not empty, or if this machine
    cannot mount through FUSE.
    """
    path = resolve(mountpoint, "mount on")
    notice = _clear(mountpoint, path) if is_dead(path) else None
    claimed = Claim(path, notice, _lock(path))
    try:
        _check_directory(mountpoint, path)
        _check_device()
        if os.geteuid() != 0:
            fusermount()
    except PinnerfsError:
        claimed.release()
        raise
    return claimed


def _clear(mountpoint: str, path: str) -> str | None:
    """Unmount a dead mount. Return a notice for the user, or None if another process has unmounted it meanwhile."""
    # Another process may have mounted here since we looked: look again under the lock, and leave a live mount alone.
    lock = _lock(os.path.dirname(path))
    try:
        if not is_dead(path):
            return None
        fstype = mounted_type(path)
        if fstype != FSTYPE:
            raise PinnerfsError(f"cannot mount on {mountpoint}: a dead mount of another type ({fstype}) is there")
        unmount_lazily(path)
        if is_dead(path):
            raise PinnerfsError(
                f"cannot mount on {mountpoint}: the dead mount there cannot be unmounted (as root: umount -l {path})"
            )
        return f"{mountpoint}: replaced a dead mount that an earlier daemon left"
    finally:
        if lock is not None:
            os.close(lock)


def _check_directory(mountpoint: str, path: str) -> None:
    try:
        entries = os.listdir(path)
    except OSError as error:
        raise PinnerfsError(f"cannot mount on {mountpoint}: {error.strerror}") from None
    fstype = mounted_type(path)
    if fstype is not None:
        raise PinnerfsError(
            f"cannot mount on {mountpoint}: it is already a mount point ({fstype}); wanted an empty directory"
        )
    if entries:
        raise PinnerfsError(f"cannot mount on {mountpoint}: the directory is not empty ({entries[0]!r} is in it)")


def prepare_to_cover(mountpoint: str) -> str:
    """Check that pinnerfs can mount over this directory, and return its absolute path. PinnerfsError as for `claim`.

    For a private mount namespace: the directory may have contents, even a mount. Nothing is unmounted.
    """
    path = resolve(mountpoint, "mount over")
    try:
        is_directory = stat.S_ISDIR(os.stat(mountpoint).st_mode)
    except OSError as error:
        raise PinnerfsError(f"cannot mount over {mountpoint}: {error.strerror}; wanted a directory") from None
    if path == "/":
        raise PinnerfsError(f"cannot mount over {mountpoint}: the mount would be hidden; wanted a directory below /")
    if not is_directory:
        raise PinnerfsError(f"cannot mount over {mountpoint}: Not a directory; wanted a directory")
    _check_device()
    return path
