"""Check the choices of a report: a budget for a misspelt name, or for a file that cannot be read, is always met."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pinnerfs.report.kernels import kinds_recorded
from pinnerfs.report.model import Capture, Kind
from pinnerfs.report.naming import Sites
from pinnerfs.report.source import named

__all__ = ["NEW", "unknown_sites", "why_always_met"]

NEW = "new"  # what --fail-on-new counts

_KEY = re.compile("[0-9a-f]{8}")

# The memory of a device does not span so many times the page frame where it begins: it begins at 2 GiB. An address is
# 4096 times its page frame.
_FARTHEST = 64

# The kinds whose records a budget counts: those of sites that held pages, or of allocations that were refused.
_OF_HOLDERS: frozenset[Kind] = frozenset({"PIN", "PUT", "EVENT"})
_OF_REFUSED: frozenset[Kind] = frozenset({"DETECT", "EVENT"})


def why_always_met(
    captures: Sequence[Capture],
    names: Sites,
    wanted: Collection[str],
    kinds: Collection[Kind],
    pfn: tuple[int, int] | None,
    fields: Collection[str],
) -> str | None:
    """Return why no record of such inputs can ever break a budget, or None.

    A choice without a record today is no reason: the driver behaves, and its budget is met.
    captures: the last one is what the budget counts. wanted, kinds, pfn: the values of --site, --kind and --pfn.
    fields: what the budgets count, and NEW for --fail-on-new.
    """
    for capture in captures:
        if all(dump.unreadable for dump in capture.dumps):
            return f"no record of {named(capture.sources)} could be read, so a budget cannot be checked"
    for word in unknown_sites(captures, names, wanted):
        if not _KEY.fullmatch(word):  # a key is a hash: it may be of a site that has no record today
            return (
                f"--site {word}: no record and no list of names has this owner or function; correct it, or add the "
                "functions of the driver with --sites FILE"
            )
    if "refused" in fields and (reason := _why_never_refused(captures[-1], wanted)) is not None:
        return reason
    possible = _kinds(captures[-1])
    for kind in kinds:
        if kind not in possible:
            kernels = captures[-1].generation.replace("|", " or ")
            wants = _names(possible & {kind for field in fields for kind in _counted(field)})
            return f"--kind {kind.lower()}: the kernel {kernels} has no such records; wanted one of {wants}"
    for field in fields:
        if kinds and not _counted(field).intersection(kinds):
            who = "--fail-on-new" if field == NEW else f"a budget for {field}"
            what = "allocations that were refused" if field == "refused" else "sites that held pages"
            return (
                f"--kind {_names(kinds)}: {who} counts {what}, and such a record shows none; wanted "
                f"one of {_names(possible & _counted(field))}"
            )
    last = max((_last_pfn(capture) for capture in captures), default=0)
    if pfn is not None and 0 < last * _FARTHEST < pfn[0]:
        return (
            f"--pfn {pfn[0]:#x}-{pfn[1]:#x}: the last pageblock in the input ends at {last:#x}; wanted numbers of page "
            "frames, which are addresses divided by the page size"
        )
    return None


def unknown_sites(captures: Sequence[Capture], names: Sites, wanted: Collection[str]) -> list[str]:
    """Return the values of --site that are neither in a record of these inputs nor in the lists of names."""
    unknown = [word for word in dict.fromkeys(wanted) if not names.knows(word)]
    if not unknown:
        return []
    stacks = {(record.kind, record.stack) for capture in captures for record in capture.records}
    found = [names.name(kind, stack) for kind, stack in stacks]
    return [word for word in unknown if not any(word in (name.key, name.owner) or word in name.site for name in found)]


def _why_never_refused(capture: Capture, wanted: Collection[str]) -> str | None:
    """Return why no record that is chosen can show a refused allocation, or None."""
    if wanted:
        return "--site: a budget for refused counts the allocations of all sites; give it without --site"
    pins = {record.dump for record in capture.records if record.kind == "PIN"}
    pins -= {record.dump for record in capture.records if record.kind != "PIN"}
    if all(
        dump.unreadable or dump.file == "longterm_pinner" or place in pins for place, dump in enumerate(capture.dumps)
    ):
        return (
            f"{named(capture.sources)} has only long-term pins, so a budget for refused cannot be checked; wanted "
            "alloc_contig_failed or buffer of the device"
        )
    return None


def _counted(field: str) -> frozenset[Kind]:
    """Return the kinds whose records a budget for this field counts."""
    return _OF_REFUSED if field == "refused" else _OF_HOLDERS


def _names(kinds: Collection[Kind]) -> str:
    return ", ".join(sorted(kind.lower() for kind in kinds))


def _kinds(capture: Capture) -> set[Kind]:
    return {record.kind for record in capture.records} | kinds_recorded(capture.generation)


def _last_pfn(capture: Capture) -> int:
    """Return the last page frame of the areas and pageblocks in a capture; 0 if it has none."""
    ends = [area.base_pfn + area.pages - 1 for area in capture.areas]
    for pfn, block in {(record.pfn, record.block) for record in capture.records}:
        order = pfn.bit_length() - block.bit_length()  # block is pfn >> order
        ends.append(((block + 1) << order) - 1)
    return max(ends, default=0)
