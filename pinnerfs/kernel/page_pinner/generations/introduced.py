"""The feature as it was announced, in 2021."""

from __future__ import annotations

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations.generation import Generation, Mark
from pinnerfs.kernel.page_pinner.layouts import ANNOUNCED

__all__ = ["INTRODUCED"]

_SLOW = ("try_grab_page", "follow_page_pte", "follow_pmd_mask", "__get_user_pages")
_FAST = ("try_grab_compound_head", "gup_pgd_range", "internal_get_user_pages_fast")

INTRODUCED = Generation(
    name="introduced",
    about="the feature as it was announced",
    evidence="recorded",
    evidence_about="the published description, and a kernel with its hooks for FOLL_PIN",
    mm="android12-5.10",
    files=("longterm_pinner", "threshold"),
    layouts={"longterm_pinner": ANNOUNCED},
    counts="pins",
    pins=frozenset({Event.get_user_pages, Event.pin_user_pages}),
    releases=frozenset({Event.put_user_page, Event.unpin_user_page}),
    puts=frozenset(),
    failed_as_pinned=False,
    release_clears_ts=False,
    freed=Mark.GET,
    freed_recorded=Mark(0),
    free_clears_ts=False,
    failed_recorded="never",
    busy_marks=False,
    failure_takes_ts=False,
    no_warn_marks=True,
    mark_head=(),
    free_head=(),
    pincount_order=2,
    # This kernel's stack trace includes the function that takes it.
    heads={"slow": ("__set_page_pinner", *_SLOW), "fast": ("__set_page_pinner", *_FAST)},
    tail=("__arm64_sys_{}", "el0_svc_common", "do_el0_svc", "el0_svc", "el0_sync_handler", "el0_sync"),
    free_page=("free_pcp_prepare", "free_unref_page", "__put_page"),
    free_list=("free_pcp_prepare", "free_unref_page_list"),
    unmap=("release_pages", "tlb_batch_pages_flush", "tlb_finish_mmu", "unmap_region", "__do_munmap", "__vm_munmap"),
    exit=(
        "release_pages",
        "tlb_batch_pages_flush",
        "tlb_finish_mmu",
        "exit_mmap",
        "mmput",
        "do_exit",
        "do_group_exit",
    ),
    truncate=(
        "release_pages",
        "__pagevec_release",
        "shmem_undo_range",
        "shmem_evict_inode",
        "evict",
        "__dentry_kill",
        "dput",
        "__fput",
        "task_work_run",
        "do_notify_resume",
    ),
)
