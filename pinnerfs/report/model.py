"""What a report is made of, as data. All times are µs, all addresses and places in memory are page frame numbers."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Area", "Capture", "Dump", "DumpRecord", "Finding", "Hold", "Kind", "Note", "Report", "Role", "Site"]

# PIN: a long-term pin was released. PUT: a reference to a page that could not be moved was dropped. FREE: such a page
# was freed. DETECT: an allocation found a page that it could not move. EVENT: one of these three, on a kernel that
# prints the same first line for all of them.
Kind = Literal["PIN", "PUT", "FREE", "DETECT", "EVENT"]

# What a call site did. culprit: its pin lasted too long. candidate: it dropped a reference that blocked an
# allocation. victim: its allocation failed. allocator: the allocation's own handling of pages. end: it freed a page.
# event: a kernel that prints all kinds alike does not tell.
Role = Literal["culprit", "candidate", "victim", "allocator", "end", "event"]


class DumpRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as a kernel printed it. A field that this kernel does not print is None.

    file: the name of the record file (`longterm_pinner`, `alloc_contig_failed`, `buffer`), or "" if nothing tells it.
    dump: the place in `Capture.dumps` of the dump that it stands in.
    kind: see Kind.
    duration_us: how long the page was held. Of a PUT, the time since the allocation failed.
    at_us: boot time of the event.
    pfn, block: the page frame and its pageblock, as printed.
    type: the pageblock's migratetype.
    count: the pins or the references of the page, whichever the kernel prints.
    mapcount, mapping: the page's mappings, and the address of its file's mapping, or 0.
    flags, flag_names: page->flags, and the names that the kernel printed.
    stack: the frames as printed, innermost first, without the leading space.
    head: the first two lines, as printed.
    """

    file: str
    dump: int
    kind: Kind
    duration_us: int | None
    at_us: int | None
    pfn: int
    block: int
    type: str | None
    count: int
    mapcount: int | None
    mapping: int | None
    flags: int
    flag_names: tuple[str, ...]
    stack: tuple[str, ...]
    head: str

    @property
    def raw(self) -> str:
        """Return the record's text, byte for byte as the kernel printed it, with the empty line at its end."""
        return "\n ".join((self.head, *self.stack)) + "\n\n"


class Note(msgspec.Struct, frozen=True):
    """Something that was skipped or is missing in an input, and why. One line on stderr.

    source: the file. line: the first place, counted from 1; None where there are no lines.
    reason: what was skipped and why. how_many: how often this happened in the source.
    """

    source: str
    reason: str
    line: int | None = None
    how_many: int = 1

    def __str__(self) -> str:
        """Return the line for stderr."""
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.reason}" + (f" ({self.how_many} times)" if self.how_many > 1 else "")


class Area(msgspec.Struct, frozen=True):
    """A CMA area. used: pages that are allocated, or None. origin: `debugfs`, `dmesg` or `--cma`."""

    name: str
    base_pfn: int
    pages: int
    used: int | None = None
    origin: str = "debugfs"


class Dump(msgspec.Struct, frozen=True):
    """The records of one record file, read once.

    source: the file, with the member behind a colon where it is an archive. title: the section's title, or "".
    file: as in DumpRecord. line: where it begins, counted from 1. records: how many it has, garbage not among them.
    garbage: records that an uninitialised ring showed. unreadable: whether its reader got an error and no record.
    """

    source: str
    title: str
    file: str
    line: int
    records: int
    garbage: int = 0
    unreadable: bool = False


class Capture(msgspec.Struct, frozen=True):
    """What was read from all sources.

    sources: their names. records: in the order of the sources, so newest first within a dump.
    sections: the text of other files in the sources, by path without the debugfs root: `page_pinner/threshold`,
    `page_pinner/failure_tracking`, `page_pinner/buffer_size`, `cma/NAME/count`, `/proc/version`, `/proc/cmdline`, ...
    generation: the kernel by the name of --kernel, several joined by `|` where the text fits them all, or "unknown".
    """

    sources: tuple[str, ...]
    records: tuple[DumpRecord, ...]
    dumps: tuple[Dump, ...]
    sections: dict[str, str]
    notes: tuple[Note, ...]
    generation: str
    areas: tuple[Area, ...] = ()


class Hold(msgspec.Struct, frozen=True):
    """The records of one release: neighbours with one stack, adjacent pages and nearly the same time.

    key: its site. pfn: the lowest page frame. pages: how many, from this one on. records: how many records it has.
    blocks: the pageblocks that it touches. cma_pages: its pages in CMA, or None if nothing tells where CMA is.
    duration_us: the longest of its records; None for kinds without a duration.
    at_us: boot time of the newest record, or None. end_us: boot time of the end: of the release where it is known.
    compound: whether it is of one compound page, such as a huge page.
    """

    key: str
    kind: Kind
    pfn: int
    pages: int
    records: int
    blocks: tuple[int, ...]
    cma_pages: int | None
    duration_us: int | None
    at_us: int | None = None
    end_us: int | None = None
    compound: bool = False


class Site(msgspec.Struct, frozen=True):
    """A call site: all records of one role whose stacks get the same name and the same key.

    key: 8 hex digits, the same in every dump and on every kernel. owner: the subsystem or driver. site: the name.
    frame: the frame of the stack that gave the name. stack: the most frequent stack, as printed.
    blocks: distinct pageblocks. cma_pages: distinct pages in CMA, or None if nothing tells where CMA is.
    cma_blocks: distinct pageblocks that have a page in CMA, or None.
    page_us: sum over the holds of pages times duration. p50_us, p99_us, max_us: of the holds' durations.
    refused: names of the allocations that met its pages.
    """

    key: str
    owner: str
    site: str
    frame: str
    stack: tuple[str, ...]
    role: Role
    holds: int
    records: int
    pages: int
    blocks: tuple[int, ...]
    cma_pages: int | None
    cma_blocks: tuple[int, ...] | None
    page_us: int
    p50_us: int | None
    p99_us: int | None
    max_us: int | None
    refused: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """A known trap that this dump shows signs of. name: for scripts. sites: keys. The rest are sentences.

    page: where this project explains it, a path from the top of the repository.
    """

    name: str
    title: str
    explanation: str
    advice: str
    sites: tuple[str, ...] = ()
    page: str = ""


class Report(msgspec.Struct, frozen=True):
    """The answer: who held pages too long, where, and what the dump does not prove.

    pageblock_order: None if the records do not tell one. threshold_us: as a section says it. threshold_at_most_us: as
    the shortest record says it, because a record is longer than the threshold. ring_full: older records may be lost.
    records: how many. holds: all of them, in the order of the dump. sites: in the default order, victims among them.
    victims: names of the allocations that failed. culprit: the key of the site to blame, or None.
    headline: the answer in one sentence. proves: what the dump does and does not prove on this kernel, or "".
    """

    sources: tuple[str, ...]
    generation: str
    pageblock_order: int | None
    threshold_us: int | None
    threshold_at_most_us: int | None
    ring_full: bool
    records: int
    holds: tuple[Hold, ...]
    sites: tuple[Site, ...]
    victims: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    areas: tuple[Area, ...]
    culprit: str | None
    headline: str
    proves: str = ""
