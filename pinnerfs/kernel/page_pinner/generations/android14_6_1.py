"""android14-6.1: unpin_user_page leaves no PUT record, and the flags are printed twice."""

from __future__ import annotations

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations.android14_5_15 import ANDROID14_5_15
from pinnerfs.kernel.page_pinner.layouts import LEAST_FAILURES

__all__ = ["ANDROID14_6_1"]

ANDROID14_6_1 = ANDROID14_5_15._replace(
    name="android14-6.1",
    about="android14-6.1",
    evidence="recorded",
    evidence_about="a kernel with this page_pinner was asked",
    mm="android14-6.1",
    layouts={"buffer": LEAST_FAILURES._replace(flags="doubled")},
    # gup_put_folio() drops FOLL_PIN references by folio_put_refs(), which has no hook.
    puts=ANDROID14_5_15.puts - {Event.unpin_user_page},
    no_warn_marks=False,
    pincount_order=1,
    free_page=("free_pcp_prepare", "free_unref_page", "__folio_put"),
    unmap=(
        "release_pages",
        "tlb_batch_pages_flush",
        "tlb_finish_mmu",
        "unmap_region",
        "do_mas_align_munmap",
        "do_mas_munmap",
        "__vm_munmap",
    ),
)
