"""The text of a record as a DumpRecord. kernel/page_pinner/records.py has the format."""

from __future__ import annotations

import re
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from pinnerfs.kernel.page_pinner.records import printed_time
from pinnerfs.report.model import DumpRecord, Kind

__all__ = ["MAX_PFN", "RECORD_FILES", "Frames", "frames_of", "is_garbage", "parse_record"]

# The files that have records. `buffer` and `alloc_contig_failed` are about failed migrations.
RECORD_FILES = ("longterm_pinner", "alloc_contig_failed", "buffer")

# The functions that take a reference for get_user_pages and its relatives. A record of a pin has the pin's stack, and
# one of these is its innermost frame, or nearly.
_GRABS = re.compile(
    r"(?:__set_page_pinner|try_grab_|try_get_folio|follow_p|follow_huge_|gup_|__gup_|lockless_pages_from_mm"
    r"|internal_get_user_pages|__get_user_pages|get_user_pages|pin_user_pages)"
)
_LOOK_AT = 3

# No machine has such numbers: 52 bits of physical address, and 30 years of uptime.
MAX_PFN = 1 << 40
_MAX_TIME_US = 10**15
_COUNTS = range(-(1 << 12), 1 << 29)


class Frames(NamedTuple):
    """A stack: its frames, and whether a call of get_user_pages or a relative took it."""

    frames: tuple[str, ...]
    pins: bool


def frames_of(lines: str) -> Frames | None:
    """Return the frames of the lines of a stack, each with a space in front. None if a line is not a frame."""
    frames = lines.split("\n ")
    if not lines.startswith(" ") or "\n" in "".join(frames):
        return None if lines else Frames((), False)
    frames[0] = frames[0][1:]
    # Different stacks have most of their frames in common.
    return Frames(tuple(map(intern, frames)), any(_GRABS.match(frame) for frame in frames[:_LOOK_AT]))


def parse_record(match: re.Match[str], frames: Frames, file: str, dump: int) -> DumpRecord:
    """Return the record whose first two lines are a match of HEAD. `file` is its record file, or "" if unknown."""
    if not file and (frames.pins or match["pinned"] is not None or int(match["pins"] or 0) > 0):
        # The last two forms are of no other file: a count of pins, as `introduced` prints it, and "Page pinned for".
        file = "longterm_pinner"
    kind, duration, moment = printed_time(match, file)
    known: Kind
    if file == "longterm_pinner" or match["pinned"] is not None:
        known = "PIN"
    else:
        known = "EVENT" if kind is None else kind.value
    text = match[0]
    flags, names = _flags(text[text.rindex(" Flags ") + 7 :])
    classic = match["pfn"]
    if classic is not None:
        pfn, block, count, mapcount, mapping = int(classic), int(match["block"]), int(match["pins"] or 0), None, None
    else:
        pfn, block = int(match["hex"], 16), int(match["hex_block"])
        count, mapcount, mapping = int(match["count"]), int(match["mapcount"]), int(match["mapping"], 16)
    return DumpRecord(
        file,
        dump,
        known,
        duration,
        moment,
        pfn,
        block,
        match["migratetype"] and intern(match["migratetype"]),
        count,
        mapcount,
        mapping,
        flags,
        names,
        frames.frames,
        text,
    )


@lru_cache(maxsize=4096)
def _flags(text: str) -> tuple[int, tuple[str, ...]]:
    """Return the number and the names of "0x14(uptodate|lru)" or "0x14(0x14(uptodate|lru|zone=0))"."""
    number, _, rest = text.partition("(")
    names = rest.rpartition("(")[2].rstrip(")")
    return int(number, 16), tuple(name for name in names.split("|") if name and "=" not in name)


def is_garbage(record: DumpRecord) -> bool:
    """Tell whether no kernel can have meant this: an uninitialised ring shows what was in memory before.

    A kernel that does not clear new memory (`init_on_alloc`) shows such records after boot, and after a write to
    buffer_size.
    """
    if record.pfn >= MAX_PFN or max(record.at_us or 0, abs(record.duration_us or 0)) >= _MAX_TIME_US:
        return True
    if record.mapcount is not None and not (record.mapcount in _COUNTS and record.count in _COUNTS):
        return True
    # The block is pfn >> pageblock_order.
    return record.pfn >> max(record.pfn.bit_length() - record.block.bit_length(), 0) != record.block
