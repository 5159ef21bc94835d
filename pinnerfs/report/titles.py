"""The lines that dump programs print around files: titles, ends and errors. Android's dumpstate is the model."""

from __future__ import annotations

import re
from typing import NamedTuple

from pinnerfs.report.parse import RECORD_FILES

__all__ = ["CAPTURE_END", "Title", "capture_version", "debugfs_path", "problem_of", "record_file", "title_of"]

# The first and the last title of what `pinnerfs record` writes. The first has the version of its format.
_CAPTURE = re.compile(r"PINNERFS CAPTURE (?P<version>\S+)")
CAPTURE_END = "END"

_PATH = re.compile(r"(?P<path>/[^():]*)(?:: [^()]*)?\)")
_END = re.compile(r"------ [0-9.]+s was the duration of ")

_UNREADABLE = re.compile(r"Unable to read (?P<path>/[^\s:]+)(?:: (?P<why>.*))?")
_NOT_DUMPED = re.compile(r"\*\*\* Error dumping (?P<path>/\S+) \(.*?\): (?P<why>.*)")
_FAILED = re.compile(r"\*\*\* (?P<path>/[^:]+): Failed to read from fd: (?P<why>.*)")

_ROOTS = re.compile(r"(?:/sys/kernel/debug|/d)/(?P<path>.+)")


class Title(NamedTuple):
    """The beginning of a section; with an empty title, the end of one. path: "" if the title has none."""

    title: str
    path: str


def title_of(line: str) -> Title | None:
    """Return the title that a line is, or None."""
    at = line.find("------ ")
    if at < 0:
        return None
    if _END.match(line, at):
        return Title("", "")
    # `------ TITLE (PATH) ------`, in which a time may stand behind the path. A pattern for it takes cubic time.
    title = line[at + 7 :].rstrip(" ")
    if not title.endswith(" ------"):
        return None
    title = title[:-7].strip()
    before, _, inner = title.rpartition("(")
    match = _PATH.fullmatch(inner)
    return Title(before.rstrip(), match["path"]) if match else Title(title, "")


def problem_of(line: str) -> tuple[str, str] | None:
    """Return the path of a file that the dump program could not read, and why; None for another line."""
    match = _UNREADABLE.search(line)
    if match:
        return match["path"], match["why"] or "the dump program could not read it"
    match = _NOT_DUMPED.search(line) or _FAILED.match(line, max(line.rfind("*** /"), 0))
    return (match["path"], match["why"]) if match else None


def capture_version(title: str) -> str | None:
    """Return the version of the capture format that a title names, or None for another title."""
    match = _CAPTURE.fullmatch(title)
    return match["version"] if match else None


def debugfs_path(path: str) -> str:
    """Return a path without the debugfs root, or the path itself if it is elsewhere."""
    match = _ROOTS.fullmatch(path)
    return match["path"] if match else path


def record_file(path: str) -> str:
    """Return which record file a path leads to, or ""."""
    name = path.rpartition("/")[2]
    return name if name in RECORD_FILES and f"page_pinner/{name}" in path else ""
