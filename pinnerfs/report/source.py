"""An input of a report, and which file of a debugfs it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pinnerfs.report.parse import RECORD_FILES

__all__ = ["MAX_WAIT", "STDIN", "Source", "input_name", "named", "place_of"]

STDIN = "-"
MAX_WAIT = 10.0  # seconds without an answer from a file system


class Source(NamedTuple):
    """An input. path: of the file in its debugfs, `page_pinner/buffer`, or "" where nothing tells it.

    pieces: reads it; in the end `problems` has why it could not be read to its end.
    """

    name: str
    path: str
    pieces: Iterator[bytes]
    problems: list[str]


def input_name(path: str) -> str:
    """Return the name of an input, as messages have it."""
    return "stdin" if path == STDIN else path


def named(paths: Iterable[str]) -> str:
    """Return the names of several inputs."""
    return ", ".join(map(input_name, paths))


def place_of(path: str) -> str:
    """Return the end of a path from `page_pinner/` or `cma/` on, or ""."""
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if (part == "page_pinner" and at + 2 == len(parts)) or (part == "cma" and at + 3 == len(parts)):
            return "/".join(parts[at:])
    return f"page_pinner/{parts[-1]}" if parts[-1] in RECORD_FILES else ""
