"""Check what a budget is for: one for a misspelt name, or for a file that cannot be read, would always be met."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pinnerfs.report.kernels import kinds_recorded
from pinnerfs.report.model import Capture, Kind
from pinnerfs.report.naming import Sites

__all__ = ["why_always_met"]

# The memory of a device does not span so many times the page frame where it begins: it begins at 2 GiB. An address is
# 4096 times its page frame.
_FARTHEST = 64

# Kinds whose records never show a site that held pages.
_OF_NO_HOLDER: frozenset[Kind] = frozenset({"DETECT", "FREE"})


def why_always_met(
    captures: Sequence[Capture],
    names: Sites,
    wanted: Collection[str],
    kinds: Collection[Kind],
    pfn: tuple[int, int] | None,
) -> str | None:
    """Return why no record of such inputs can ever break a budget, or None.

    A choice without a record today is no reason: the driver behaves, and its budget is met.
    captures: the last one is what the budget counts. wanted, kinds, pfn: the values of --site, --kind and --pfn.
    """
    for capture in captures:
        if all(dump.unreadable for dump in capture.dumps):
            return f"no record of {', '.join(capture.sources)} could be read, so a budget cannot be checked"
    for word in wanted:
        if not _is_known(word, captures, names):
            return (
                f"--site {word}: no record and no list of names has this owner or function; correct it, or add the "
                "functions of the driver with --sites FILE"
            )
    possible = _kinds(captures[-1])
    for kind in kinds:
        wants = ", ".join(name.lower() for name in sorted(possible - _OF_NO_HOLDER))
        if kind not in possible:
            kernels = captures[-1].generation.replace("|", " or ")
            return f"--kind {kind.lower()}: the kernel {kernels} has no such records; wanted one of {wants}"
        if kind in _OF_NO_HOLDER:
            return (
                f"--kind {kind.lower()}: a budget counts sites that held pages, and such a record shows none; wanted "
                f"one of {wants}"
            )
    last = max((_last_pfn(capture) for capture in captures), default=0)
    if pfn is not None and 0 < last * _FARTHEST < pfn[0]:
        return (
            f"--pfn {pfn[0]:#x}-{pfn[1]:#x}: the last pageblock in the input ends at {last:#x}; wanted numbers of page "
            "frames, which are addresses divided by the page size"
        )
    return None


def _is_known(word: str, captures: Sequence[Capture], names: Sites) -> bool:
    # A key is a hash: of which site cannot be told.
    if re.fullmatch("[0-9a-f]{8}", word) or names.knows(word):
        return True
    stacks = {(record.kind, record.stack) for capture in captures for record in capture.records}
    found = [names.name(kind, stack) for kind, stack in stacks]
    return any(word == name.owner or word in name.site for name in found)


def _kinds(capture: Capture) -> set[Kind]:
    return {record.kind for record in capture.records} | kinds_recorded(capture.generation)


def _last_pfn(capture: Capture) -> int:
    """Return the last page frame of the areas and pageblocks in a capture; 0 if it has none."""
    ends = [area.base_pfn + area.pages - 1 for area in capture.areas]
    for pfn, block in {(record.pfn, record.block) for record in capture.records}:
        order = pfn.bit_length() - block.bit_length()  # block is pfn >> order
        ends.append(((block + 1) << order) - 1)
    return max(ends, default=0)
