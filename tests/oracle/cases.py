"""The recorded cases: what a real kernel answered, one case a line of a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["RECORDED", "Case", "load"]

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Case:
    """One case. `auto`: its setup and its own text say all that a replay needs."""

    name: str
    kind: str
    auto: bool
    threshold: str | None
    long_pins: int
    hold_ms: float
    shell: str = ""
    script: str = ""
    exit: int | str = 0
    stdout: str = ""
    stderr: str = ""
    uid: int | None = None
    ops: list[dict[str, Any]] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The first part of the name: what the case is about."""
        return self.name.split(".")[0]

    @property
    def busybox_cat(self) -> bool:
        """Whether busybox's own cat reads: ash runs its applets before the tools of the system."""
        return "busybox cat" in self.script or (self.shell == "ash" and "cat" in self.script)

    @property
    def waits_for_cma(self) -> bool:
        """Whether it is about allocations that fail, which no scenario has yet."""
        return self.group in ("cma", "acf")


def _case(row: dict[str, Any]) -> Case:
    setup = row.get("setup") or {}
    return Case(
        name=row["case"],
        kind=row["kind"],
        auto=row["auto"],
        threshold=setup.get("threshold"),
        long_pins=setup.get("long_pins", 0),
        hold_ms=setup.get("hold_ms", 5),
        shell=row.get("shell", ""),
        script=row.get("script", ""),
        exit=row.get("exit", 0),
        stdout=row.get("stdout", ""),
        stderr=row.get("stderr", ""),
        uid=row.get("uid"),
        ops=row.get("ops", []),
    )


def load(path: Path) -> Iterator[Case]:
    """The cases of a file, or of all .jsonl files of a folder."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for file in files:
        for line in file.read_text().splitlines():
            if line.strip():
                yield _case(json.loads(line))
