"""Tell a scenario's text from the dump of a device."""

from __future__ import annotations

import re

__all__ = ["is_dump", "is_toml"]

# The first line of a TOML file that is no comment: a table, or a key with its value.
_TOML = re.compile(rb"\[\[?\s*[A-Za-z]|[A-Za-z_\"'][\w.\"' -]*=")
# What dump programs and page_pinner print.
_DUMP = re.compile(rb"------ |== dumpstate|Page pinned |At least, pinned for |Freed at \[|Failure detected at \[")
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ\0")  # a zip, gzip and xz
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # as PowerShell redirects text


def is_toml(begin: bytes) -> bool:
    """Tell whether a text begins as TOML does."""
    lines = map(bytes.strip, begin.split(b"\n"))
    return bool(_TOML.match(next((line for line in lines if line and not line.startswith(b"#")), b"")))


def is_dump(begin: bytes) -> bool:
    """Tell whether a file begins as a dump: an archive, or a text with something that dump programs print.

    A text that begins as TOML does is no dump.
    """
    if begin.startswith(_UTF_16):
        begin = begin.decode("utf-16", errors="replace").encode()
    return begin.startswith(_ARCHIVES) or (not is_toml(begin) and _DUMP.search(begin) is not None)
