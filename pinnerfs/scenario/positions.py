"""Say where in a file a table is: by the names of its tables, and by its line."""

from __future__ import annotations

import re
from typing import NamedTuple

from pinnerfs.scenario.tables import Path

__all__ = ["describe", "line_of"]

_HEADER = re.compile(r"[ \t]*(\[\[?)([^\[\]\n]+)\]\]?[ \t]*(?:#.*)?")
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[\w-]+')


def describe(path: Path, tables: dict[str, object]) -> str:
    """Return the place of a table in words: `task "camera", phase 2`; "" for the file itself."""
    words: list[str] = []
    value: object = tables
    for key, index in _steps(path):
        value = _item(value, key)
        if index is not None:
            value = _item(value, index)
            name = value.get("name") if isinstance(value, dict) else None
            words.append(f'{key} "{name}"' if name and isinstance(name, str) else f"{key} {index + 1}")
        elif words == ["stack"]:
            words = [f'stack "{key}"']
        else:
            words.append(key)
    # Only regions are written below memory; their own word is enough.
    return ", ".join(words[1:] if words[0:1] == ["memory"] and len(words) > 1 else words)


class _Header(NamedTuple):
    """A line such as `[[task.phase]]`; `line` counts from 0."""

    line: int
    name: tuple[str, ...]
    of_list: bool


def line_of(source: str, tables: dict[str, object], path: Path, key: str | None) -> int | None:
    """Return the line of a key of a table, or of the table's header; None if it cannot be told.

    tomllib does not keep lines, so headers are counted. A count that differs from the number of tables (one is
    written inline, or a string looks like a header) gives no line rather than a wrong one.
    """
    lines = source.split("\n")
    headers = [
        _Header(number, tuple(part.strip("\"'") for part in _PART.findall(match[2])), match[1] == "[[")
        for number, line in enumerate(lines)
        if (match := _HEADER.fullmatch(line.rstrip("\r")))
    ]
    begin, end = -1, len(lines)
    value: object = tables
    name: tuple[str, ...] = ()
    for part, index in _steps(path):
        name += (part,)
        value = _item(value, part)
        found = [header for header in headers if header.name == name and begin < header.line < end]
        if index is None and not found and any(header.name[: len(name)] == name for header in headers):
            continue  # [stack.camera] needs no [stack] above it
        wanted = len(value) if index is not None and isinstance(value, list) else 1
        if len(found) != wanted or any(header.of_list != (index is not None) for header in found):
            key, name = part, name[:-1]
            break
        place = 0
        if index is not None:
            place, value = index, _item(value, index)
        begin = found[place].line
        beyond = [header.line for header in headers if header.line > begin and header.name[: len(name)] != name]
        end = min([end, *beyond, *(header.line for header in found[place + 1 :])])
    own_end = min((header.line for header in headers if header.line > begin), default=len(lines))
    line = None if key is None else _key_line(lines, begin + 1, own_end, key)
    if line is None and key is not None:
        # The key can be a table with a header of its own, such as [[tasks]].
        own = [header.line for header in headers if header.name == (*name, key) and begin < header.line < end]
        line = own[0] if len(own) == 1 else None
    if line is None and begin >= 0:
        line = begin
    return None if line is None else line + 1


def _item(value: object, part: str | int) -> object:
    assert isinstance(value, dict | list)
    return value[part]  # type: ignore[index]


def _steps(path: Path) -> list[tuple[str, int | None]]:
    """Return each key of a path with the index behind it, if there is one."""
    steps: list[tuple[str, int | None]] = []
    for part in path:
        if isinstance(part, int):
            steps[-1] = (steps[-1][0], part)
        else:
            steps.append((part, None))
    return steps


def _key_line(lines: list[str], begin: int, end: int, key: str) -> int | None:
    """Return the only line between two others that sets a key."""
    found = [number for number in range(begin, end) if _sets(lines[number], key)]
    return found[0] if len(found) == 1 else None


def _sets(line: str, key: str) -> bool:
    # Not by a pattern: to compile one of a key of a million characters takes hundreds of megabytes.
    text = line.lstrip(" \t")
    for name in (key, f'"{key}"', f"'{key}'"):
        if text.startswith(name) and text[len(name) :].lstrip(" \t")[:1] in ("=", "."):
            return True
    return False
