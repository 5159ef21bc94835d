"""The text of other files beside the records: CMA's areas, the threshold, the kernel's version."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pinnerfs.kernel.pageflags import PAGE_SIZE
from pinnerfs.report.model import Area
from pinnerfs.report.parse import MAX_PFN

__all__ = ["DMESG", "VERSION", "area_of_log", "areas_of", "is_wanted", "number", "unwrapped"]

VERSION = "/proc/version"
DMESG = "dmesg"

_PROC = frozenset({VERSION, "/proc/cmdline", "/proc/meminfo"})

# Patterns are compiled when they are first used.
# cma_declare_contiguous_nid(), and rmem_cma_setup() for areas of the device tree.
# Numbers of 64 bits.
_RESERVED = r"cma: Reserved (?P<size>[0-9]{1,20}) (?P<unit>[KMG])iB at (?P<at>0x[0-9a-f]{1,16})\b"
_CREATED = (
    r"Reserved memory: created CMA memory pool at (?P<at>0x[0-9a-f]{1,16})"
    r", size (?P<size>[0-9]{1,20}) (?P<unit>[KMG])iB"
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def is_wanted(path: str) -> bool:
    """Tell whether the text of a file is kept: of any file of the debugfs, whose path is without its root."""
    return (path != "" and not path.startswith("/")) or path in _PROC


def unwrapped(text: str, *, padded: bool) -> str:
    """Return the text of a section as the file had it. padded: whether the dump program adds a newline to each file.

    `adb shell` may turn each newline into CR LF, which no file of a debugfs has.
    """
    if "\r\n" in text and text.count("\n") == text.count("\r\n"):
        text = text.replace("\r\n", "\n")
    return text[:-1] if padded and text.endswith("\n\n") else text


def number(sections: Mapping[str, str], path: str) -> int | None:
    """Return the number in the first line of a section, or None."""
    text = sections.get(path, "").lstrip().partition("\n")[0].rstrip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None


def area_of_log(line: str, number: int) -> Area | None:
    """Return the CMA area that a line of the kernel's log reserves, or None."""
    match = re.search(_RESERVED, line) or re.search(_CREATED, line)
    if match is None:
        return None
    base, pages = int(match["at"], 16) // PAGE_SIZE, int(match["size"]) * _UNITS[match["unit"]] // PAGE_SIZE
    return Area(f"cma{number}", base, pages, origin=DMESG) if _exists(base, pages) else None


def _exists(base: int, pages: int) -> bool:
    """Tell whether a machine can have these pages."""
    return base >= 0 and pages > 0 and base + pages <= MAX_PFN


def areas_of(sections: Mapping[str, str]) -> list[Area]:
    """Return the areas of `cma/NAME/`. One without a base_pfn has no known place, so it is left out."""
    areas = []
    for path in sections:
        match = re.fullmatch(r"cma/([^/]+)/base_pfn", path)
        if match is None:
            continue
        name = match[1]
        base, pages = number(sections, path), number(sections, f"cma/{name}/count")
        if base is not None and pages is not None and _exists(base, pages):
            areas.append(Area(name, base, pages, number(sections, f"cma/{name}/used")))
    return areas
