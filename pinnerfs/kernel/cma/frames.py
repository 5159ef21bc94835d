"""The call chains behind the records of an allocation: the kernel's frames inside of cma_alloc, as data.

Does not import numpy, as the list of kernels must load without it.
"""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

from typing import NamedTuple

__all__ = ["LINUX_5_10", "LINUX_5_15", "LINUX_6_1", "Frames"]

_WORKER = ("lru_add_drain_per_cpu", "process_one_work", "worker_thread", "kthread", "ret_from_fork")
_MIGRATE = ("__alloc_contig_migrate_range", "alloc_contig_range")


class Frames(NamedTuple):
    """The frames of each kind of record, innermost first, up to the caller of alloc_contig_range.

    drain: the LRU batches are emptied, at the start of an attempt. With several processors, a kernel thread of each
    does this, and these are all of its frames. drain_alone: the same with one processor, within the allocation.
    look: a reference to a pinned anonymous page is dropped again.
    unmap_file, unmap_anon: a mapping is taken away, to move the page.
    moved: the last reference to the old page is dropped. freed: it is freed then.
    dropped: a clean page of a file is freed instead.
    mark: a page stays, and is marked. putback: its reference is dropped.
    overflow: the LRU batch is full and is emptied.
    busy: the last look at the range finds a page.
    munmap_drain: munmap empties the LRU batch.
    write: the frames of a write to cma/NAME/alloc, up to the system call.
    """

    drain: tuple[str, ...]
    drain_alone: tuple[str, ...]
    look: tuple[str, ...]
    unmap_file: tuple[str, ...]
    unmap_anon: tuple[str, ...]
    moved: tuple[str, ...]
    freed: tuple[str, ...]
    dropped: tuple[str, ...]
    mark: tuple[str, ...]
    putback: tuple[str, ...]
    overflow: tuple[str, ...]
    busy: tuple[str, ...]
    munmap_drain: tuple[str, ...]
    write: tuple[str, ...]


_PAGES_6_1 = ("migrate_pages_batch", "migrate_pages", *_MIGRATE)
_PUTBACK_6_1 = ("folio_putback_lru", "putback_movable_pages", *_MIGRATE)

LINUX_6_1 = Frames(
    drain=("release_pages", "folio_batch_move_lru", "lru_add_drain_cpu", *_WORKER),
    drain_alone=("release_pages", "folio_batch_move_lru", "lru_add_drain_cpu", "lru_cache_disable", *_MIGRATE),
    look=("isolate_migratepages_block", "isolate_migratepages_range", *_MIGRATE),
    unmap_file=("try_to_migrate_one", "rmap_walk_file", "try_to_migrate", *_PAGES_6_1),
    unmap_anon=("try_to_migrate_one", "rmap_walk_anon", "try_to_migrate", *_PAGES_6_1),
    moved=("migrate_folio_done", *_PAGES_6_1),
    freed=("free_pcp_prepare", "free_unref_page", *_PAGES_6_1),
    dropped=(
        "free_pcp_prepare",
        "free_unref_page_list",
        "shrink_folio_list",
        "reclaim_clean_pages_from_list",
        *_MIGRATE,
    ),
    mark=_MIGRATE,
    putback=_PUTBACK_6_1,
    overflow=("release_pages", "folio_batch_move_lru", "folio_add_lru", *_PUTBACK_6_1),
    busy=("test_pages_isolated", "alloc_contig_range"),
    munmap_drain=("release_pages", "folio_batch_move_lru", "lru_add_drain_cpu", "lru_add_drain"),
    write=(
        "cma_alloc_write",
        "simple_attr_write_xsigned.constprop.0.isra.0",
        "debugfs_attr_write",
        "full_proxy_write",
        "vfs_write",
        "ksys_write",
    ),
)

_PAGES_5_10 = ("unmap_and_move", "migrate_pages", *_MIGRATE)
_PUTBACK_5_10 = ("putback_lru_page", "putback_movable_pages", *_MIGRATE)
_BATCH_5_10 = ("release_pages", "pagevec_lru_move_fn", "__pagevec_lru_add")

LINUX_5_10 = Frames(
    drain=(*_BATCH_5_10, "lru_add_drain_cpu", *_WORKER),
    drain_alone=(*_BATCH_5_10, "lru_add_drain_cpu", "lru_add_drain", "alloc_contig_range"),
    look=("isolate_migratepages_block", "isolate_migratepages_range", *_MIGRATE),
    unmap_file=("try_to_unmap_one", "rmap_walk_file", "rmap_walk", "try_to_unmap", *_PAGES_5_10),
    unmap_anon=("try_to_unmap_one", "rmap_walk_anon", "rmap_walk", "try_to_unmap", *_PAGES_5_10),
    moved=_PAGES_5_10,
    freed=("free_pcp_prepare", "free_unref_page", "__put_page", *_PAGES_5_10),
    dropped=(
        "free_pcp_prepare",
        "free_unref_page_list",
        "shrink_page_list",
        "reclaim_clean_pages_from_list",
        *_MIGRATE,
    ),
    mark=_MIGRATE,
    putback=_PUTBACK_5_10,
    overflow=(*_BATCH_5_10, "lru_cache_add", *_PUTBACK_5_10),
    busy=("test_pages_isolated", "alloc_contig_range"),
    munmap_drain=(*_BATCH_5_10, "lru_add_drain_cpu", "lru_add_drain"),
    write=(
        "cma_alloc_write",
        "simple_attr_write",
        "debugfs_attr_write",
        "full_proxy_write",
        "vfs_write",
        "ksys_write",
    ),
)

LINUX_5_15 = LINUX_5_10._replace(
    unmap_file=("try_to_migrate_one", "rmap_walk_file", "rmap_walk", "try_to_migrate", *_PAGES_5_10),
    unmap_anon=("try_to_migrate_one", "rmap_walk_anon", "rmap_walk", "try_to_migrate", *_PAGES_5_10),
)
