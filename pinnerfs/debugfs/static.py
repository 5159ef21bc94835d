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
    """Declare files with these bytes, by path below the root, with the mode 0444.

    Dump programs print the files of a directory in the order in which a kernel creates them, and directories as they
    are listed, which is the newest first.
    """
    return _entries(files, "", [path.split("/") for path in files])


def _entries(files: Mapping[str, bytes], above: str, paths: Sequence[list[str]]) -> list[File | Directory]:
    below: dict[str, list[list[str]]] = {}
    for name, *rest in paths:
        below.setdefault(name, []).append(rest)
    own: list[File] = []
    directories: list[Directory] = []
    for name, rests in below.items():
        path = f"{above}{name}"
        if path in files:
            put = _refuse if _ATTRIBUTES.fullmatch(path) else None
            own.append(text_file(name, partial(files[path].decode, errors="surrogateescape"), put=put))
        else:
            directories.append(Directory(name, 0o755, _entries(files, f"{path}/", rests)))
    return [*reversed(directories), *own]


def _refuse(data: bytes) -> None:
    raise OSError(errno.EACCES, "the attribute cannot be written")
