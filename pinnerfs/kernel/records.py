"""The text of a record, to the byte. Imitates `print_page_pinner` of mm/page_pinner.c, early android12-5.10."""

from __future__ import annotations

from dataclasses import dataclass

from pinnerfs.kernel.pages import Migratetype, page_flag_names

__all__ = ["Record", "record_text"]


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
    lines = [
        f"Page pinned ts {record.ts} us count {record.count}",
        f"PFN {record.pfn} Block {record.block} type {record.migratetype.name} "
        f"Flags {record.flags:#x}({page_flag_names(record.flags)})",
        *(f" {frame}" for frame in record.stack),
    ]
    return "\n".join(lines) + "\n\n"
