"""Load the recorded cases, and derive the answers that the kernel `introduced` gives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pinnerfs.kernel.page_pinner.generations import GENERATIONS

__all__ = ["DEBUGFS", "RECORDED", "VMSTAT", "Case", "Op", "for_introduced", "load", "load_all", "recorded_case"]

RECORDED = Path(__file__).parent / "cases"
DEBUGFS = "/sys/kernel/debug"

Op = dict[str, Any]

# No kernel `introduced` was recorded. Its answers are those of this kernel, except for these files and the count.
_NEAREST_TO_INTRODUCED = "android12-5.10-early"
_MISSING_FROM_INTRODUCED = ("alloc_contig_failed", "failure_tracking")

# What can be compared of the state of a CMA area. Pages on per-CPU lists, and pages that a kernel moved for its own
# reasons, differ from run to run.
_STATE = ("used", "maxchunk", "bitmap_set_bits", "count", "vmstat_delta", "dmesg")
VMSTAT = ("cma_alloc_success", "cma_alloc_fail")

# The count, as printed by toybox rev, xxd, hexdump, xxd -p and od -c: recorded, and by other generations.
_ENCODED_COUNTS = (
    ("0 tnuoc su ", "1 tnuoc su "),
    ("6e74 2030 0a", "6e74 2031 0a"),
    ("74 20 30 0a", "74 20 31 0a"),
    ("636f756e742030", "636f756e742031"),
    ("o   u   n   t       0", "o   u   n   t       1"),
)


@dataclass(frozen=True)
class Case:
    """A recorded case. `shell` is None for system calls; `problem` says why a line could not be parsed."""

    generation: str  # the recorded kernel; see pinnerfs.kernel.page_pinner.generations
    name: str
    auto: bool
    shell: str | None
    script: str
    uid: int
    exit: int | str
    stdout: str
    stderr: str
    ops: tuple[Op, ...]
    threshold: str | None
    long_pins: int
    hold_ms: int
    note: str
    boot: str
    kernel: str = ""  # the recorded one in words; only in the cases of cma-6.1
    modes: tuple[tuple[str, int], ...] = ()  # of files of an area, or of `debugfs`, the root directory
    pins: bool = False  # whether the setup has pins that the other keys do not describe
    extra: bool = False  # from the file of the option --oracle
    problem: str | None = None

    @property
    def family(self) -> str:
        """Return the first word of the name: `th`, `lt`, `ft` ..."""
        return self.name.split(".")[0]

    @property
    def recorded(self) -> str:
        """Return the kernel that gave the answers, or answers from which these are derived."""
        return _NEAREST_TO_INTRODUCED if self.generation == "introduced" else self.generation

    @property
    def shown(self) -> tuple[Any, ...]:
        """Return all texts that the case shows: the output of its script and the answers to its calls.

        Of a `diff`, return the lines of the first file.
        """
        if self.script.startswith("diff "):
            lines = [line.removeprefix("< ") for line in self.stdout.splitlines() if line.startswith("<")]
            return "\n".join(lines) + "\n", self.ops
        return self.stdout, self.ops


def _require(found: bool, reason: str) -> None:
    if not found:
        raise ValueError(reason)


def _comparable(value: Any) -> Any:
    """Return an answer of a case about CMA without what differs from run to run, and log lines without levels."""
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"^<\d>(?=\S+: )", "", value)
    if not isinstance(value, dict):
        return value
    kept = {key: _comparable(item) for key, item in value.items()}
    if "bitmap_set_bits" in kept:
        kept = {key: kept[key] for key in _STATE if key in kept}
        kept["vmstat_delta"] = {name: kept["vmstat_delta"].get(name, 0) for name in VMSTAT}
    # Counters of the second area count what earlier cases did.
    return {key: "PAGES" if re.fullmatch(r"camera/alloc_pages_\w+", key) else item for key, item in kept.items()}


def _case(raw: Any, generation: str | None) -> Case:
    """Parse a case. Without a `generation`, its keys say the kernel.

    Raise ValueError if a replay needs a value that is missing or has the wrong type.
    """
    _require(isinstance(raw, dict) and isinstance(raw.get("case"), str), "expected an object with a string `case`")
    setup = raw.get("setup") or {}
    ops = raw.get("ops", [])
    if isinstance(ops, list):
        ops = [op for op in ops if not isinstance(op, dict) or op.keys() != {"exc"}]  # an error of the recorder's own
    _require(isinstance(setup, dict), "`setup` is not an object")
    if raw.get("kind") == "shell":
        for key in ("shell", "script", "stdout", "stderr"):
            _require(isinstance(raw.get(key), str), f"`{key}` is missing or not a string")
        _require(isinstance(raw.get("exit"), int | str), "`exit` is missing, or neither a number nor a string")
    else:
        _require(raw.get("kind") == "sys", f"kind {raw.get('kind')!r} is neither 'shell' nor 'sys'")
        fine = isinstance(ops, list) and all(isinstance(op, dict) and isinstance(op.get("call"), str) for op in ops)
        _require(fine and any(len(op) > 1 for op in ops), "`ops` has no `call` with an answer")
    if generation is None:
        # The files of CMA's cases: their setup is a list of pins.
        _require(isinstance(raw.get("kernel"), str), "`kernel` is missing or not a string")
        generation = "android12-5.10" if "(V3)" in raw["kernel"] else "android14-6.1"
        ops = _comparable(ops)
    elif raw.get("auto") and GENERATIONS[generation].has_threshold:
        _require(
            isinstance(setup.get("threshold"), str | int), "`setup` has no `threshold` that is a number or a string"
        )
        _require(isinstance(setup.get("long_pins", 0), int), "`long_pins` is not a number")
    return Case(
        generation=generation,
        name=raw["case"],
        auto=bool(raw.get("auto")),
        shell=raw["shell"] if raw["kind"] == "shell" else None,
        script=raw.get("script", ""),
        uid=raw.get("uid") or (1000 if ".uid1000" in raw["case"] else 0),
        exit=raw.get("exit", 0),
        stdout=raw.get("stdout", ""),
        stderr=raw.get("stderr", ""),
        ops=tuple(ops),
        threshold=str(setup["threshold"]) if "threshold" in setup else None,
        long_pins=setup.get("long_pins", 0),
        hold_ms=setup.get("hold_ms", 5),
        note=f"{raw.get('note', '')} {raw.get('cut', '')}".strip(),
        boot=raw.get("boot", ""),
        kernel=raw.get("kernel", ""),
        modes=tuple((key.removesuffix("_mode"), int(mode, 8)) for key, mode in setup.items() if key.endswith("_mode")),
        pins="pins" in setup,
    )


def load(path: Path) -> Iterator[Case]:
    """Yield the cases of a file or of all .jsonl files of a directory.

    An invalid line gives a case with a `problem`. Raise OSError for a file that cannot be read.
    """
    path.stat()  # a missing file is not one with a wrong name
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    for file in files:
        generation = _generation_of(file)
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            if line.strip():
                try:
                    yield _case(json.loads(line), generation)
                except ValueError as error:
                    yield _unreadable(generation or "android14-6.1", f"{file.name}:{number}", str(error))


def _generation_of(file: Path) -> str | None:
    """Return the kernel that a file's name says: its stem, or the stem up to a `.` or `-`. None: each case says it.

    Raise ValueError for an unknown kernel.
    """
    if re.match(r"cma-6\.1(?![\w])", file.stem):
        return None
    for name in sorted(GENERATIONS, key=len, reverse=True):
        if re.match(rf"{re.escape(name)}(?![\w])", file.stem):
            return name
    raise ValueError(f"{file}: the name must be KERNEL.jsonl, with one of {', '.join(GENERATIONS)}; or cma-6.1.jsonl")


def _unreadable(generation: str, name: str, reason: str) -> Case:
    problem = f"invalid line, {reason.replace(': ', ', ')}"
    return Case(generation, name, True, None, "", 0, 0, "", "", (), None, 0, 0, "", "", problem=problem)


@cache
def _recorded() -> dict[tuple[str, str], Case]:
    return {(case.generation, case.name): case for case in load(RECORDED)}


def recorded_case(generation: str, name: str) -> Case:
    """Return the recorded case with this name."""
    return _recorded()[generation, name]


def load_all(extra: Path | None) -> list[Case]:
    """Return the recorded cases, then the other cases of the file or directory `extra`.

    Raise OSError if `extra` cannot be read, and ValueError if it has no case.
    """
    cases = list(_recorded().values())
    if extra is not None:
        more = list(load(extra))
        _require(bool(more), f"no case in {extra}; expected one JSON object per line in a .jsonl file")
        known = set(map(repr, cases))
        cases += [replace(case, extra=True) for case in more if repr(case) not in known]
    return cases


def _listing_without(text: str, words: tuple[str, ...]) -> str:
    """Return a listing without the lines for these files, and without their blocks in the output of stat."""
    kept: list[str] = []
    dropping = False
    for line in text.splitlines(keepends=True):
        if line.startswith("  File: "):
            dropping = any(word in line for word in words)
        elif dropping and not line.startswith((" ", "Device:", "Access:", "Modify:", "Change:")):
            dropping = False
        if not dropping and not re.search(rf"(?:^|[ /])(?:{'|'.join(words)})(?: |$)", line):
            kept.append(line)
    return "".join(kept)


def _with_count_1(value: Any) -> Any:
    """Return an answer with a count of 1 in its records instead of the recorded 0."""
    if isinstance(value, str):
        return value.replace(" us count 0", " us count 1")
    if isinstance(value, list):
        return [_with_count_1(item) for item in value]
    return value


def for_introduced(case: Case) -> Case | None:
    """Return the case with the answers of the kernel `introduced`, or None if that kernel has no such case.

    The kernel differs from the nearest recorded one in two ways: the count in a record (1, not 0), and the files.
    """
    if case.generation != _NEAREST_TO_INTRODUCED:
        return None
    missing = _MISSING_FROM_INTRODUCED
    asked = case.script + " ".join(op["call"] for op in case.ops)
    if any(name in asked for name in missing) or case.family in ("ft", "acf"):
        return None
    ops = tuple({key: _without(_with_count_1(value), missing) for key, value in op.items()} for op in case.ops)
    # toybox rev prints records from right to left.
    stdout = _with_count_1(_listing_without(case.stdout, missing))
    for recorded, other in _ENCODED_COUNTS:
        stdout = stdout.replace(recorded, other)
    stderr = _listing_without(case.stderr, missing)
    return replace(case, generation="introduced", stdout=stdout, stderr=stderr, ops=ops)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """Return a list of file names without these names."""
    if isinstance(value, list):
        return [item for item in value if item not in names]
    return value
