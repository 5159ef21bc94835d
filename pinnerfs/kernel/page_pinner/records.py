"""Records as text: printed and parsed. Imitates `print_page_pinner` of mm/page_pinner.c, on all kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pinnerfs.kernel.page_pinner.layouts import ANNOUNCED, RING_SIZE, Layout, RecordKind
from pinnerfs.kernel.pageflags import ZONE_SHIFT, Migratetype, page_flag_names

__all__ = ["HEAD", "RING_SIZE", "Record", "parse_records", "printed_time", "record_text"]


@dataclass(frozen=True)
class Record:
    """A record of any kernel. A field that the kernel does not print is None.

    ts: the duration in µs. moment: the boot time in µs. A record has one of the two.
    kind: None where the text does not tell it.
    mapping: the address of the file's mapping, or 0.
    stack: begins with the innermost frame.
    """

    ts: int | None
    count: int
    pfn: int
    block: int
    flags: int
    stack: tuple[str, ...]
    migratetype: Migratetype | None = None
    kind: RecordKind | None = None
    moment: int | None = None
    mapcount: int | None = None
    mapping: int | None = None


def record_text(record: Record, layout: Layout = ANNOUNCED) -> str:
    """Return the lines of a record, with the empty line at its end."""
    moment = record.moment or 0
    clock = f"{moment // 10**6:5}.{moment % 10**6:06}"
    first = layout.lines[record.kind].format(ts=record.ts, moment=moment, clock=clock, count=record.count)
    flags = _flags_text(record.flags, layout.flags)
    if layout.page == "type":
        assert record.migratetype is not None
        page = f"PFN {record.pfn} Block {record.block} type {record.migratetype.name} Flags {flags}"
    else:
        page = (
            f"PFN {record.pfn:#x} Block {record.block} count {record.count} mapcount {record.mapcount} "
            f"mapping {record.mapping:#x} Flags {flags}"
        )
    return f"{first}\n{page}\n{_stack_text(record.stack)}\n"


# A device has few different flags and stacks: keep their text.
@lru_cache(maxsize=1024)
def _flags_text(flags: int, form: str) -> str:
    named = page_flag_names(flags)
    if form != "names":
        # Linux 5.15 and later print fields of page->flags behind the names, as `%pGp` does.
        named = "|".join([*([named] if named else []), f"zone={flags >> ZONE_SHIFT}"])
    if form == "fields":
        named += "|kasantag=0x0"
    if form == "doubled":
        named = f"{flags:#x}({named})"
    return f"{flags:#x}({named})"


@lru_cache(maxsize=1024)
def _stack_text(stack: tuple[str, ...]) -> str:
    return "".join(f" {frame}\n" for frame in stack)


# A kernel prints numbers of 64 bits. More digits are damage; Python refuses to convert thousands of them.
_NUMBER, _HEX = "[0-9]{1,20}", "0x[0-9a-f]{1,16}"
_CLOCK = rf"\[ *(?P<%s_s>{_NUMBER})\.(?P<%s_us>[0-9]{{6}})\]"
# The first two lines of a record, of any kernel.
HEAD = re.compile(
    rf"(?:Page pinned ts (?P<number>-?{_NUMBER}) us count (?P<pins>-?{_NUMBER})"
    rf"|Page pinned for (?P<pinned>-?{_NUMBER}) us"
    rf"|At least, pinned for (?P<least>-?{_NUMBER}) us"
    rf"|Page pinned ts {_CLOCK % ('any', 'any')}"
    rf"|Freed at {_CLOCK % ('free', 'free')}"
    rf"|Failure detected at {_CLOCK % ('detect', 'detect')})\n"
    rf"PFN (?:(?P<pfn>{_NUMBER}) Block (?P<block>{_NUMBER}) type (?P<migratetype>\w+)"
    rf"|(?P<hex>{_HEX}) Block (?P<hex_block>{_NUMBER}) count (?P<count>-?{_NUMBER}) mapcount (?P<mapcount>-?{_NUMBER})"
    rf" mapping (?P<mapping>{_HEX}))"
    rf" Flags (?P<flags>{_HEX})\((?:[\w|=]*|(?P=flags)\([\w|=]*\))\)"
)
_CLOCKS = {"any": None, "free": RecordKind.FREE, "detect": RecordKind.DETECT}


def parse_records(text: str, file: str = "longterm_pinner") -> list[Record]:
    """Return the records of a record file's text, of any kernel, newest first. Raise ValueError for other text.

    The file's name tells what a bare number is: a duration in longterm_pinner, a boot time in alloc_contig_failed.
    """
    if text and not text.endswith("\n\n"):
        raise ValueError(f"the text does not end with an empty line: {text[-80:]!r}")
    return [_record(part, file) for part in text.split("\n\n")[:-1]]


def _record(text: str, file: str) -> Record:
    match = HEAD.match(text)
    frames = text[match.end() :].split("\n") if match else []
    if match is None or frames[0] or not all(frame.startswith(" ") for frame in frames[1:]):
        raise ValueError(f"not a record: {text!r}")
    kind, ts, moment = printed_time(match, file)
    classic = match["pfn"] is not None
    if classic and match["migratetype"] not in Migratetype.__members__:
        raise ValueError(f"not a record: unknown type in {text!r}")
    return Record(
        ts=ts,
        moment=moment,
        kind=kind,
        count=int(match["count"] or match["pins"] or 0),
        mapcount=None if classic else int(match["mapcount"]),
        mapping=None if classic else int(match["mapping"], 16),
        pfn=int(match["pfn"]) if classic else int(match["hex"], 16),
        block=int(match["block"] or match["hex_block"]),
        migratetype=Migratetype[match["migratetype"]] if classic else None,
        flags=int(match["flags"], 16),
        stack=tuple(frame[1:] for frame in frames[1:]),
    )


def printed_time(match: re.Match[str], file: str) -> tuple[RecordKind | None, int | None, int | None]:
    """Return the kind, the duration and the boot time that a match of HEAD tells.

    As the text has it: "At least" is a PUT, though pixel-5.10 prints the same in longterm_pinner.
    """
    if match["number"] is not None:
        number = int(match["number"])
        return (None, number, None) if file == "longterm_pinner" else (None, None, number)
    if match["pinned"] is not None:
        return None, int(match["pinned"]), None
    if match["least"] is not None:
        return RecordKind.PUT, int(match["least"]), None
    clock = next(name for name in _CLOCKS if match[f"{name}_s"] is not None)
    return _CLOCKS[clock], None, int(match[f"{clock}_s"]) * 10**6 + int(match[f"{clock}_us"])
