"""The text of a record as a DumpRecord. kernel/page_pinner/records.py has the format."""

from __future__ import annotations

import re
from functools import lru_cache
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
    if any(frame.startswith(" ") for frame in frames):
        frames = [frame.lstrip(" ") for frame in frames]  # a copy was indented
    # Different stacks have most of their frames in common.
    return Frames(tuple(map(_kept, frames)), any(_GRABS.match(frame) for frame in frames[:_LOOK_AT]))


def parse_record(match: re.Match[str], frames: Frames, file: str, dump: int) -> DumpRecord:
    """Return the record whose first two lines are a match of HEAD. `file` is its record file, or "" if unknown."""
    pins, pinned, classic, block, migratetype = match.group("pins", "pinned", "pfn", "block", "migratetype")
    if not file and (frames.pins or pinned is not None or int(pins or 0) > 0):
        # The last two forms are of no other file: a count of pins, as `introduced` prints it, and "Page pinned for".
        file = "longterm_pinner"
    kind, duration, moment = printed_time(match, file)
    known: Kind = "PIN"
    if file != "longterm_pinner" and pinned is None:
        known = "EVENT" if kind is None else kind.value
    text = match[0]
    flags, names = _flags(text[text.rindex(" Flags ") + 7 :])
    if classic is not None:
        pfn, type, count, mapcount, mapping = int(classic), _kept(migratetype), int(pins or 0), None, None
    else:
        page, block, *numbers, address = match.group("hex", "hex_block", "count", "mapcount", "mapping")
        pfn, type, mapping = int(page, 16), None, int(address, 16)
        count, mapcount = map(int, numbers)
    return DumpRecord(
        file,
        dump,
        known,
        duration,
        moment,
        pfn,
        int(block),
        type,
        count,
        mapcount,
        mapping,
        flags,
        names,
        frames.frames,
        text,
    )


@lru_cache(maxsize=4096)
def _kept(text: str) -> str:
    """Return an equal text that came before, if it is remembered. Interned strings live forever in Python 3.12."""
    return text


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
