"""The 5.10 kernel of Pixel 6: records tell their kind, and each free of a marked page is one."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.android12_5_10 import ANDROID12_5_10
from pinnerfs.kernel.page_pinner.generations.android12_5_10_early import ANDROID12_5_10_EARLY
from pinnerfs.kernel.page_pinner.generations.generation import Mark
from pinnerfs.kernel.page_pinner.layouts import LEAST, LEAST_FAILURES

__all__ = ["PIXEL_5_10"]

PIXEL_5_10 = ANDROID12_5_10._replace(
    name="pixel-5.10",
    about="Pixel 6 until 2022-04",
    evidence="recorded",
    evidence_about="a kernel with this page_pinner was asked",
    mm="pixel-5.10",
    layouts={"longterm_pinner": LEAST, "alloc_contig_failed": LEAST_FAILURES},
    failed_as_pinned=False,
    # A PUT record of a page that was released before shows the uptime, therefore.
    release_clears_ts=True,
    # A page that was pinned by get_user_pages and released by put_page is "Freed at", without any failure.
    freed_recorded=Mark.GET | Mark.FAILED,
    free_clears_ts=True,
    failed_recorded="first",
    busy_marks=True,
    failure_takes_ts=True,
    mark_head=(),
    free_head=(),
    free_page=ANDROID12_5_10_EARLY.free_page,
    free_list=ANDROID12_5_10_EARLY.free_list,
)
