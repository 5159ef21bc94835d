"""From a capture to a report."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec.structs import replace

from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.report.answer import headline, what_it_proves
from pinnerfs.report.blame import Blame, blame
from pinnerfs.report.evidence import Evidence
from pinnerfs.report.findings import findings
from pinnerfs.report.holds import Places, groups, hold_of
from pinnerfs.report.model import Capture, DumpRecord, Hold, Report
from pinnerfs.report.naming import Sites, load_sites
from pinnerfs.report.sections import number
from pinnerfs.report.source import MAX_WAIT
from pinnerfs.report.times import Times
from pinnerfs.report.twice import read_twice

__all__ = ["analyse", "call_sites"]


def analyse(
    capture: Capture,
    sites: str | os.PathLike[str] | Sites | None = None,
    dedup: bool = False,
    max_wait: float = MAX_WAIT,
) -> Report:
    """Return the report of a capture. Raise PinnerfsError for a wrong file of sites.

    sites: a file with more names, in the form of sites.toml, or what `load_sites` made of it. dedup: drop records that
    were read twice. max_wait: seconds to wait for the file of sites.
    """
    names = sites if isinstance(sites, Sites) else load_sites(*(() if sites is None else (sites,)), max_wait=max_wait)
    twice = read_twice(capture.records, names)
    if dedup and twice:
        drop = set(twice)
        records = tuple(record for place, record in enumerate(capture.records) if place not in drop)
        capture = replace(capture, records=records)
    records = capture.records
    times = Times(records, capture.generation)
    holds, blamed = _blamed(capture, names, times)
    pins = [record.duration_us for record in records if record.kind == "PIN" and record.duration_us is not None]
    evidence = Evidence(
        capture=capture,
        holds=holds,
        blame=blamed,
        ring_full=_ring_full(capture),
        threshold_us=number(capture.sections, "page_pinner/threshold"),
        durations=sorted(pins),
        twice=0 if dedup else len(twice),
        uptimes=times.uptimes,
    )
    return Report(
        sources=capture.sources,
        generation=capture.generation,
        pageblock_order=_pageblock_order(records),
        threshold_us=evidence.threshold_us,
        threshold_at_most_us=max(min(pins) - 1, 0) if pins else None,
        ring_full=evidence.ring_full,
        records=len(records),
        holds=holds,
        sites=blamed.sites,
        victims=tuple(site.site for site in blamed.sites if site.role == "victim"),
        findings=findings(evidence),
        notes=capture.notes,
        areas=capture.areas,
        culprit=None if blamed.culprit is None else blamed.culprit.key,
        headline=headline(evidence),
        proves=what_it_proves(evidence),
    )


def call_sites(capture: Capture) -> Blame:
    """Return only the call sites of a capture's report: their order, their sums and the one to blame.

    The `head` of its records is not looked at.
    """
    return _blamed(capture, load_sites(), Times(capture.records, capture.generation))[1]


def _blamed(capture: Capture, names: Sites, times: Times) -> tuple[tuple[Hold, ...], Blame]:
    places, found = Places(capture.areas), groups(capture.records, names)
    holds = tuple(hold_of(group, places, *times.of(group.records)) for group in found)
    return holds, blame(found, holds, places)


def _ring_full(capture: Capture) -> bool:
    """Tell whether a dump has as many records as the ring has slots."""
    size = number(capture.sections, "page_pinner/buffer_size")
    for dump in capture.dumps:
        # Kernels with a buffer_size have no other record file than `buffer`.
        slots = size if dump.file in ("buffer", "") and size is not None and size > 0 else RING_SIZE
        if dump.records + dump.garbage >= slots:
            return True
    return False


def _pageblock_order(records: Sequence[DumpRecord]) -> int | None:
    """Return the order for which every record's block is pfn >> order, or None."""
    orders = {record.pfn.bit_length() - record.block.bit_length() for record in records if record.block}
    return orders.pop() if len(orders) == 1 else None
