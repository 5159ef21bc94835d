"""Find the pins of a shell case whose answer shows the newest records only in part, or as a dump of bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.oracle.cases import Case
from tests.oracle.layouts import SECOND_LINE

__all__ = ["PartialRecords", "partial_records"]

# HEX_DUMP matches a line of xxd, `hexdump -C` or `od -t x1`; CHARACTER_DUMP a line of `od -c`.
HEX_DUMP = re.compile(r"[0-9a-f]{7,8}:? +((?:[0-9a-f]{2}(?:[0-9a-f]{2})? +)+) ?.*")
CHARACTER_DUMP = re.compile(r"[0-7]{7} ((?: +\S+)+)")
ESCAPES = {r"\n": "\n", r"\t": "\t"}


@dataclass(frozen=True)
class PartialRecords:
    """Durations in µs, PFNs and flags in the order of the answer, which is mostly newest first.

    `references` has the count, mapcount and mapping of each page, if the kernel prints them.
    """

    holds: list[int]
    pfns: list[int]
    flags: list[tuple[str, ...]]
    references: list[tuple[int, int, str]]


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


def partial_records(case: Case) -> PartialRecords:
    """Return the pin data that a case shows."""
    shown = _shown(case)
    backwards = "\n".join(line[::-1] for line in shown.split("\n"))
    for text in (_undumped(shown), shown, backwards):
        # Match fields, not whole records: a line may end in the middle of a record.
        holds = [int(number) for number in re.findall(r"pinned (?:ts|for) (\d+)", text)]
        pfns = [int(number, 0) for number in re.findall(r"PFN (0x[0-9a-f]+|\d+) Block", text)]
        if not pfns and (start := re.search(r"PFN (0x[0-9a-f]+)$", text)):
            pfns = [int(start[1].ljust(6, "0"), 16)]  # the dump ends within the number
        flags = [tuple(names.split("|")) for names in re.findall(r"Flags 0x[0-9a-f]+\(([a-z0-9_|]*)\)", text)]
        references = [
            (int(match["count"]), int(match["mapcount"]), match["mapping"])
            for match in SECOND_LINE.finditer(f"{text}\n")
            if match["count"] is not None
        ]
        if holds or pfns:
            return PartialRecords(holds, pfns, flags, references)
    written = set(re.findall(r"\d+", case.script))
    lone = [number for number in re.findall(r"(?<![\w.])\d+(?![\w.])", case.stdout) if number not in written]
    low = case.hold_ms * 1000
    pairs = re.findall(r"(?<![\w.])(0x[0-9a-f]{4,6}|\d{4,7})\W+(\d+)(?![\w.])", case.stdout)
    return PartialRecords(
        [int(number) for number in lone if low <= int(number) < low + max(2000, low // 2)],
        [int(pfn, 0) for pfn, block in pairs if int(pfn, 0) >> 10 == int(block)],
        [],
        [],
    )
