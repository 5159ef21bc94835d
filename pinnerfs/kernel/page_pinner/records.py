"""The text of a record, to the byte. Imitates `print_page_pinner` of mm/page_pinner.c, early android12-5.10."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pinnerfs.kernel.pageflags import Migratetype, page_flag_names

__all__ = ["RING_SIZE", "Record", "record_text"]

RING_SIZE = 4096  # how many there can be


@dataclass(frozen=True)
class Record:
    """One long-term pin: `ts` is how long it lasted, in µs; `stack` is innermost frame first."""

    ts: int
    count: int
    pfn: int
    block: int
    migratetype: Migratetype
    flags: int
    stack: tuple[str, ...]


def record_text(record: Record) -> str:
    """The lines of a record, with the empty line that ends it."""
    return (
        f"Page pinned ts {record.ts} us count {record.count}\n"
        f"PFN {record.pfn} Block {record.block} type {record.migratetype.name} "
        f"Flags {_flags_text(record.flags)}\n{_stack_text(record.stack)}\n"
    )


# A device has few stacks and fewer flags: what they look like is kept.


@lru_cache(maxsize=1024)
def _flags_text(flags: int) -> str:
    return f"{flags:#x}({page_flag_names(flags)})"


@lru_cache(maxsize=1024)
def _stack_text(stack: tuple[str, ...]) -> str:
    return "".join(f" {frame}\n" for frame in stack)
