"""The recorded cases: loading them, and what each would be on a kernel of another generation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["DEBUGFS", "RECORDED", "RECORDED_BY", "Case", "Op", "for_generation", "load", "load_all"]

RECORDED = Path(__file__).parent / "cases"
RECORDED_BY = "android12-5.10-early"  # the generation that answered
DEBUGFS = "/sys/kernel/debug"

Op = dict[str, Any]

# The files that a generation lacks; a case that asks for one of them cannot be put to it.
_MISSING_FILES = {"introduced": ("alloc_contig_failed", "failure_tracking")}


# That count as toybox rev, xxd and hexdump show it.
_ENCODED_COUNTS = (("0 tnuoc su ", "1 tnuoc su "), ("6e74 2030 0a", "6e74 2031 0a"), ("74 20 30 0a", "74 20 31 0a"))


@dataclass(frozen=True)
class Case:
    """One recorded case. `shell` is None for a case of system calls; `problem` says why a line could not be read."""

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
    extra: bool = False  # of a file that is not in the repository
    problem: str | None = None

    @property
    def family(self) -> str:
        """The first word of the name: `th`, `lt`, `ft` ..."""
        return self.name.split(".")[0]


def _require(found: bool, reason: str) -> None:
    if not found:
        raise ValueError(reason)


def _case(raw: Any) -> Case:
    """A line's case. Raises ValueError where it does not say all that a replay needs."""
    _require(isinstance(raw, dict) and isinstance(raw.get("case"), str), "no object with a `case`")
    setup = raw.get("setup") or {}
    ops = raw.get("ops", [])
    _require(isinstance(setup, dict), "`setup` is no object")
    if raw.get("kind") == "shell":
        for key in ("shell", "script", "stdout", "stderr"):
            _require(isinstance(raw.get(key), str), f"no text `{key}`")
        _require(isinstance(raw.get("exit"), int | str), "no `exit`")
    else:
        _require(raw.get("kind") == "sys", f"kind {raw.get('kind')!r} is neither shell nor sys")
        fine = isinstance(ops, list) and all(isinstance(op, dict) and isinstance(op.get("call"), str) for op in ops)
        _require(fine and any(len(op) > 1 for op in ops), "no `ops` with a `call` and its answer")
    if raw.get("auto"):
        _require(isinstance(setup.get("threshold"), str | int), "no threshold in `setup`")
        _require(isinstance(setup.get("long_pins", 0), int), "`long_pins` is no number")
    return Case(
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
    )


def load(path: Path) -> Iterator[Case]:
    """The cases of a file, or of every .jsonl file of a directory. A line that is none becomes one with a `problem`."""
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    for file in files:
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            if line.strip():
                try:
                    yield _case(json.loads(line))
                except ValueError as error:
                    yield _unreadable(f"{file.name}:{number}", str(error))


def _unreadable(name: str, reason: str) -> Case:
    problem = f"not readable, {reason.replace(': ', ', ')}"
    return Case(name, True, None, "", 0, 0, "", "", (), None, 0, 0, "", "", problem=problem)


def load_all(extra: Path | None) -> list[Case]:
    """The cases of the repository, then those of a extra file or directory that do not stand among them.

    Raises OSError where there is no such file, and ValueError where there is no case in it.
    """
    cases = list(load(RECORDED))
    if extra is not None:
        more = list(load(extra))
        _require(bool(more), f"there is no case in {extra}")
        known = set(map(repr, cases))
        cases += [replace(case, extra=True) for case in more if repr(case) not in known]
    return cases


def _listing_without(text: str, words: tuple[str, ...]) -> str:
    """A listing without the files of these names: their lines, and their blocks in what stat prints."""
    kept: list[str] = []
    dropping = False
    for line in text.splitlines(keepends=True):
        if line.startswith("  File: "):
            dropping = any(word in line for word in words)
        elif dropping and not line.startswith((" ", "Device:", "Access:", "Modify:", "Change:")):
            dropping = False
        if not dropping and not any(line.rstrip("\n").endswith(word) for word in words):
            kept.append(line)
    return "".join(kept)


def _with_count_1(value: Any) -> Any:
    """The count of a record is 1 where the generation that answered printed 0."""
    if isinstance(value, str):
        return value.replace(" us count 0", " us count 1")
    if isinstance(value, list):
        return [_with_count_1(item) for item in value]
    return value


def for_generation(case: Case, generation: str) -> Case | None:
    """The case as that generation must answer it; None where it has not got the file that the case asks for.

    Two differences, by rule: a count of 1 where 0 was recorded, and no lines for files that are not there.
    """
    if generation == RECORDED_BY:
        return case
    missing = _MISSING_FILES[generation]
    asked = case.script + " ".join(op["call"] for op in case.ops)
    if any(name in asked for name in missing) or case.family in ("ft", "acf"):
        return None
    ops = tuple({key: _without(_with_count_1(value), missing) for key, value in op.items()} for op in case.ops)
    # toybox rev shows records from right to left.
    stdout = _with_count_1(_listing_without(case.stdout, missing))
    for recorded, other in _ENCODED_COUNTS:
        stdout = stdout.replace(recorded, other)
    return replace(case, stdout=stdout, stderr=_listing_without(case.stderr, missing), ops=ops)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """A list that names files, without these."""
    if isinstance(value, list):
        return [item for item in value if item not in names]
    return value
