"""The first months of android12-5.10: failed migrations get a file of their own, FOLL_PIN is no longer tracked."""

from __future__ import annotations

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations.introduced import INTRODUCED
from pinnerfs.kernel.page_pinner.layouts import ANNOUNCED, ANNOUNCED_FAILURES

__all__ = ["ANDROID12_5_10_EARLY"]

ANDROID12_5_10_EARLY = INTRODUCED._replace(
    name="android12-5.10-early",
    about="the first months of android12-5.10",
    evidence="recorded",
    evidence_about="a kernel with this page_pinner was asked; that FAILED survives a free is read in source",
    files=("longterm_pinner", "threshold", "alloc_contig_failed", "failure_tracking"),
    layouts={"longterm_pinner": ANNOUNCED, "alloc_contig_failed": ANNOUNCED_FAILURES},
    counts="0",
    pins=frozenset({Event.get_user_pages}),
    releases=frozenset({Event.put_user_page}),
    puts=frozenset({Event.put_user_page, Event.unpin_user_page, Event.put_page, Event.unmap, Event.free}),
    heads={path: head[1:] for path, head in INTRODUCED.heads.items()},
)
