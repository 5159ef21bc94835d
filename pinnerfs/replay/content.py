"""Tell a capture from a scenario by its content."""

from __future__ import annotations

import os
import re
import stat

from pinnerfs.scenario.limits import LIMITS

__all__ = ["is_capture"]

_BEGIN = 1 << 16  # bytes to look at
_PACKED = (b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ\0")  # zip, gzip, xz

# The first line of a TOML file that is no comment: a table, or a key with its value.
_TOML = re.compile(rb"\[\[?\s*[A-Za-z]|[A-Za-z_\"'][\w.\"' -]*=")
# What dump programs and page_pinner print.
_DUMP = re.compile(rb"------ |== dumpstate|Page pinned |At least, pinned for |Freed at \[|Failure detected at \[")


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
        with open(path, "rb", buffering=0) as file:
            begin = file.read(_BEGIN)
    except (OSError, ValueError):
        return False
    if begin.startswith(_PACKED):
        return True
    first = next((line for line in map(bytes.strip, begin.split(b"\n")) if line and not line.startswith(b"#")), b"")
    if _TOML.match(first):
        return False
    return not begin or _DUMP.search(begin) is not None or found.st_size > LIMITS.file
