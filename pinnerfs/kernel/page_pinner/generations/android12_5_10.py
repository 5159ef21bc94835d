"""android12-5.10 as phones have it: records show the page's references and mappings, and a free is recorded."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.android12_5_10_early import ANDROID12_5_10_EARLY
from pinnerfs.kernel.page_pinner.generations.generation import Mark
from pinnerfs.kernel.page_pinner.layouts import CLOCK_FAILURES, HEX

__all__ = ["ANDROID12_5_10"]

ANDROID12_5_10 = ANDROID12_5_10_EARLY._replace(
    name="android12-5.10",
    about="android12-5.10, later",
    evidence="recorded",
    evidence_about="a kernel with this page_pinner was asked",
    layouts={"longterm_pinner": HEX, "alloc_contig_failed": CLOCK_FAILURES},
    counts="references",
    # put_user_page of a page whose migration failed: measured from the last pin, or from 0 if there never was one.
    # The record then has no stack, and a reader takes it for the end of the file.
    failed_as_pinned=True,
    freed=Mark.GET | Mark.FAILED,
    freed_recorded=Mark.FAILED,
    failed_recorded="always",
    mark_head=("__page_pinner_mark_migration_failed_pages",),
    free_head=("__reset_page_pinner",),
    free_page=("__reset_page_pinner", *ANDROID12_5_10_EARLY.free_page),
    free_list=("__reset_page_pinner", *ANDROID12_5_10_EARLY.free_list),
)
