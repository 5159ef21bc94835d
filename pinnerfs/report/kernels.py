"""Which kernels print records of this form. The forms are data of kernel/page_pinner/generations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, get_args

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.report.model import DumpRecord, Kind

__all__ = [
    "KNOWN_FILES",
    "UNKNOWN",
    "always_records_pins",
    "generation_of",
    "generations_named",
    "hides_foll_pin",
    "kinds_recorded",
    "records_pins",
]

UNKNOWN = "unknown"

# The names of all files of page_pinner/ that any kernel has.
KNOWN_FILES = frozenset(name for generation in GENERATIONS.values() for name in generation.files)

_VERSION = r"Linux version (\d+\.\d+)"


class _Form(NamedTuple):
    """How a record is printed. counted: whether it has a count of pins above 0."""

    file: str
    first: str
    page: str
    flags: str
    counted: bool


# The constant beginnings of first lines, so that one that begins with another comes first.
_BEGINNINGS = sorted(
    {
        line.partition("{")[0]
        for generation in GENERATIONS.values()
        for layout in generation.layouts.values()
        for line in layout.lines.values()
    },
    reverse=True,
)


def _form(record: DumpRecord) -> _Form:
    head = record.head
    first = next(beginning for beginning in _BEGINNINGS if head.startswith(beginning))
    flags = head[head.rindex(" Flags ") :]
    form = "doubled" if "(0x" in flags else "fields" if "zone=" in flags else "names"
    page = "counts" if record.type is None else "type"
    return _Form(record.file, first, page, form, page == "type" and record.count > 0)


def _prints(generation: Generation, form: _Form, flags: bool) -> bool:
    if form.page == "type" and form.counted != (generation.counts == "pins"):
        return False
    return any(
        form.file in ("", file)
        and layout.page == form.page
        and (layout.flags == form.flags or not flags)
        and any(line.partition("{")[0] == form.first for line in layout.lines.values())
        for file, layout in generation.layouts.items()
    )


def generation_of(records: Iterable[DumpRecord], files: Iterable[str], version: str) -> str:
    """Return the names of the kernels that fit, joined by `|`, or UNKNOWN.

    files: names of files of page_pinner/ that the input has; one that no known kernel has tells nothing.
    version: its line "Linux version ...", or "".
    """
    # A capture has thousands of records, but few forms. Records that are alike in these parts have one form.
    samples = {}
    last = None
    for record in records:
        if record is last:
            continue
        last = record
        head = record.head
        page = record.type is None, record.count > 0, "(0x" in head, "zone=" in head
        samples[record.file, record.kind, record.at_us is None, head[0], *page] = record
    forms = set(map(_form, samples.values()))
    present = KNOWN_FILES.intersection(files)
    if not forms and not present:
        return UNKNOWN
    having = [generation for generation in GENERATIONS.values() if present <= set(generation.files)]
    fits = [generation for generation in having if all(_prints(generation, form, flags=True) for form in forms)]
    if not fits and len({form.flags for form in forms}) == 1:
        # A page_pinner that was ported to another kernel prints the flags of that kernel.
        fits = [generation for generation in having if all(_prints(generation, form, False) for form in forms)]
    match = re.search(_VERSION, version)
    if match and len(fits) > 1:
        # Only the names of the later kernels have a version. It decides only between kernels that fit.
        fits = [generation for generation in fits if f"-{match[1]}" in generation.name] or fits
    return "|".join(generation.name for generation in fits) or UNKNOWN


def generations_named(names: str) -> list[Generation]:
    """Return the kernels behind the names that `generation_of` returns."""
    return [GENERATIONS[name] for name in names.split("|") if name in GENERATIONS]


def kinds_recorded(names: str) -> set[Kind]:
    """Return the kinds of records that one of these kernels has; all if it is not known which kernel it is."""
    found = generations_named(names)
    if not found:
        return set(get_args(Kind))
    kinds: set[Kind] = set()
    for generation in found:
        for file, layout in generation.layouts.items():
            if file == "longterm_pinner":
                kinds.add("PIN")
            else:
                kinds.update("EVENT" if kind is None else kind.value for kind in layout.lines)
    return kinds


def hides_foll_pin(names: str) -> bool | None:
    """Tell whether these kernels leave out pins by pin_user_pages; None if only some of them do, or none is known."""
    shown = {Event.pin_user_pages in generation.pins for generation in generations_named(names)}
    return not shown.pop() if len(shown) == 1 else None


def records_pins(names: str) -> bool:
    """Tell whether one of these kernels records long-term pins at all, or it is not known which kernel it is."""
    found = generations_named(names)
    return not found or any(generation.has_threshold for generation in found)


def always_records_pins(names: str) -> bool:
    """Tell whether each kernel that it can be records long-term pins."""
    found = generations_named(names)
    return bool(found) and all(generation.has_threshold for generation in found)
