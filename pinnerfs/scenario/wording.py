"""Small parts of messages: values and types as TOML has them, counted nouns, the nearest known name."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["counted", "kind_of", "listed", "nearest", "quoted", "shown", "with_article"]

# os.fsdecode turns a byte that is not UTF-8 into a surrogate, which repr() shows as \udc80 to \udcff.
_UNDECODABLE = re.compile(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])")

# bool is a subclass of int, so it comes first.
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "float"),
    (str, "string"),
    (list, "array"),
    (dict, "table"),
    ((datetime.date, datetime.time), "date-time"),
)


def quoted(text: str) -> str:
    r"""Return a text in quotes, on one line; an undecodable byte shows as `\xff`."""
    return _UNDECODABLE.sub(r"\1\\x\2", repr(text))


def kind_of(value: object) -> str:
    """Return what TOML calls the type of a value."""
    return next(kind for types, kind in _KINDS if isinstance(value, types))


def shown(value: object) -> str:
    """Return a value as TOML writes it; arrays and tables are not written out."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            # Python refuses to write thousands of decimal digits.
            return str(value) if value.bit_length() < 256 else f"{value:#x}"
        case str():
            return quoted(value)
        case list():
            return "[...]"
        case dict():
            return "{...}"
    return str(value)


def with_article(noun: str) -> str:
    """Return "a table", "an array"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 frame", "2 frames"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with commas between them; "none" if there are none."""
    return ", ".join(map(quoted, names)) or "none"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like `name`, or "" if none is."""
    # difflib takes long for long names, and no known name is long.
    close = get_close_matches(name, list(known), 1) if len(name) <= 64 else []
    return f"; did you mean {quoted(close[0])}?" if close else ""
