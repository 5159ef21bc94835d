"""Open a log file, also in a directory where other users can make files."""

from __future__ import annotations

import errno
import os
import stat

from pinnerfs.errors import PinnerfsError

__all__ = ["open_log_file"]

# O_NONBLOCK: a pipe without a reader must not block the mount.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
SHARED = stat.S_ISVTX | stat.S_IWOTH  # the mode of a directory such as /tmp
MAX_LINKS = 40  # as in the kernel


def open_log_file(path: str) -> int:
    """Open a file to append to. PinnerfsError if it cannot be opened.

    Follows no symbolic link of another user in a sticky directory that all users can write: the log of root would go
    where that user wants. The kernel's may_follow_link() has the same rule, if fs.protected_symlinks is 1.
    """
    name = path
    try:
        for _ in range(MAX_LINKS):
            directory = os.path.dirname(name) or "."
            if _is_magic(directory):
                return os.open(name, FLAGS, 0o666)
            if not os.path.islink(name):
                return os.open(name, FLAGS | os.O_NOFOLLOW, 0o666)
            link, place = os.lstat(name), os.stat(directory)
            if place.st_mode & SHARED == SHARED and link.st_uid not in (os.geteuid(), place.st_uid):
                raise PinnerfsError(
                    f"cannot open log file {path}: {name} is a symbolic link of another user (uid {link.st_uid}), in a "
                    "directory that all users can write; wanted a file"
                )
            name = os.path.join(directory, os.readlink(name))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError as error:
        raise PinnerfsError(f"cannot open log file {path}: {error.strerror}") from None


def _is_magic(directory: str) -> bool:
    """Return whether links in this directory, such as /proc/self/fd/2, have to be followed by the kernel."""
    try:
        return os.stat(directory).st_dev == os.stat("/proc").st_dev
    except OSError:
        return False
