"""What all tables of a scenario file have in common."""

from __future__ import annotations

import msgspec

__all__ = ["Table", "Time", "in_words", "no_twins"]

# A quantity as it stands in the file; a number is let through to the parser, whose refusal says what is missing.
Time = str | int | float


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Every `__post_init__` raises ValueError; msgspec adds the path to it."""


def no_twins(what: str, names: list[str]) -> None:
    """Refuse a name that stands twice in a list of tables."""
    known: set[str] = set()
    for name in names:
        if name in known:
            raise ValueError(f"two of {what} have the name {name!r}")
        known.add(name)


def in_words(what: str, text: str) -> None:
    """Refuse a text that is empty, or that would do more to a terminal than to be shown there on one line."""
    if not text:
        raise ValueError(f"{what} is empty")
    if not text.isprintable():
        raise ValueError(f"{what} = {text!r} must be a line of printable text")
