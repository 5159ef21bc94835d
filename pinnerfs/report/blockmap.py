"""A map of pageblocks as damo draws heat maps: a row of digits, one for a block or for some blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from pinnerfs.report import units
from pinnerfs.report.extents import union
from pinnerfs.report.lines import WIDTH, Line, Span, text
from pinnerfs.report.model import Hold, Report
from pinnerfs.report.selection import HOLDERS, holds_shown

__all__ = ["BlockMap", "Row", "block_map", "block_maps"]

_LABEL = 10  # columns for the key of a site
_CELLS = WIDTH - _LABEL
_ROWS = 5  # sites that get a row of their own


class Row(msgspec.Struct, frozen=True):
    """The share of pages that a site held, from 0 to 1, for each cell of the map. key: "" for all sites."""

    key: str
    shares: tuple[float, ...]


class BlockMap(msgspec.Struct, frozen=True):
    """The pageblocks of an area: `per_cell` blocks from `first` on in each cell."""

    name: str
    first: int
    last: int
    per_cell: int
    block_pages: int
    rows: tuple[Row, ...]


def block_maps(report: Report, cells: int = _CELLS) -> list[BlockMap]:
    """Return a map of each CMA area with a held page; of all touched blocks if no area is known."""
    if report.pageblock_order is None:
        return []
    block_pages = 1 << report.pageblock_order
    sites = [site for site in report.sites if site.role in HOLDERS]
    holds = holds_shown(report)
    touched = {block for hold in holds for block in hold.blocks}
    places = [
        (area.name, area.base_pfn // block_pages, (area.base_pfn + area.pages - 1) // block_pages)
        for area in report.areas
        if area.pages > 0
    ]
    maps = [place for place in places if any(place[1] <= block <= place[2] for block in touched)]
    if not maps and touched:
        maps = [("", min(touched), max(touched))]
    keys = {hold.key for hold in holds}
    held = {site.key: _held(holds, {site.key}, block_pages) for site in sites[:_ROWS] if len(keys) > 1}
    everything = _held(holds, keys, block_pages)
    made = []
    for name, first, last in maps:
        per_cell = -(-(last - first + 1) // cells)
        rows = [Row("", _shares(everything, first, last, per_cell, block_pages))]
        rows += [Row(key, _shares(of, first, last, per_cell, block_pages)) for key, of in held.items()]
        made.append(BlockMap(name, first, last, per_cell, block_pages, tuple(row for row in rows if any(row.shares))))
    return made


def block_map(report: Report) -> list[Line]:
    """Return the maps as lines of WIDTH columns."""
    lines: list[Line] = []
    for area in block_maps(report):
        name = f"CMA area {area.name}" if area.name else "all blocks touched"
        blocks = f"blocks {area.first}-{area.last}" if area.first < area.last else f"block {area.first}"
        lines.append(
            text(f"{name}: {blocks}, {units.memory(area.block_pages)} each, {_blocks(area.per_cell)} a column")
        )
        for row in area.rows:
            lines.append((Span(f"{row.key or 'all':<{_LABEL}}"), *(_digit(share) for share in row.shares)))
    if lines:
        lines.append(text(". nothing held, 0 up to a tenth of the pages, ... 9 more than nine tenths", "dim"))
    return lines


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count} blocks"


def _digit(share: float) -> Span:
    if not share:
        return Span(".", "dim")
    return Span(str(min(9, int(share * 10))), "bar")


def _held(holds: Iterable[Hold], keys: set[str], block_pages: int) -> dict[int, int]:
    """Return how many distinct pages of each block were held."""
    ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for hold in holds:
        if hold.key in keys:
            for block, first, end in _ranges(hold, block_pages):
                ranges[block].append((first, end))
    return {block: union(of) for block, of in ranges.items()}


def _ranges(hold: Hold, block_pages: int) -> Iterable[tuple[int, int, int]]:
    """Yield the pages that a hold has in each block. Scattered pages are spread evenly over its blocks."""
    end = hold.pfn + hold.pages
    if (*range(hold.pfn // block_pages, (end - 1) // block_pages + 1),) == hold.blocks:
        for block in hold.blocks:
            start = block * block_pages
            yield block, max(hold.pfn, start), min(end, start + block_pages)
        return
    each = max(1, min(block_pages, hold.pages // max(1, len(hold.blocks))))
    for block in hold.blocks:
        yield block, block * block_pages, block * block_pages + each


def _shares(held: dict[int, int], first: int, last: int, per_cell: int, block_pages: int) -> tuple[float, ...]:
    # An area of a hostile dump may have any size: the time depends on the held blocks only.
    pages = [0] * -(-(last - first + 1) // per_cell)
    for block, count in held.items():
        if first <= block <= last:
            pages[(block - first) // per_cell] += count
    return tuple(min(1.0, count / (per_cell * block_pages)) for count in pages)
