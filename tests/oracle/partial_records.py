"""Find the pins of a shell case whose answer shows the newest records only in part, or as a dump of bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import zip_longest

from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS
from tests.oracle.cases import Case
from tests.oracle.layouts import SECOND_LINE

__all__ = ["PartialRecord", "partial_records"]

# HEX_DUMP matches a line of xxd, `hexdump -C` or `od -t x1`; CHARACTER_DUMP a line of `od -c`.
HEX_DUMP = re.compile(r"[0-9a-f]{7,8}:? +((?:[0-9a-f]{2}(?:[0-9a-f]{2})? +)+) ?.*")
CHARACTER_DUMP = re.compile(r"[0-7]{7} ((?: +\S+)+ *)")
ESCAPES = {r"\n": "\n", r"\t": "\t"}


@dataclass(frozen=True)
class PartialRecord:
    """What an answer shows of a record: the duration in µs, the PFN, the flags, and count, mapcount and mapping."""

    hold: int | None = None
    pfn: int | None = None
    flags: tuple[str, ...] | None = None
    references: tuple[int, int, str] | None = None


def _undumped(text: str) -> str:
    """Return the text that the dump lines encode."""
    parts = []
    for line in text.split("\n"):
        if match := HEX_DUMP.fullmatch(line):
            parts.append(bytes.fromhex(match[1].replace(" ", ""))[:16].decode("latin-1"))  # without the text column
        elif match := CHARACTER_DUMP.fullmatch(line):
            parts.append(_characters(match[1]))
    return "".join(parts)


def _characters(columns: str) -> str:
    """Return the characters of a line of `od -c`. Each column is four wide; an empty column is a space."""
    cells = [columns[at : at + 4].strip() for at in range(0, len(columns), 4)]
    return "".join(ESCAPES.get(cell, cell or " ") for cell in cells)


def _shown(case: Case) -> str:
    """Return the text of a shell case, or of system calls the first lines of each record that an answer has."""
    if case.shell is not None:
        text = case.shown[0]
        assert isinstance(text, str)
        return text
    lines = [op["ret"] for op in case.ops if isinstance(op.get("ret"), list)]
    records = ["\n".join(pair) for pair in lines if len(pair) == 2 and str(pair[1]).startswith("PFN ")]
    return "\n".join(dict.fromkeys(records))


HOLD = re.compile(r"pinned (?:ts|for) (\d+).*")
PFN = re.compile(r"PFN (?:(0x[0-9a-f]+|\d+) Block.*|(0x[0-9a-f]+)$)")


def _page(match: re.Match[str]) -> PartialRecord:
    """Return what a second line shows. It may end early."""
    if match[1] is None:
        return PartialRecord(pfn=int(match[2].ljust(6, "0"), 16))  # a dump that ends within the number
    pfn, line = int(match[1], 0), SECOND_LINE.match(f"{match[0]}\n")
    if line is None:
        return PartialRecord(pfn=pfn)
    flags = tuple(flag for flag in line["flags"].split("|") if flag)
    if line["count"] is None:
        return PartialRecord(pfn=pfn, flags=flags)
    return PartialRecord(pfn=pfn, flags=flags, references=(int(line["count"]), int(line["mapcount"]), line["mapping"]))


def _lone_pages(case: Case) -> list[int]:
    """Return the PFNs that an answer shows without their blocks, or PFNs in the blocks that it shows without PFNs.

    Hex numbers with so many digits are PFNs or flags, and these flags are larger than any PFN. Decimal numbers must be
    as many as the pins: others are counts.
    """
    hexadecimal = [int(number, 16) for number in re.findall(r"^0x[0-9a-f]{4,5}$", case.stdout, re.MULTILINE)]
    if pfns := [number for number in hexadecimal if number < 1 << PAGE_FLAG_BITS["swapbacked"]]:
        return pfns
    numbers = [int(number) for number in re.findall(r"^\d{1,6}$", case.stdout, re.MULTILINE)]
    if "PFN" not in case.script or len(numbers) != case.long_pins:
        return []
    return [number if number >= 1024 else number * 1024 + place for place, number in enumerate(numbers)]


def partial_records(case: Case) -> list[PartialRecord]:
    """Return what a case shows of its records, in the order of the answer, which is mostly newest first."""
    shown = _shown(case)
    backwards = "\n".join(line[::-1] for line in shown.split("\n"))
    for text in (_undumped(shown), shown, backwards):
        # Match fields, not whole records: a line may end in the middle of a record.
        holds = list(HOLD.finditer(text))
        pages = {match.start(): _page(match) for match in PFN.finditer(text)}
        if holds and pages and len(holds) != len(pages):
            # Some records are shown without one of these lines. The second line follows the first.
            starts = {
                match.start(): replace(pages.pop(match.end() + 1, PartialRecord()), hold=int(match[1]))
                for match in holds
            }
            return [record for _, record in sorted((starts | pages).items())]
        if holds or pages:
            both = zip_longest((int(match[1]) for match in holds), pages.values())
            return [replace(page or PartialRecord(), hold=hold) for hold, page in both]
    written = set(re.findall(r"\d+", case.script))
    lone = [number for number in re.findall(r"(?<![\w.])\d+(?![\w.])", case.stdout) if number not in written]
    low = case.hold_ms * 1000
    pairs = re.findall(r"(?<![\w.])(0x[0-9a-f]{4,6}|\d{4,7})\W+(\d+)(?![\w.])", case.stdout)
    fitting = (int(number) for number in lone if low <= int(number) < low + max(2000, low // 2))
    pfns = [int(pfn, 0) for pfn, block in pairs if int(pfn, 0) >> 10 == int(block)] or _lone_pages(case)
    return [PartialRecord(hold, pfn) for hold, pfn in zip_longest(fitting, pfns)]
