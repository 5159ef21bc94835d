"""The lines that dump programs print around files: titles, ends and errors. Android's dumpstate is the model."""

from __future__ import annotations

import re
from typing import NamedTuple

from pinnerfs.report.parse import RECORD_FILES

__all__ = ["CAPTURE_END", "Title", "capture_version", "debugfs_path", "problem_of", "record_file", "title_of"]

# Patterns are compiled when they are first used: most dumps have no such line.

# The first and the last title of what `pinnerfs record` writes. The first has the version of its format.
_CAPTURE = r"PINNERFS CAPTURE (?P<version>\S+)"
CAPTURE_END = "END"

_PATH = r"(?P<path>/[^():]*)(?:: [^()]*)?\)"
_END = r"------ [0-9.]+s was the duration of "

_UNREADABLE = r"Unable to read (?P<path>/[^\s:]+)(?:: (?P<why>.*))?"
_NOT_DUMPED = r"\*\*\* Error dumping (?P<path>/\S+) \(.*?\): (?P<why>.*)"
_FAILED = r"\*\*\* (?P<path>/[^:]+): Failed to read from fd: (?P<why>.*)"

_ROOTS = r"(?:/sys/kernel/debug|/d)/(?P<path>.+)"


class Title(NamedTuple):
    """The beginning of a section; with an empty title, the end of one. path: "" if the title has none."""

    title: str
    path: str


def title_of(line: str) -> Title | None:
    """Return the title that a line is, or None."""
    at = line.find("------ ")
    if at < 0:
        return None
    if re.match(_END, line[at:]):
        return Title("", "")
    # `------ TITLE (PATH) ------`, in which a time may stand behind the path. A pattern for it takes cubic time.
    title = line[at + 7 :].rstrip(" ")
    if not title.endswith(" ------"):
        return None
    title = title[:-7].strip()
    before, _, inner = title.rpartition("(")
    match = re.fullmatch(_PATH, inner)
    return Title(before.rstrip(), match["path"]) if match else Title(title, "")


def problem_of(line: str) -> tuple[str, str] | None:
    """Return the path of a file that the dump program could not read, and why; None for another line."""
    match = re.search(_UNREADABLE, line)
    if match:
        return match["path"], match["why"] or "the dump program could not read it"
    match = re.search(_NOT_DUMPED, line) or re.match(_FAILED, line[max(line.rfind("*** /"), 0) :])
    return (match["path"], match["why"]) if match else None


def capture_version(title: str) -> str | None:
    """Return the version of the capture format that a title names, or None for another title."""
    match = re.fullmatch(_CAPTURE, title)
    return match["version"] if match else None


def debugfs_path(path: str) -> str:
    """Return a path without the debugfs root, or the path itself if it is elsewhere."""
    match = re.fullmatch(_ROOTS, path)
    return match["path"] if match else path


def record_file(path: str) -> str:
    """Return which record file a path leads to, or ""."""
    name = path.rpartition("/")[2]
    return name if name in RECORD_FILES and f"page_pinner/{name}" in path else ""
