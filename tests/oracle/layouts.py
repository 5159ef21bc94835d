"""How the recorded kernels print a record. Written apart from pinnerfs's own parsers, which the replays test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["FREED", "RECORD", "RECORD_LENGTHS", "SECOND_LINE", "Freed", "freed_shown", "pfn_of", "texts_of"]

FIRST_LINE = r"(?:Page|At least,) pinned (?:ts|for) (?P<hold>\d+) us(?: count \d+)?\n"
# A kernel prints either the migratetype or the references of a page. 6.1 prints the bits of the flags twice.
PAGE = (
    r"PFN (?P<pfn>0x[0-9a-f]+|\d+) Block \d+ "
    r"(?:type \w+|count (?P<count>\d+) mapcount (?P<mapcount>\d+) mapping (?P<mapping>0x[0-9a-f]+)) "
    r"Flags 0x[0-9a-f]+\((?:0x[0-9a-f]+\()?(?P<flags>[a-z0-9_|]*)[^\n]*\n"
)
STACK = r"(?P<frames>(?: .+\n)+)\n"

SECOND_LINE = re.compile(PAGE)
RECORD = re.compile(FIRST_LINE + PAGE + STACK)
FREED = re.compile(r"Freed at \[ *(?P<seconds>\d+)\.(?P<micros>\d{6})\]\n" + PAGE + STACK)

# Typical length of a record of longterm_pinner. A record differs from it by the digits of a number and the flag `lru`.
RECORD_LENGTHS = {"introduced": 402, "android12-5.10-early": 402, "android12-5.10": 412, "pixel-5.10": 418}


def pfn_of(record: str) -> int:
    """Return the PFN of a record."""
    match = re.search(r"^PFN (\S+) Block ", record, re.MULTILINE)
    assert match is not None, record
    return int(match[1], 0)


def texts_of(value: Any) -> list[str]:
    """Return the texts in an answer. toybox rev prints lines from right to left, so return each text both ways."""
    if isinstance(value, str):
        return [value, "\n".join(line[::-1] for line in value.split("\n"))]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts_of(item)]
    return []


@dataclass(frozen=True)
class Freed:
    """A page that was pinned by get_user_pages, released by put_page, and freed at this boot time (µs)."""

    at: int
    pfn: int
    frames: tuple[str, ...]


def freed_shown(*values: Any) -> list[Freed]:
    """Return the `Freed at` records in these texts, oldest first, without duplicates."""
    seen: dict[Freed, None] = {}
    for text in texts_of(values):
        for match in FREED.finditer(text):
            at = int(match["seconds"]) * 1_000_000 + int(match["micros"])
            frames = tuple(line[1:] for line in match["frames"].splitlines())
            seen.setdefault(Freed(at, int(match["pfn"], 0), frames))
    return sorted(seen, key=lambda freed: freed.at)
