"""Texts of records for the tests of reading and analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.oracle.cases import RECORDED

__all__ = ["CAMERA", "MUNMAP", "WRITER", "detect", "freed", "hex_pin", "pin", "put", "recorded_texts"]

CAMERA = (
    "try_grab_page+0x10/0x80",
    "follow_page_pte+0x20/0x100",
    "pin_user_pages_locked+0x10/0x90",
    "get_vaddr_frames+0x10/0x90",
    "vb2_create_framevec+0x10/0x90",
    "vb2_dma_sg_get_userptr+0x130/0x260",
    "vb2_core_qbuf+0x10/0x90",
    "__arm64_sys_ioctl+0x94/0xd0",
)
WRITER = (
    "__alloc_contig_migrate_range+0x158/0x170",
    "alloc_contig_range+0x117/0x240",
    "cma_alloc+0x123/0x200",
    "cma_heap_allocate+0x38/0x90",
)
MUNMAP = ("release_pages+0x257/0x2a0", "tlb_finish_mmu+0x42/0x140", "unmap_region+0xcd/0xe0", "__vm_munmap+0xb6/0x140")


def _text(first: str, second: str, stack: Sequence[str]) -> str:
    return "".join([first, "\n", second, "\n", *(f" {frame}\n" for frame in stack), "\n"])


def pin(us: int, pfn: int, stack: Sequence[str] = CAMERA, type: str = "CMA", names: str = "uptodate|lru") -> str:
    """Return a record of `introduced`."""
    second = f"PFN {pfn} Block {pfn >> 10} type {type} Flags 0x14({names})"
    return _text(f"Page pinned ts {us} us count 1", second, stack)


def hex_pin(us: int, pfn: int, stack: Sequence[str] = CAMERA) -> str:
    """Return a record of a long-term pin of `android12-5.10`."""
    return _text(f"Page pinned for {us} us", _counts(pfn), stack)


def _counts(pfn: int) -> str:
    return f"PFN {pfn:#x} Block {pfn >> 10} count 2 mapcount 1 mapping 0x0 Flags 0x14(0x14(uptodate|lru|zone=0))"


def detect(us: int, pfn: int, stack: Sequence[str] = WRITER) -> str:
    """Return a DETECT record of `android14-6.1`."""
    return _text(f"Failure detected at [{us // 10**6:5}.{us % 10**6:06}]", _counts(pfn), stack)


def put(us: int, pfn: int, stack: Sequence[str]) -> str:
    """Return a PUT record of `android14-6.1`."""
    return _text(f"At least, pinned for {us} us", _counts(pfn), stack)


def freed(us: int, pfn: int, stack: Sequence[str] = ("free_pcp_prepare+0x1/0x2", *MUNMAP)) -> str:
    """Return a FREE record of `android14-6.1`."""
    return _text(f"Freed at [{us // 10**6:5}.{us % 10**6:06}]", _counts(pfn), stack)


def recorded_texts(generation: str) -> Iterator[str]:
    """Yield everything that commands and calls answered on a recorded kernel. The traces of calls repeat it."""
    with open(RECORDED / f"{generation}.jsonl") as file:
        for line in file:
            case = json.loads(line)
            yield from _strings([value for key, value in case.items() if key != "syscalls"])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
