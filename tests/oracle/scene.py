"""What the recorded scenes of CMA are played in, and how their records are compared.

A scene is a list of calls: pins in an area, allocations that fail or succeed, and the records they leave. scene_play
interprets them for a `World`: the plain model, a Simulation, or a mount.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from tests.oracle.cases import Case

__all__ = [
    "KINDS",
    "Row",
    "World",
    "area_of",
    "canonical_text",
    "is_scene",
    "parse_text",
    "recorded_rows",
    "same_row",
    "set_bits",
]

FAMILIES = ("cmapin", "cmasearch", "cmarec", "cmakapi", "cma2")

# The kinds of records by the first words of their text.
KINDS = {"At least": "PUT", "Freed at": "FREE", "Failure ": "DETECT", "Page pin": "ACF"}


class Row(NamedTuple):
    """What a recording keeps of a record; `frames` are its first ones."""

    kind: str
    offset: int
    references: int
    mapcount: int
    mapping: bool
    frames: tuple[str, ...]


class World(Protocol):
    """Something with CMA areas and page_pinner. Offsets count pages from the first one of the area `reserved`."""

    limits_log: bool  # whether the log has a rate limit

    def lay(self, offsets: list[int], *, file: bool, how: str | None) -> None:
        """Map new pages at these offsets, and pin them: "get", "pin", "plain", or not at all."""

    def pin(self, how: str) -> None:
        """Pin the pages once more."""

    def release(self, how: str) -> None:
        """Drop one pin of each page: "put_page", "put_user_page" or "unpin_user_page"."""

    def unmap(self, order: list[int]) -> None:
        """Unmap the pages, in this order of their offsets (default: ascending)."""

    def truncate(self, order: list[int]) -> None:
        """Close the pages' unlinked file, which had them in this order (default: ascending)."""

    def alloc(
        self,
        area: str,
        pages: int,
        *,
        align: int = 0,
        no_warn: bool = False,
        noretry: bool = False,
        release_after: tuple[int, str] | None = None,
        kept: bool,
    ) -> int | None:
        """Allocate, and return the offset of the first page.

        `release_after`: another thread drops the pins so many µs after the start, and ends.
        """

    def release_allocs(self) -> None:
        """Give back what drivers have allocated."""

    def free(self, area: str, pages: int) -> None:
        """Write to cma/NAME/free."""

    def drain(self) -> None:
        """Unmap a page somewhere else, which empties the LRU batch."""

    def pause(self, us: int) -> None:
        """Let time pass."""

    def set_tracking(self, on: bool) -> None:
        """Set failure_tracking."""

    def set_buffer_size(self, size: int) -> None:
        """Set buffer_size, which drops all records."""

    def set_threshold(self, us: int) -> None:
        """Set the threshold, which drops the long-term records."""

    def state(self, area: str) -> dict[str, Any]:
        """Return used, maxchunk, bitmap_set_bits and count."""

    def calls(self) -> tuple[int, int]:
        """Return how many allocations succeeded and failed."""

    def new_log(self) -> list[str]:
        """Return the errno of each log line of a failed allocation since the last call."""

    def tries(self) -> int | None:
        """Return how many ranges the last allocation tried; None if that cannot be seen."""

    def rows(self) -> list[Row] | None:
        """Return the records of the failure file, newest first; None if it cannot be read."""

    def texts(self) -> list[str] | None:
        """Return the texts of the records, newest first; None if there are none to compare."""

    def total(self) -> int:
        """Return how many records the failure file ever had."""

    def longterm(self) -> list[str]:
        """Return the first lines of longterm_pinner's records, newest first, as a reader gets them."""

    def longterm_at(self, position: int) -> str:
        """Return the text of the record at this position of longterm_pinner, or "" if it has no stack."""


def area_of(case: Case) -> tuple[int, int]:
    """Return the first PFN and the pages of the recorded machine's area."""
    if case.ops and case.ops[0]["call"] == "cma base,count":
        base, pages = case.ops[0]["ret"]
        return base, pages
    return 0xF000, 16384


def set_bits(words: list[int]) -> list[list[int]]:
    """Return the runs of set bits of a bitmap file: [first, last]."""
    bits = "".join(f"{word:032b}"[::-1] for word in words)
    return [[match.start(), match.end() - 1] for match in re.finditer("1+", bits)]


