"""Tell a capture from a scenario by its content."""

from __future__ import annotations

import os
import stat

from pinnerfs.scenario.content import is_dump, is_toml
from pinnerfs.scenario.limits import LIMITS

__all__ = ["is_capture"]

_BEGIN = 1 << 16  # bytes to look at
# A zip, gzip and xz; and UTF-16, as PowerShell redirects text.
_NO_SCENARIO = (b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ\0", b"\xff\xfe", b"\xfe\xff")


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
            begin = os.read(descriptor, _BEGIN)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False
    if begin.startswith(_NO_SCENARIO):
        return True
    if is_toml(begin):
        return False
    return not begin or is_dump(begin) or found.st_size > LIMITS.file
