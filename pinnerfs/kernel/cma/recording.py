"""The records of a round as those of the kernel's ring."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.cma.chains import Chains, Site
from pinnerfs.kernel.cma.isolation import migratetypes
from pinnerfs.kernel.cma.pages import AreaPages
from pinnerfs.kernel.cma.roundrows import RoundRows
from pinnerfs.kernel.cma.rounds import Round
from pinnerfs.kernel.cma.rows import Look, Rows
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.ring import KINDS, RECORD
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, PAGE_LRU, ZONE_SHIFT

__all__ = ["record_round"]


def record_round(
    pinner: Pinner, found: AreaPages, outcome: Round, chains: Chains, caller: tuple[str, ...], pages: int, now: int
) -> None:
    """Add the records of a round, for an allocation of so many pages, to the ring of failures."""
    file = pinner.generation.failure_file
    if file is None:
        return
    ring, counts = pinner.rings[file], outcome.counts()
    total = int(counts.sum())
    if not total:
        return
    # The newest records that fill the ring, of whole tries. Further ones would be overwritten at once.
    newest_first = np.cumsum(counts[::-1])
    kept = int(np.searchsorted(newest_first, ring.size)) + 1
    tries = np.arange(max(0, len(counts) - kept), len(counts))
    rows = RoundRows(outcome).rows(tries[counts.take(tries) > 0])
    ring.append(_records(pinner, found, rows, chains, caller, pages, now), total - len(rows))


def _records(
    pinner: Pinner, found: AreaPages, rows: Rows, chains: Chains, caller: tuple[str, ...], pages: int, now: int
) -> Rows:
    memory, base_pfn = pinner.memory, found.area.base_pfn
    records = np.zeros(len(rows), dtype=RECORD)
    records["pfn"] = pfn = base_pfn + rows["page"]
    puts = rows["kind"] == KINDS.index(RecordKind.PUT)
    records["time"] = np.where(puts, pinner.put_times(found.base + rows["page"], now), now)
    records["flags"] = np.array([_flags(found, look) for look in Look], dtype=np.uint64).take(rows["look"])
    has_mapping = (rows["look"] != Look.free) & (rows["look"] != Look.left)
    records["mapping"] = has_mapping * np.uint64(found.mapping)
    for column in ("count", "mapcount", "kind"):
        records[column] = rows[column]
    handles = np.zeros(len(Site), dtype=np.int32)
    for site in np.unique(rows["site"]).tolist():
        handles[site] = chains.handle(Site(site), caller)
    records["handle"] = handles.take(rows["site"])
    records["migratetype"] = migratetypes(memory, pfn, base_pfn + rows["first"], pages)
    return records


def _flags(found: AreaPages, look: Look) -> int:
    """Return the flags of a page of the area."""
    if look == Look.free:
        return found.flags >> ZONE_SHIFT << ZONE_SHIFT
    if look == Look.on_lru:
        return found.flags | PAGE_LRU
    flags = found.flags & ~PAGE_LRU
    if look != Look.off_lru and not found.of_file:
        # The page was written to, so taking its mapping away makes it dirty. The other bit is PG_anon_exclusive.
        flags = (flags | 1 << PAGE_FLAG_BITS["dirty"]) & ~(1 << PAGE_FLAG_BITS["mappedtodisk"])
    if look == Look.locked:
        return flags | 1 << PAGE_FLAG_BITS["locked"]
    if look == Look.left:
        # Imitates folio_migrate_flags() and folio_migrate_mapping(): these flags go with the contents.
        gone = ["active", "unevictable", *(["dirty"] if found.of_file else [])]
        return flags & ~sum(1 << PAGE_FLAG_BITS[name] for name in gone)
    return flags