def is_scene(case: Case) -> bool:
    """Return whether the case is a scene: a process with pins in an area, or a driver with allocations."""
    return case.problem is None and case.shell is None and (case.family in FAMILIES or case.pins)


# Frames of the recording's own driver, and of the way from a system call to the mm.
OUTSIDE = re.compile(r"pph_|__x64_|x64_sys|do_syscall|entry_SYSCALL|simple_attr|debugfs_attr|full_proxy|vfs_|ksys_")
DRAIN = ("release_pages", "folio_batch_move_lru")


def _inside(frames: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for frame in frames:
        if OUTSIDE.match(frame):
            break
        kept.append(frame)
    return kept


def _in_order(some: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(frame in rest for frame in some)


def same_frames(recorded: tuple[str, ...], got: tuple[str, ...]) -> bool:
    """Return whether the first frames are those of the same event.

    One side may lack frames: compilers inline different functions. The driver that releases pins is the recorder's own.
    """
    if recorded[0].startswith(("pph_", "put_user_page", "page_cache_pipe_buf")):
        return got[0] == "release" or not re.match(
            "release_pages|folio_|try_to|migrate_|isolate|__alloc_contig|test_pages|free_pcp", got[0]
        )
    if recorded[:2] == DRAIN:
        # Whatever drains the batch: an allocation, a worker on another CPU, munmap or a page fault.
        return got[:2] == DRAIN and (recorded[2] == "folio_add_lru") == (got[2] == "folio_add_lru")
    if recorded[1] == "__pagevec_release":
        return got[0] == "release_pages"  # in a scenario, a file goes away with a process
    theirs, ours = _inside(recorded), _inside(got)[: len(recorded)]
    if recorded[0] != got[0]:
        return False
    shorter, longer = sorted((theirs[: len(ours)], ours), key=len)
    common = [frame for frame in shorter if frame in longer]
    return _in_order(common, longer) and len(common) >= min(2, len(shorter))


def recorded_rows(compact: list[list[Any]]) -> list[Row]:
    """Return the rows of a recorded dump, one for each record."""
    rows: list[Row] = []
    for kind, offset, count, mapcount, mapping, frames, times in (one for one in compact if len(one) == 7):
        row = Row(kind, offset, count, mapcount, mapping == "mapping", tuple(frames.split(" < ")))
        rows += [row] * times
    return rows


def same_row(recorded: Row, got: Row) -> bool:
    return recorded[:5] == got[:5] and same_frames(recorded.frames, got.frames)


def parse_text(text: str, base: int) -> Row:
    """Return the row of a record's text."""
    lines = text.split("\n")
    match = re.match(r"PFN (0x[0-9a-f]+|\d+) Block \d+ (?:count (\d+) mapcount (-?\d+) mapping (0x\w+))?", lines[1])
    assert match is not None, text
    frames = tuple(line.strip().split("+")[0].split(" ")[0] for line in lines[2:] if line.startswith(" "))
    frames = tuple(frame for frame in frames if not frame.startswith("pp_glue"))
    return Row(
        KINDS[lines[0][:8]],
        int(match[1], 0) - base,
        int(match[2] or 0),
        int(match[3] or 0),
        match[4] not in (None, "0x0"),
        frames,
    )


def _place(pfn: int, block: int, base: int) -> str:
    return f"offset {pfn - base}" if pfn >> 10 == block else f"PFN {pfn:#x} in the wrong block {block}"


def canonical_text(text: str, base: int) -> list[Any]:
    """Return the parts of a record's text that do not depend on the run: the frames are compared apart."""
    lines = text.split("\n")
    first = re.sub(r"\d+(?= us)|\[[ \d]{5,}\.\d{6}\]", "N", lines[0])
    second = re.sub(r"(?<=mapping )0x[0-9a-f]{16}", "ADDRESS", lines[1])
    # Kernels with the same page_pinner print flags as their Linux version does.
    second = re.sub(r"Flags (0x[0-9a-f]+)\(\1\((.*?)\|?zone=\d\)\)", r"Flags \1(\2)", second)
    second = re.sub(
        r"PFN (0x[0-9a-f]+) Block (\d+)", lambda match: _place(int(match[1], 0), int(match[2]), base), second
    )
    return [first, second, len(lines) > 3 and lines[-2:] == ["", ""]]
