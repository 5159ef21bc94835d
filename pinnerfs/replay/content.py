"""Tell a capture from a scenario by its content."""

from __future__ import annotations

import os
import stat

from pinnerfs.scenario.content import is_dump, is_toml
from pinnerfs.scenario.limits import LIMITS

__all__ = ["BEGIN", "is_capture", "stdin_is_capture"]

BEGIN = 1 << 16  # bytes to look at


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path leads to a capture: a directory, an archive, a dump, or an empty record file.

    A file that cannot be read, or that may be a scenario, is no capture. Neither is a pipe, which can be read only
    once.
    """
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return True
        if not stat.S_ISREG(found.st_mode) or os.fspath(path).endswith(".toml"):
            return False
        # Some regular files of /proc block reads, and another user could have put a pipe there by now.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            begin = os.read(descriptor, BEGIN)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False
    return not begin or _is_capture(begin, found.st_size)


def stdin_is_capture() -> bool:
    """Tell the same of a regular file on standard input, and leave its position. An empty one is no capture."""
    size = os.fstat(0).st_size
    if not size:
        from pinnerfs.report.titles import record_file  # takes longer than all of this module

        # A record file of a debugfs. A read may block, so only its name counts.
        return bool(record_file(os.readlink("/proc/self/fd/0")))
    return _is_capture(os.pread(0, BEGIN, os.lseek(0, 0, os.SEEK_CUR)), size)


def _is_capture(begin: bytes, size: int) -> bool:
    return is_dump(begin) or (not is_toml(begin) and size > LIMITS.file)
