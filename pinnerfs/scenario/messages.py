"""Parts of messages: values and types in the words of TOML, lists of names, the nearest known name."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

__all__ = ["kind_of", "listed", "nearest", "shown", "toml_key", "unknown_name"]

LONGEST = 60  # characters of an array or a table in a message

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
    """Return a value as TOML writes it; of an array or a table, the first entries."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            # Python refuses to write thousands of decimal digits.
            return str(value) if value.bit_length() < 256 else f"{value:#x}"
        case str():
            return repr(value)
        case list():
            return f"[{_first(map(_inner, value))}]"
        case dict():
            entries = _first(f"{toml_key(key)} = {_inner(item)}" for key, item in value.items())
            return f"{{ {entries} }}" if entries else "{}"
        case datetime.datetime():
            return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _inner(value: object) -> str:
    """Return an entry of an array or a table. Brackets can be nested very deeply, so only the outer ones are shown."""
    if isinstance(value, list | dict) and value:
        return "[...]" if isinstance(value, list) else "{...}"
    return shown(value)


def _first(entries: Iterable[str]) -> str:
    text = ""
    for entry in entries:
        longer = f"{text}, {entry}" if text else entry
        if len(longer) > LONGEST:
            return f"{text}, ..." if text else "..."
        text = longer
    return text


def toml_key(key: str) -> str:
    """Return a key as TOML writes it: in quotes if it is not a bare key."""
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else repr(key)


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with commas between them."""
    return ", ".join(map(repr, names))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like `name`, or "" if none is."""
    from difflib import get_close_matches  # only wrong names need it

    # difflib takes long for long names, and no known name is long.
    close = get_close_matches(name, list(known), 1) if len(name) <= 64 else []
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_name(key: str, name: str, known: Iterable[str], kind: str) -> str:
    """Return the message for a name that the scenario does not have; `kind` is the kind of thing it names."""
    names = list(known)
    if not names:
        return f"{key} = {name!r}: this scenario has no {kind}"
    return f"{key} = {name!r} must be one of {listed(names)}{nearest(name, names)}"
