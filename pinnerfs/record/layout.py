"""The form of a capture, version 1: a title for each file, and the file's bytes behind it."""

from __future__ import annotations

import re

from pinnerfs.report.live import ATTRIBUTES

__all__ = [
    "ATTRIBUTES",
    "BEGIN",
    "BUFINFO",
    "CMA_FILES",
    "DEBUGFS",
    "END",
    "PROC",
    "UNNAMED",
    "VERSION",
    "fits_title",
    "kind_of",
    "section",
    "title",
    "unreadable",
]

VERSION = 1
BEGIN = f"------ PINNERFS CAPTURE {VERSION} ------"
END = "------ END ------"
DEBUGFS = "/sys/kernel/debug"  # in titles, wherever the recorded debugfs is mounted

# The files behind the record files, in the order of a capture. record.sh has the same lists.
CMA_FILES = ("base_pfn", "count", "order_per_bit", "used", "maxchunk", "bitmap")
BUFINFO = "dma_buf/bufinfo"
PROC = ("/proc/version", "/proc/cmdline", "/proc/meminfo")

# What a title can have: printable ASCII without the characters that end a path in it.
# A shell's echo may replace a backslash.
_NAME = re.compile(r"[ -'*-9;-\[\]-~]+")
UNNAMED = "an area has a name with a parenthesis, a colon, a backslash, or a character that is no printable ASCII"

_KINDS = {
    f"{DEBUGFS}/page_pinner/": "PAGE PINNER",
    f"{DEBUGFS}/cma": "CMA",
    f"{DEBUGFS}/{BUFINFO}": "DMABUF",
    "/proc/version": "KERNEL",
    "/proc/cmdline": "COMMAND LINE",
    "/proc/meminfo": "MEMORY",
}


def fits_title(name: str) -> bool:
    """Tell whether a title can have the name of an area. record.sh has the same rule."""
    return _NAME.fullmatch(name) is not None


def kind_of(path: str) -> str:
    """Return the words in the title of a file, by its path on a device."""
    return next(kind for begin, kind in _KINDS.items() if path.startswith(begin))


def title(path: str) -> str:
    """Return the title of a file's section."""
    return f"------ {kind_of(path)} ({path}) ------"


def section(path: str, text: bytes, error: str = "") -> bytes:
    """Return the section of a file. error: why the file could not be read to its end."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return f"{title(path)}\n".encode(errors="surrogateescape") + text + (unreadable(path, error) if error else b"")


def unreadable(path: str, reason: str) -> bytes:
    """Return the line that stands for what could not be read."""
    return f"Unable to read {path}: {reason}\n".encode(errors="surrogateescape")
