"""Compare replayed answers with recorded ones, except for values that no fake can reproduce.

The table RULES replaces such values by a placeholder, in the recorded and in the replayed answer. After that, all lines
must be equal.
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
from tests.oracle.layouts import FREED, RECORD_LENGTHS
from tests.oracle.scenarios import freed_of, recorded_pins

__all__ = ["RULES", "Comparison", "canonical", "canonical_op", "same"]

MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"

Replacement = str | Callable[[re.Match[str]], str]


def _pfn_and_block(match: re.Match[str]) -> str:
    """Replace a PFN and its block if the PFN is in that block."""
    form = "0xN" if match[1].startswith("0x") else "N"
    return f"PFN {form} Block N " if int(match[1], 0) >> 10 == int(match[2]) else match[0]


def _flags_match(number: str, names: str) -> bool:
    """Return whether the names of page flags match the bits. The bits of the zone have no name."""
    bits = [1 << PAGE_FLAG_BITS.get(name, 62) for name in names.split("|") if name]
    return int(number, 16) % (1 << 62) == sum(bits)


def _flags(match: re.Match[str]) -> str:
    """Replace page flags if the names match the bits."""
    return "Flags FLAGS" if _flags_match(match[1], match[2]) else match[0]


def _doubled_flags(match: re.Match[str]) -> str:
    """Replace page flags as 6.1 prints them: the bits twice, then the names and the zone."""
    return "Flags FLAGS(FLAGS|zone)" if _flags_match(match[1], match[2]) else match[0]


# field -> (pattern, replacement)
RULES: dict[str, tuple[str, Replacement]] = {
    "duration of a pin": (r"(pinned (?:ts|for) )\d+(?= us)", r"\1DURATION"),
    "boot time": (r"((?:Freed|detected) at |pinned ts )\[(?=[ \d]{5,}\.) *\d+\.\d{6}\]", r"\1[SECONDS]"),
    "PFN and block": (r"PFN (0x[0-9a-f]+|\d+) Block (\d+) ", _pfn_and_block),
    "address of a mapping": (r"(?<=mapping )0x[0-9a-f]{16}(?= Flags)", "ADDRESS"),
    "page flags": (r"Flags (0x[0-9a-f]+)\(([a-z0-9_|]*)\)", _flags),
    "page flags on 6.1": (r"Flags (0x[0-9a-f]+)\(\1\(((?:[a-z0-9_]+\|)*)zone=\d\)\)", _doubled_flags),
    "symbol offsets": (r"(?<=[\w.])\+0x[0-9a-f]+/0x[0-9a-f]+", "+OFFSET/SIZE"),
    "date of ls": (rf"\b(?:{MONTHS}) [ \d]\d (?:\d\d:\d\d| \d{{4}})", "DATE"),
    "date of stat": (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+0000", "DATE"),
    "birth of stat": (r"(?<= Birth: )(?:DATE|-)", "DATE"),
    "inode and device of stat": (r"Device: \S+\s+Inode: \d+\s+", "Device: N Inode: N "),
    "links of the debugfs root, which depend on the number of its directories": (
        r"^(d[rwx-]{9} )\d+( \w+ \w+ \d+ DATE (?:\.\.|/sys/kernel/debug/?))$",
        r"\1LINKS\2",
    ),
    "links of the debugfs root in its own listing": (r"^(drwx------ )\d+(?= root root \d+ DATE \.$)", r"\1LINKS"),
    "seconds and rates of dd": (r"(?<= copied, )[\d.e-]+ s, [\d.]+ [kMGT]?B/s", "SECONDS, RATE"),
    "size of dd in larger units": (r"(?<= bytes) \([\d.]+ \w?B(?:, [\d.]+ \w+)?\)(?= copied)", ""),
    "seconds of time": (r"^(real|user|sys)\t\d+m[\d.]+s$", r"\1 SECONDS"),
    "offset by which head tried to seek back": (r"(?<=relative offset )-[1-9]\d*", "-BYTES"),
    "digest of records": (r"\b[0-9a-f]{32,128}(?=  (?:-|\S*(?:longterm_pinner|/lt\w+|/tb\d*))$)", "DIGEST"),
    "PFN at the end of a truncated record": (r"^PFN (?:0x[0-9a-f]+|\d+)(?: B\w{0,3})?$", "PFN N"),
    "st_dev": (r"'st_dev': \d+", "'st_dev': N"),
}

# The rules for cases whose pins are those of the recording.
EXACT_RULES = ("boot time", "PFN and block", "address of a mapping", "page flags", "page flags on 6.1", "st_dev")

# Error messages and their errno names. The longest come first, because some messages contain others.
ERRORS = [(os.strerror(number), name) for number, name in errno.errorcode.items()]
ERRORS_LONGEST_FIRST = sorted(ERRORS, key=lambda pair: -len(pair[0]))
SLACK = 10  # bytes by which a record may differ from the typical length


def _by_errno(line: str) -> str:
    """Reduce an error message to the tool, the files and the errno name: tools word their messages differently."""
    for words, name in ERRORS_LONGEST_FIRST:
        if line.endswith(words) or f"{words};" in line:
            tool = re.match(r"(?:E: )?([^ :]+):", line)
            what = ["write error"] if "write error" in line else []
            files = re.findall(r"/[^\s:'\u2018\u2019]+", line[tool.end() :] if tool else line)
            return ": ".join([os.path.basename(tool[1]) if tool else "", *what, *files, name])
    return line


def _counts(case: Case) -> Callable[[re.Match[str]], str]:
    """Return a function that replaces a number of bytes if it is the length of a whole number of records."""
    length = RECORD_LENGTHS.get(case.generation, RECORD_LENGTHS["pixel-5.10"])
    # Numbers that the case writes are not byte counts.
    written = {case.threshold, *re.findall(r"\d+", case.script)}

    def count(match: re.Match[str]) -> str:
        number = int(match[0])
        # With many records, the length is unambiguous only for all of them together.
        whole = abs(number - length * case.long_pins) <= SLACK * case.long_pins
        records = case.long_pins if whole else round(number / length)
        near = whole or abs(number - length * records) <= min(SLACK * records, length // 3)
        if match[0] not in written and 0 < records <= case.long_pins and near:
            return f"BYTES OF {records}"
        return match[0]

    return count


# The records of a compound page are written one after the other, so their durations differ by some µs.
DURATIONS_DRIFT = "lt.thp"
# Calls whose events come in any order: newer kernels report an open before its truncation.
UNORDERED = ("inotify after open(O_TRUNC),write ok,write fail,close",)
# The column widths of `ls -l` depend on its widest numbers.
LS_LINE = re.compile(r"[-dl][rwxsStT-]{9} ")
# What dd prints at its end.
DD_SUMMARY = re.compile(r"\d+\+\d+ records (in|out)$|\d+ bytes .*copied, ")
# `file` printed this about its own database on the recorded machine.
HOST_WARNING = re.compile("Warning: using regular magic file .*")
# Commands that list the debugfs root, and its other entries on the recorded machine.
LISTS = re.compile(r"\b(ls|find|tree|du)\b|debug/\*")
OTHER_ENTRIES = re.compile(
    "acpi|bdi|clear_warn_once|cma|device_component|devices_deferred|extfrag|fault_around_bytes|gup_test|hid|pp_hold|sched"
    "|sleep_time|slab|split_huge_pages|swiotlb|virtio-ports|x86"
)


# A freed page shows the kernel's own call chain. That of the recorded machine begins a system call as x86 does.
FREED_STACK = re.compile(r"(?<=Freed at )([^\n]*\n[^\n]*\n)((?: [^\n]*\n)+)")
SYSCALL_FRAMES = re.compile(
    r"^ (?:__(?:x64|arm64)_sys_|x64_sys_call|do_syscall_64|entry_SYSCALL_64|invoke_syscall|(?:do_)?el0)\S*\n",
    re.MULTILINE,
)


def _without_syscall(text: str) -> str:
    """Return a text without the frames of the system call in the records of freed pages."""
    return FREED_STACK.sub(lambda match: match[1] + SYSCALL_FRAMES.sub("", match[2]), text)


def _freed_counts(text: str) -> list[tuple[str, Replacement]]:
    """Return rules for the lines of wc and dd: their numbers depend on the number of frames of a freed page."""
    match = FREED.search(text)
    lines = match[0].count("\n") if match else 1

    def whole(found: re.Match[str]) -> str:
        return found[0] if int(found[1]) % lines else f"LINES OF {int(found[1]) // lines}{found[2]}"

    return [
        (r"^(\d+)( \S+/alloc_contig_failed)$", whole if match else r"\g<0>"),
        (r"^[4-6]\d\d bytes(?= copied)", "BYTES OF 1"),
    ]


def _line(line: str) -> str:
    if LS_LINE.match(line):
        line = re.sub(" +", " ", line)
    for pattern, form in RULES.values():
        line = re.sub(pattern, form, line)
    return line


def canonical(text: str, case: Case) -> list[str]:
    """Return the lines of a text with placeholders for all values that may differ."""
    freed_counts = _freed_counts(text) if freed_of(case) else []
    text = _without_syscall(text)
    lines = []
    blocks = f"  File: {DEBUGFS}"  # first line of a block of stat
    at_root = False
    for line in text.split("\n"):
        entry = line.split(" ")[-1] if LS_LINE.match(line) else line
        if HOST_WARNING.fullmatch(line) or (LISTS.search(case.script) and OTHER_ENTRIES.fullmatch(entry)):
            continue
        changed = _line(line)
        if changed == line and line != line[::-1]:
            # Maybe a line of toybox rev, which prints it from right to left.
            changed = _line(line[::-1])
            changed = line if changed == line[::-1] else changed[::-1]
        at_root = line == blocks if line.startswith("  File: ") else at_root
        if at_root:
            changed = re.sub(r"Links: \d+", "Links: LINKS", changed)
        if case.long_pins:
            changed = re.sub(r"(?<![\d.x])\d{3,7}(?![\d.])", _counts(case), changed)
            # wc and similar tools pad to a width that depends on the numbers.
            changed = re.sub(r" +(?=BYTES OF)", " ", changed)
        for pattern, form in freed_counts:
            changed = re.sub(pattern, form, changed)
        if "| head" in case.script:
            # The writer before `| head` is killed by SIGPIPE, or ends before head does.
            changed = re.sub(r"^(rc=\d+) (?:141|0) (\d+)$", r"\1 STATUS \2", changed)
        if "rc=141\n" in case.stdout:
            # The same for dd. If it ends, it says what it has copied.
            if DD_SUMMARY.match(line):
                continue
            changed = re.sub(r"rc=(?:141|0)$", "rc=STATUS", changed)
        lines.append(_by_errno(changed))
    return _traceback(lines)


def _traceback(lines: list[str]) -> list[str]:
    """Reduce each Python traceback to its last line: newer versions show more of the source.

    Drop "Exception ignored in": only Python 3.13 and later print it for a file whose implicit close fails.
    """
    kept: list[str] = []
    inside = False
    ignored = False
    for line in lines:
        if line.startswith("Exception ignored in: <_io."):
            ignored = True
            continue
        if ignored:
            # Skip its traceback, up to the line with the exception.
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
    """Return an answer of a system call with placeholders.

    If `exact`, the scenario has the recorded pins: only PFN, page flags and st_dev may differ.
    """
    if isinstance(value, str):
        names = EXACT_RULES if exact else tuple(RULES)
        value = _without_syscall(value)
        for name in names:
            value = re.sub(*RULES[name], value, flags=re.MULTILINE)
        return value
    if isinstance(value, (list, tuple)):
        return [canonical_op(item, exact) for item in value]
    if isinstance(value, dict):
        return {key: canonical_op(item, exact) for key, item in value.items() if key != "st_dev"}
    return value


@dataclass(frozen=True)
class Comparison:
    """The recorded and the replayed answer; `name` is `stdout`, `stderr`, `exit` or a call."""

    name: str
    recorded: str
    got: str
    same: bool


def same(recorded: dict[str, Any], answered: dict[str, Any], case: Case) -> bool:
    """Return whether a call was answered as recorded. Any file descriptor equals any other."""
    exact = bool(recorded_pins(case)) and not case.name.startswith(DURATIONS_DRIFT)
    for key in sorted((recorded.keys() | answered.keys()) - {"call"}):
        ours, theirs = answered.get(key), recorded.get(key)
        if key == "errno":
            ours, theirs = ours or None, theirs or None
        if recorded["call"] in UNORDERED:
            ours, theirs = (sorted(some) if isinstance(some, list) else some for some in (ours, theirs))
        if key == "ret" and str(recorded.get("data")).startswith("Freed at"):
            # The lengths differ by the frames of the system call.
            ours, theirs = (ours == len(answered.get("data", "")), theirs == len(recorded["data"]))
        if key == "ret" and recorded["call"].startswith("open(") and isinstance(theirs, int) and theirs >= 0:
            if not (isinstance(ours, int) and ours >= 0):
                return False
        elif canonical_op(ours, exact) != canonical_op(theirs, exact):
            return False
    return True
