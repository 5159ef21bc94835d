"""Whether a scenario can be mounted somewhere, and keeping others off until it is."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.table import FSTYPE, absolute, fusermount, is_dead, mounted, unmount_lazily

__all__ = ["Claim", "claim", "prepare_to_cover"]

PATIENCE = 10  # seconds that another pinnerfs has to get done with a mount point


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
    path = os.path.realpath(mountpoint) if not is_dead(mountpoint) else absolute(mountpoint)
    word = _clear(mountpoint, path) if is_dead(path) else None
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
        if not is_dead(path):
            return None
        kind = mounted(path)
        if kind != FSTYPE:
            raise PinnerfsError(f"cannot mount on {mountpoint}: a dead mount ({kind}) that is not ours lies there")
        unmount_lazily(path)
        if is_dead(path):
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
    kind = mounted(path)
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
