"""What differs between kernels in CMA, around page_pinner, as data.

Does not import numpy, as the list of kernels must load without it.
"""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

from typing import Literal, NamedTuple

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.cma.frames import LINUX_5_10, LINUX_5_15, LINUX_6_1, Frames
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["MMS", "Mm"]

DIRECTORY_NAME = 15  # the name is printed into 16 bytes, the last one a zero


class Mm(NamedTuple):
    """The memory management of one kernel.

    name: the name for --mm.
    about: the kernels that have it, in a few words.
    evidence: how the rules below are known.
    expected: what of them is only expected, in a few words.
    retries: how often an allocation that found a busy page starts again, 100 ms later each time.
    lru_batch: the pages that a CPU collects before it puts them on the LRU. 1 stands for a kernel that switches the
    batches off during an allocation.
    look_puts: whether an allocation takes and drops a reference to each pinned anonymous page that it looks at.
    unpin_puts: whether unpin_user_page drops its reference by put_page, so that page_pinner sees it.
    pfns_busy: whether a busy range has a line of its own in the kernel log.
    free_areas: whether the log lists the free parts of the area behind a failed allocation.
    limits_log: whether the log line of a failed allocation has a rate limit.
    log_name: the function that the log line names, which calls alloc_contig_range.
    quick_noretry: whether an attempt with GFP_NORETRY tries to move pages in one round instead of five, and ends there
    if some stay.
    noretry_skips_block: whether the next attempt with GFP_NORETRY starts behind the pageblock with the failed page.
    noretry_counts: whether a failed allocation with GFP_NORETRY counts as failed.
    prefix: what the name of an area's directory in debugfs begins with.
    dma_buf_name: whether dma_buf/bufinfo has a title for the names of buffers.
    frames: the call chains behind records.
    """

    name: str
    about: str
    evidence: Literal["recorded", "read in source", "expected"]
    expected: str
    retries: int
    lru_batch: int
    look_puts: bool
    unpin_puts: bool
    pfns_busy: bool
    free_areas: bool
    limits_log: bool
    log_name: str
    quick_noretry: bool
    noretry_skips_block: bool
    noretry_counts: bool
    prefix: str
    dma_buf_name: bool
    frames: Frames

    def seen(self, generation: Generation) -> Generation:
        """Return a kernel's page_pinner with the calls that it sees in this memory management."""
        unpin = {Event.unpin_user_page}
        seen = self.unpin_puts and generation.puts
        return generation._replace(puts=generation.puts | unpin if seen else generation.puts - unpin)

    def directory(self, area: str) -> str:
        """Return the name of an area's directory in debugfs: imitates `cma_debugfs_add_one`."""
        return f"{self.prefix}{area}"[:DIRECTORY_NAME] if self.prefix else area


_MAINLINE_6_1 = Mm(
    name="6.1.192",
    about="Linux 6.1.192, as recorded",
    evidence="recorded",
    expected="",
    retries=0,
    lru_batch=15,
    look_puts=True,
    unpin_puts=False,
    pfns_busy=False,
    free_areas=False,
    limits_log=True,
    log_name="cma_alloc",
    quick_noretry=False,
    noretry_skips_block=False,
    noretry_counts=True,
    prefix="",
    dma_buf_name=True,
    frames=LINUX_6_1,
)
_ANDROID12_5_10 = Mm(
    name="android12-5.10",
    about="android12-5.10 (5.10.198)",
    evidence="read in source",
    expected="the stacks of moves and of pages put back",
    retries=10,
    lru_batch=1,
    look_puts=False,
    unpin_puts=True,
    pfns_busy=True,
    free_areas=True,
    limits_log=False,
    log_name="cma_alloc",
    quick_noretry=True,
    noretry_skips_block=True,
    noretry_counts=True,
    prefix="cma-",
    dma_buf_name=False,
    frames=LINUX_5_10,
)
_PIXEL_5_10 = _ANDROID12_5_10._replace(
    name="pixel-5.10",
    about="Pixel 6's 5.10",
    expected="the LRU batch of 15 pages, and the stacks of moves and of pages put back",
    retries=5,
    lru_batch=15,
    noretry_counts=False,
)
_ANDROID14_6_1 = _MAINLINE_6_1._replace(
    name="android14-6.1",
    about="android14-6.1 (6.1.138)",
    retries=5,
    log_name="__cma_alloc",
    quick_noretry=True,
)
_ANDROID14_5_15 = _ANDROID14_6_1._replace(
    name="android14-5.15",
    about="android13-5.15 and android14-5.15",
    evidence="expected",
    unpin_puts=True,
    prefix="cma-",
    dma_buf_name=False,
    frames=LINUX_5_15,
)

MMS = {mm.name: mm for mm in (_MAINLINE_6_1, _ANDROID12_5_10, _PIXEL_5_10, _ANDROID14_5_15, _ANDROID14_6_1)}
