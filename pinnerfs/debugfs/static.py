"""Files that never change: what a capture has of a device beside page_pinner's files."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from functools import partial

from pinnerfs.debugfs.attributes import text_file
from pinnerfs.debugfs.declaration import Directory, File

__all__ = ["static_entries"]

# Simple attributes without a set operation: simple_attr_write() returns EACCES. Other files have no write operation.
_ATTRIBUTES = re.compile(r"cma/[^/]+/(?:base_pfn|count|order_per_bit|used|maxchunk)")


def static_entries(files: Mapping[str, bytes]) -> list[File | Directory]:
    """Declare files with these bytes, by path below the root, in a mode of 0444.

    The first of `files` are listed first, as if they were created last.
    """
    return _entries(files, "", [path.split("/") for path in [*files][::-1]])


def _entries(files: Mapping[str, bytes], above: str, paths: Sequence[list[str]]) -> list[File | Directory]:
    below: dict[str, list[list[str]]] = {}
    for name, *rest in paths:
        below.setdefault(name, []).append(rest)
    entries: list[File | Directory] = []
    for name, rests in below.items():
        path = f"{above}{name}"
        if path in files:
            put = _refuse if _ATTRIBUTES.fullmatch(path) else None
            entries.append(text_file(name, partial(files[path].decode, errors="surrogateescape"), put=put))
        else:
            entries.append(Directory(name, 0o755, _entries(files, f"{path}/", rests)))
    return entries


def _refuse(data: bytes) -> None:
    raise OSError(errno.EACCES, "the attribute cannot be written")
