"""Names and frames of a capture as a scenario can have them, and values as TOML."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pinnerfs.kernel.stacks import MAX_FRAMES, symbol
from pinnerfs.scenario.schema import FRAME, MAX_FRAME

__all__ = ["array", "comment", "frames_of", "key", "name_of", "quoted", "time_of"]

_LONGEST_NAME = 60


def frames_of(stack: Iterable[str]) -> tuple[str, ...]:
    """Return a stack whose frames a scenario accepts. A frame that is no symbol becomes one."""
    return tuple(_frame(frame) for frame in stack)[:MAX_FRAMES]


def _frame(frame: str) -> str:
    match = FRAME.fullmatch(frame) if len(frame) <= MAX_FRAME else None
    if match is not None and (match["offset"] is None or int(match["offset"], 16) < int(match["size"], 16)):
        return frame
    name = re.sub(r"[^A-Za-z0-9_.$]", "_", symbol(frame))[: MAX_FRAME // 2]
    return name if re.match(r"[A-Za-z_.$]", name) else f"_{name}"


def name_of(site: str, used: set[str]) -> str:
    """Return a name for a task that is not in `used`, and add it there."""
    words = re.sub(r"[^A-Za-z0-9_.]+", "-", site).strip("-")[:_LONGEST_NAME] or "site"
    name, number = words, 1
    while name in used:
        number += 1
        name = f"{words}-{number}"
    used.add(name)
    return name


def quoted(text: str) -> str:
    """Return a text as a basic string of TOML. What cannot be printed becomes `?`."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def key(text: str) -> str:
    """Return a text as a key of TOML."""
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else quoted(text)


def comment(text: str) -> str:
    """Return a text for a comment: one line."""
    return "".join(char if char.isprintable() else "?" for char in text)


def array(values: Iterable[object]) -> str:
    """Return an array of TOML, on one line. Texts are quoted."""
    return f"[{', '.join(quoted(value) if isinstance(value, str) else str(value) for value in values)}]"


def time_of(us: int) -> str:
    """Return a time as a scenario has it, exactly, in the largest unit of which it is a whole number."""
    for unit, length in (("s", 10**6), ("ms", 1000)):
        if us and us % length == 0:
            return f"{us // length}{unit}"
    return f"{us}us"
