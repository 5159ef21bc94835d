"""Parts of messages: values and types in the words of TOML, lists of names, the nearest known name."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["kind_of", "listed", "nearest", "shown"]

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
            return repr(value)
        case list():
            return "[...]"
        case dict():
            return "{...}"
    return str(value)


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with commas between them; "none" if there are none."""
    return ", ".join(map(repr, names)) or "none"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like `name`, or "" if none is."""
    # difflib takes long for long names, and no known name is long.
    close = get_close_matches(name, list(known), 1) if len(name) <= 64 else []
    return f"; did you mean {close[0]!r}?" if close else ""
