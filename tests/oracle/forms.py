"""What no fake can share is compared by its form: one rule a field, all of them in this one table.

Both sides, the recorded and the replayed answer, are put through the same rules; then they must be equal, every line.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS
from tests.oracle.cases import DEBUGFS, Case
from tests.oracle.scenarios import recorded_pins

__all__ = ["RULES", "Answered", "canonical", "canonical_op", "same"]

MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"

Form = str | Callable[[re.Match[str]], str]


def _place(match: re.Match[str]) -> str:
    """A PFN and its block, if they belong together."""
    return "PFN N Block N " if int(match[1]) >> 10 == int(match[2]) else match[0]


def _flags(match: re.Match[str]) -> str:
    """Flags, if their names are those of the bits (the zone's have none)."""
    bits = sum(1 << PAGE_FLAG_BITS[name] for name in match[2].split("|") if name)
    return "Flags FLAGS" if int(match[1], 16) % (1 << 62) == bits else match[0]


# field -> (pattern, what it becomes). `\1` and the like keep a part.
RULES: dict[str, tuple[str, Form]] = {
    "duration of a pin": (r"(?<=pinned ts )\d+(?= us)", "DURATION"),
    "PFN and block": (r"PFN (\d+) Block (\d+) ", _place),
    "page flags": (r"Flags (0x[0-9a-f]+)\(([a-z0-9_|]*)\)", _flags),
    "symbol offsets": (r"(?<=[\w.])\+0x[0-9a-f]+/0x[0-9a-f]+", "+OFFSET/SIZE"),
    "date of ls": (rf"\b(?:{MONTHS}) [ \d]\d (?:\d\d:\d\d| \d{{4}})", "DATE"),
    "date of stat": (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+0000", "DATE"),
    "birth of stat": (r"(?<= Birth: )(?:DATE|-)", "DATE"),
    "inode and device of stat": (r"Device: \S+\s+Inode: \d+\s+", "Device: N Inode: N "),
    "links of the debugfs root, one for each of its folders": (
        r"^(d[rwx-]{9} )\d+( \w+ \w+ \d+ DATE (?:\.\.|/sys/kernel/debug/?))$",
        r"\1LINKS\2",
    ),
    "links of the debugfs root itself": (r"^(drwx------ )\d+(?= root root \d+ DATE \.$)", r"\1LINKS"),
    "seconds and rates of dd": (r"(?<= copied, )[\d.e-]+ s, [\d.]+ [kMGT]?B/s", "SECONDS, RATE"),
    "size of dd in larger units": (r"(?<= bytes) \([\d.]+ \w?B(?:, [\d.]+ \w+)?\)(?= copied)", ""),
    "seconds of time": (r"^(real|user|sys)\t\d+m[\d.]+s$", r"\1 SECONDS"),
    "how far head wanted to seek back, from some place in a record": (r"(?<=relative offset )-[1-9]\d*", "-BYTES"),
    "digest of records": (r"\b[0-9a-f]{32,128}(?=  (?:-|\S*(?:longterm_pinner|/lt\w+|/tb\d*))$)", "DIGEST"),
    "PFN in a record that was cut off": (r"^PFN \d+$", "PFN N"),
    "st_dev": (r"'st_dev': \d+", "'st_dev': N"),
}

# An error's words, by the errno that they stand for; the longest first, as some hold others.
WORDS = [(os.strerror(number), name) for number, name in errno.errorcode.items()]
ERRNOS = sorted(WORDS, key=lambda pair: -len(pair[0]))
# One record's length, and how far those of a case may lie from it: the digits of ts and PFN, and the flag `lru`.
RECORD_LENGTH, SLACK = 402, 10


def _by_errno(line: str) -> str:
    """A message that ends in an error's words: who says it, of which files, and which errno it is."""
    for words, name in ERRNOS:
        if line.endswith(words) or f"{words};" in line:
            tool = re.match(r"(?:E: )?([^ :]+):", line)
            what = ["write error"] if "write error" in line else []
            files = re.findall(r"/[^\s:'\u2018\u2019]+", line[tool.end() :] if tool else line)
            return ": ".join([os.path.basename(tool[1]) if tool else "", *what, *files, name])
    return line


def _counts(case: Case) -> Callable[[re.Match[str]], str]:
    """Numbers of bytes that follow from the lengths of records; each must be that of a whole number of them."""
    # What somebody wrote is no count.
    written = {case.threshold, *re.findall(r"\d+", case.script)}

    def count(match: re.Match[str]) -> str:
        number = int(match[0])
        # Of many records only all together have a length that tells how many they are.
        whole = abs(number - RECORD_LENGTH * case.long_pins) <= SLACK * case.long_pins
        records = case.long_pins if whole else round(number / RECORD_LENGTH)
        near = whole or abs(number - RECORD_LENGTH * records) <= min(SLACK * records, RECORD_LENGTH // 3)
        if match[0] not in written and 0 < records <= case.long_pins and near:
            return f"BYTES OF {records}"
        return match[0]

    return count


# Of a compound page one record is written after the other: their durations differ by some µs.
WHILE_TIME_GOES_ON = "lt.thp"
# Newer kernels tell of an opening before they tell of its truncation.
WITHOUT_ORDER = ("inotify after open(O_TRUNC),write ok,write fail,close",)
# The widths of the columns of `ls -l` hang on its widest numbers.
LS_LINE = re.compile(r"[-dl][rwxsStT-]{9} ")
# What `file` said of its own data on the machine that answered.
OF_THE_MACHINE = re.compile("Warning: using regular magic file .*")
# The other entries of the root of the debugfs there, and who lists them.
LISTS = re.compile(r"\b(ls|find|tree|du)\b|debug/\*")
OTHER_ENTRIES = re.compile(
    "acpi|bdi|clear_warn_once|cma|device_component|devices_deferred|extfrag|fault_around_bytes|gup_test|hid|pp_hold|sched"
    "|sleep_time|split_huge_pages|swiotlb|virtio-ports|x86"
)


def _line(line: str) -> str:
    if LS_LINE.match(line):
        line = re.sub(" +", " ", line)
    for pattern, form in RULES.values():
        line = re.sub(pattern, form, line)
    return line


def canonical(text: str, case: Case) -> list[str]:
    """The lines of a text with all that may differ brought to its form."""
    lines = []
    blocks = f"  File: {DEBUGFS}"  # of stat
    at_root = False
    for line in text.split("\n"):
        entry = line.split(" ")[-1] if LS_LINE.match(line) else line
        if OF_THE_MACHINE.fullmatch(line) or (LISTS.search(case.script) and OTHER_ENTRIES.fullmatch(entry)):
            continue
        changed = _line(line)
        if changed == line and line != line[::-1]:
            # toybox rev
            changed = _line(line[::-1])
            changed = line if changed == line[::-1] else changed[::-1]
        at_root = line == blocks if line.startswith("  File: ") else at_root
        if at_root:
            changed = re.sub(r"Links: \d+", "Links: LINKS", changed)
        if case.long_pins:
            changed = re.sub(r"(?<![\d.x])\d{3,7}(?![\d.])", _counts(case), changed)
            # wc and the like fill up with blanks to a width that hangs on the numbers.
            changed = re.sub(r" +(?=BYTES OF)", " ", changed)
        if "| head" in case.script:
            # A writer whose reader has left dies of SIGPIPE, or was quicker.
            changed = re.sub(r"^(rc=\d+) (?:141|0) (\d+)$", r"\1 STATUS \2", changed)
        lines.append(_by_errno(changed))
    return _traceback(lines)


def _traceback(lines: list[str]) -> list[str]:
    """Return the lines with Python's traceback as its last line: newer ones show more of the source.

    Python 3.13 tells of a file that cannot be written when it is closed unasked, and older ones do not.
    """
    kept: list[str] = []
    inside = False
    ignored = False
    for line in lines:
        if line.startswith("Exception ignored in: <_io."):
            ignored = True
            continue
        if ignored:
            # Its traceback ends with the exception itself.
            ignored = line.startswith(("Traceback (", " "))
            continue
        if line.startswith("Traceback ("):
            inside = True
        elif inside and line.startswith(" "):
            continue
        else:
            inside = False
        kept.append(line)
    return kept


def canonical_op(value: Any, exact: bool) -> Any:
    """An answer of a system call. Where the scenario has the recorded pins, `exact`: all but the PFN must be equal."""
    if isinstance(value, str):
        names = ("PFN and block", "page flags", "st_dev") if exact else tuple(RULES)
        for name in names:
            value = re.sub(*RULES[name], value, flags=re.MULTILINE)
        return value
    if isinstance(value, (list, tuple)):
        return [canonical_op(item, exact) for item in value]
    if isinstance(value, dict):
        return {key: canonical_op(item, exact) for key, item in value.items() if key != "st_dev"}
    return value


@dataclass(frozen=True)
class Answered:
    """An answer of a case, be it `stdout`, `stderr`, `exit` or a call: what was recorded, what came, whether alike."""

    name: str
    recorded: str
    got: str
    same: bool


def same(recorded: dict[str, Any], answered: dict[str, Any], case: Case) -> bool:
    """Whether a call was answered as recorded. A file descriptor is any number that is none of an error."""
    exact = bool(recorded_pins(case)) and not case.name.startswith(WHILE_TIME_GOES_ON)
    for key in sorted((recorded.keys() | answered.keys()) - {"call"}):
        ours, theirs = answered.get(key), recorded.get(key)
        if key == "errno":
            ours, theirs = ours or None, theirs or None
        if recorded["call"] in WITHOUT_ORDER:
            ours, theirs = (sorted(some) if isinstance(some, list) else some for some in (ours, theirs))
        if key == "ret" and recorded["call"].startswith("open(") and isinstance(theirs, int) and theirs >= 0:
            if not (isinstance(ours, int) and ours >= 0):
                return False
        elif canonical_op(ours, exact) != canonical_op(theirs, exact):
            return False
    return True
