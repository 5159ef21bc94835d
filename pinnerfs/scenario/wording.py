"""Small parts of messages: quoted values, counted nouns, the nearest known name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["counted", "nearest", "quoted"]

# os.fsdecode turns a byte that is not UTF-8 into a surrogate, which repr() shows as \udc80 to \udcff.
_UNDECODABLE = re.compile(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])")


def quoted(value: object) -> str:
    r"""Return a value in quotes, on one line; an undecodable byte shows as `\xff`."""
    return _UNDECODABLE.sub(r"\1\\x\2", repr(value))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 frame", "2 frames"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like `name`, or "" if none is."""
    # difflib takes long for long names, and none of the known ones is long.
    close = get_close_matches(name, known, 1) if len(name) <= 64 else []
    return f"; did you mean {quoted(close[0])}?" if close else ""
