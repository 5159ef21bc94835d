"""Records as text: printed and parsed. Imitates `print_page_pinner` of mm/page_pinner.c, early android12-5.10."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pinnerfs.kernel.pageflags import Migratetype, page_flag_names

__all__ = ["RING_SIZE", "Record", "parse_records", "record_text"]

RING_SIZE = 4096  # records that the kernel keeps


@dataclass(frozen=True)
class Record:
    """A long-term pin. `ts` is its duration in µs; `stack` begins with the innermost frame."""

    ts: int
    count: int
    pfn: int
    block: int
    migratetype: Migratetype
    flags: int
    stack: tuple[str, ...]


def record_text(record: Record) -> str:
    """Return the lines of a record, with the empty line at its end."""
    return (
        f"Page pinned ts {record.ts} us count {record.count}\n"
        f"PFN {record.pfn} Block {record.block} type {record.migratetype.name} "
        f"Flags {_flags_text(record.flags)}\n{_stack_text(record.stack)}\n"
    )


# A device has few different flags and stacks: keep their text.
@lru_cache(maxsize=1024)
def _flags_text(flags: int) -> str:
    return f"{flags:#x}({page_flag_names(flags)})"


@lru_cache(maxsize=1024)
def _stack_text(stack: tuple[str, ...]) -> str:
    return "".join(f" {frame}\n" for frame in stack)


_HEAD = re.compile(
    r"Page pinned ts (?P<ts>-?[0-9]+) us count (?P<count>-?[0-9]+)\n"
    r"PFN (?P<pfn>[0-9]+) Block (?P<block>[0-9]+) type (?P<migratetype>\w+) Flags (?P<flags>0x[0-9a-f]+)\([\w|]*\)"
)


def parse_records(text: str) -> list[Record]:
    """Return the records of the text of `longterm_pinner`, newest first. Raise ValueError for other text."""
    if text and not text.endswith("\n\n"):
        raise ValueError(f"the text does not end with an empty line: {text[-80:]!r}")
    return [_record(part) for part in text.split("\n\n")[:-1]]


def _record(text: str) -> Record:
    match = _HEAD.match(text)
    frames = text[match.end() :].split("\n") if match else []
    if match is None or frames[0] or not all(frame.startswith(" ") for frame in frames[1:]):
        raise ValueError(f"not a record: {text!r}")
    return Record(
        ts=int(match["ts"]),
        count=int(match["count"]),
        pfn=int(match["pfn"]),
        block=int(match["block"]),
        migratetype=Migratetype[match["migratetype"]],
        flags=int(match["flags"], 16),
        stack=tuple(frame[1:] for frame in frames[1:]),
    )
