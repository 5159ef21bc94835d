"""What is compared to the byte, and what by its form: every rule for what no fake can share stands here.

Each rule turns a field that differs from run to run into its form, on both sides alike.
"""

from __future__ import annotations

import errno
import os
import re

__all__ = ["form", "record_bytes", "words"]

# The recorded records are this long, give or take the digits of times and page frame numbers.
RECORD_LENGTHS = range(385, 415)

_RULES = [
    # durations, page frame numbers, blocks, flags: forms of a record's first two lines
    (re.compile(r"Page pinned ts \d+ us"), "Page pinned ts N us"),
    (re.compile(r"PFN \d+ Block \d+ type Movable Flags 0x[0-9a-f]+\([a-z_|]*\)"), "PFN N Block N type Movable Flags F"),
    # the same read backwards, by rev
    (re.compile(r"su \d+ st dennip egaP"), "su N st dennip egaP"),
    (re.compile(r"\)[a-z_|]*\([0-9a-f]+x0 sgalF elbavoM epyt \d+ kcolB \d+ NFP"), "F sgalF elbavoM epyt N kcolB N NFP"),
    # dates
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})?"), "DATE"),
    (re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d"), "DATE"),
    # inode and device numbers; the links of the root count the folders that a whole debugfs has
    (re.compile(r"Device: \S+\s+Inode: \d+ +"), "Device: D Inode: I "),
    (re.compile(r"(?<=Device: D Inode: I )Links: \d{2,}"), "Links: ROOT"),
    (re.compile(r"(?<=Device: D Inode: I )Links: 3(?=\nAccess: \(07)"), "Links: ROOT"),
    (re.compile(r"Device: \w+/\w+\s+Inode: \d+"), "Device: D Inode: I"),
    (re.compile(r"^(drwx\S+) +\d+( root +root +0 DATE \.\.)$", re.MULTILINE), r"\1 ROOT\2"),
    # dd's seconds and rates
    (re.compile(r"copied, [\d.e-]+ s, [\d.]+ \w+/s"), "copied, S s, RATE"),
    # digests of texts that differ
    (re.compile(r"\b[0-9a-f]{32,64}(?=  /sys/kernel/debug/page_pinner/longterm_pinner)"), "DIGEST"),
    # whether less had written all before head was done: both happen
    (re.compile(r"(?<=rc=0 )(0|141)(?= 0$)", re.MULTILINE), "0-OR-SIGPIPE"),
    # how far head had read beyond its lines
    (re.compile(r"relative offset -\d+"), "relative offset -N"),
    # the size that dd prints a second time in words
    (re.compile(r" bytes \(\d[^()]* \wB, [^()]* \wiB\)"), " bytes"),
]


def record_bytes(text: str) -> str:
    """Numbers that count the bytes of one to ten whole records, as `BYTES*n`."""

    def count(match: re.Match[str]) -> str:
        number = int(match[0])
        for records in range(1, 21):
            if RECORD_LENGTHS.start * records - 2 <= number < RECORD_LENGTHS.stop * records:
                return f"BYTES*{records}"
        return match[0]

    return re.sub(r"(?<![\w+])\d{3,5}(?!\d)", count, text)


def form(text: str, records: bool) -> str:
    """A text with what cannot be shared in its form. `records`: the case is about records, so byte counts vary."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return record_bytes(text) if records else text


_ERRORS = {os.strerror(number): name for number, name in errno.errorcode.items()}
_ERROR = re.compile("|".join(re.escape(text) for text in sorted(_ERRORS, key=len, reverse=True)))


def words(stderr: str, records: bool) -> list[str]:
    """stderr line by line: a line about an error as the errno it stands for, another one in its form."""
    lines = []
    for line in form(stderr, records).splitlines():
        match = _ERROR.search(line)
        lines.append(_ERRORS[match[0]] if match else line)
    return lines
