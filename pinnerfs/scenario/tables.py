"""What all tables of a scenario file have in common."""

from __future__ import annotations

import msgspec

__all__ = ["Measure", "Path", "Table", "TableError", "check_text", "check_unique"]

# A number with its unit. Bare numbers are accepted here so that the parsers can say what is missing: the unit.
Measure = str | int | float

# The keys and indexes that lead to a table of the file: ("task", 0, "phase", 1).
Path = tuple[str | int, ...]


class TableError(ValueError):
    """A mistake in the table at `path`, perhaps in one key of it.

    `complete`: the message says itself which table it is about.
    """

    def __init__(self, message: str, path: Path, key: str | None = None, *, complete: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.key = key
        self.complete = complete


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Each `__post_init__` raises ValueError; msgspec adds the path to its message."""


def check_unique(what: str, names: list[str]) -> None:
    """Raise ValueError if two tables have the same name."""
    known: set[str] = set()
    for name in names:
        if name in known:
            raise ValueError(f"two {what}s have the name {name!r}")
        known.add(name)


def check_text(what: str, text: str) -> None:
    """Raise ValueError unless a text is one line of printable characters: it is shown on terminals."""
    if not text:
        raise ValueError(f"{what} is empty")
    if not text.isprintable():
        raise ValueError(f"{what} = {text!r} must be one line of printable text")
