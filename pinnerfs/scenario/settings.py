"""Other values for keys of a scenario, named by their path: `task.camera.instances=2,4,8`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import msgspec

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.scenario.gallery import Source, checked
from pinnerfs.scenario.limits import LIMITS, Limits
from pinnerfs.scenario.messages import kind_of, listed, nearest, shown, toml_key
from pinnerfs.scenario.positions import describe
from pinnerfs.scenario.schema import Scenario
from pinnerfs.scenario.tables import TableError
from pinnerfs.words import with_article

__all__ = ["Setting", "parse_setting", "with_values"]

# What `--set` cannot change, and the reason.
_REFUSED = {
    "seed": "the seeds of a sweep are those of --seeds",
    "threshold": "the thresholds of a sweep are those of --thresholds",
}


class Setting(msgspec.Struct, frozen=True):
    """A key, and the values that it takes. path: the key's parts. text: the path as it was written."""

    text: str
    path: tuple[str, ...]
    values: tuple[Any, ...]


def parse_setting(text: str) -> Setting:
    """Return the setting of a text PATH=VALUE,... Raise ValueError for another text.

    A value is written as in a scenario file. A string needs no quotes if it has no comma, bracket or brace.
    """
    written, equals, values = text.partition("=")
    written = written.strip()
    if not equals or not written or not values.strip():
        raise ValueError(f"{text!r}: wanted PATH=VALUE,..., such as task.camera.instances=2,4,8")
    path = _path(written)
    if path is None:
        raise ValueError(f"{text!r}: {written!r} is no path: wanted the names of tables and a key with dots between")
    if path[0] in _REFUSED and len(path) == 1:
        raise ValueError(f"{text!r}: {_REFUSED[path[0]]}")
    found = _values(values)
    for place, value in enumerate(found):
        if any(type(value) is type(other) and value == other for other in found[:place]):
            raise ValueError(f"{text!r}: {shown(value)} is given twice")
    return Setting(written, path, tuple(found))


def _path(text: str) -> tuple[str, ...] | None:
    """Return the parts of a dotted key of TOML."""
    try:
        table: Any = tomllib.loads(f"{text} = 0")
    except ValueError:
        return None
    path = []
    while isinstance(table, dict):
        if len(table) != 1:
            return None
        ((key, table),) = table.items()
        path.append(key)
    return tuple(path)


def _values(text: str) -> list[Any]:
    listed = _toml(f"[{text}]")
    if isinstance(listed, list):
        return listed
    parts = [part.strip() for part in text.split(",")]
    return [part if (value := _toml(part)) is None else value for part in parts]


def _toml(text: str) -> Any:
    """Return the value that a text is in TOML, or None."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    return table["value"] if len(table) == 1 else None


def with_values(
    source: Source, settings: Sequence[Setting], values: Iterable[object], limits: Limits = LIMITS
) -> Scenario:
    """Return the scenario of a file with these values. Raise PinnerfsError that names them if something is wrong."""
    tables, wanted = deepcopy(source.tables), []
    set_before: list[tuple[dict[str, object], str]] = []
    try:
        for setting, value in zip(settings, values, strict=True):
            wanted.append(f"{setting.text} = {shown(value)}")
            table, key = _place(tables, setting), setting.path[-1]
            if any(table is other and key == name for other, name in set_before):
                raise ValueError(f"{setting.text} is set already, by another path to the same table")
            table[key] = deepcopy(value)
            set_before.append((table, key))
        return checked(tables, limits)
    except ValueError as error:
        place = ""
        if isinstance(error, TableError) and not error.complete:
            place = describe(error.path, tables)
        parts = [source.where, f"with {', '.join(wanted)}" if wanted else "", place, str(error)]
        raise PinnerfsError(in_a_line(": ".join(filter(None, parts))), BAD_INPUT) from None


def _place(tables: dict[str, object], setting: Setting) -> dict[str, object]:
    """Return the table with the key that a path names."""
    place: Any = tables
    *parents, key = setting.path
    for depth, part in enumerate(parents):
        place = _step(place, part, ".".join(map(toml_key, setting.path[:depth])))
    if not isinstance(place, dict):
        _step(place, key, ".".join(map(toml_key, parents)))  # which names what was wanted
        raise ValueError(f"{setting.text} is a whole table: wanted one of its keys behind it")
    return place


def _step(place: Any, part: str, where: str) -> Any:
    """Return the table or the list that a part of a path names. `where` is the path up to here."""
    inside = f" in {where}" if where else ""
    if isinstance(place, dict):
        if part in place:
            return place[part]
        raise ValueError(f"no {part!r}{inside}: wanted one of {listed(place)}{nearest(part, place)}")
    if not isinstance(place, list) or not all(isinstance(item, dict) for item in place):
        raise ValueError(f"{where} = {shown(place)} is {with_article(kind_of(place))}: it has no key {part!r}")
    names = [str(item["name"]) for item in place if "name" in item]
    for item in place:
        if item.get("name") == part:
            return item
    if part.isdecimal() and 1 <= int(part) <= len(place):
        return place[int(part) - 1]
    numbers = "1" if len(place) == 1 else f"a number from 1 to {len(place)}"
    wanted = f"one of {listed(names)}" if names else numbers
    raise ValueError(f"no {part!r}{inside}: wanted {wanted}{nearest(part, names)}")
