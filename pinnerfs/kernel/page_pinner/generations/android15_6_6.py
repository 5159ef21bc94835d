"""android15-6.6: expected to be as android14-6.1."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.android14_6_1 import ANDROID14_6_1

__all__ = ["ANDROID15_6_6"]

ANDROID15_6_6 = ANDROID14_6_1._replace(
    name="android15-6.6",
    about="android15-6.6",
    evidence="expected",
    evidence_about="its hooks are read in source; that its rules are those of android14-6.1 is expected",
    unmap=(
        "release_pages",
        "tlb_batch_pages_flush",
        "tlb_finish_mmu",
        "unmap_region",
        "do_vmi_align_munmap",
        "do_vmi_munmap",
        "__vm_munmap",
    ),
)
