"""Compare the tables of a file with the schema: unknown keys, missing keys, values of a wrong type.

msgspec refuses the same files, but in the words of Python, and without the value or the keys that exist.
"""

from __future__ import annotations

from msgspec import inspect

from pinnerfs.scenario.messages import kind_of, listed, nearest, shown, toml_key
from pinnerfs.scenario.schema import Scenario
from pinnerfs.scenario.tables import KeyPath, TableError
from pinnerfs.words import with_article

__all__ = ["check_structure"]

_KINDS: dict[type[inspect.Type], str] = {
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "float",
    inspect.StrType: "string",
    inspect.ListType: "array",
    inspect.DictType: "table",
    inspect.StructType: "table",
    inspect.NoneType: "",  # the default of a key that may be left out; no value in a file is of this type
}
_SCENARIO = inspect.type_info(Scenario)


def check_structure(tables: dict[str, object]) -> None:
    """Raise TableError at the first key that is unknown or missing, or whose value has the wrong type."""
    _check(tables, _SCENARIO, ())


def _check(value: object, wanted: inspect.Type, path: KeyPath) -> None:
    members = wanted.types if isinstance(wanted, inspect.UnionType) else (wanted,)
    # TOML's 1 serves as a float, too.
    kinds = {"integer", "float"} if kind_of(value) == "integer" else {kind_of(value)}
    fitting = [member for member in members if _kind(member) in kinds]
    if not fitting:
        raise _wrong_type(value, members, path)
    match fitting[0]:
        case inspect.LiteralType(values=values) if value not in values:
            raise _wrong_choice(value, values, path)
        case inspect.ListType(item_type=item_type):
            assert isinstance(value, list)
            for index, item in enumerate(value):
                _check(item, item_type, (*path, index))
        case inspect.DictType(value_type=value_type):
            assert isinstance(value, dict)
            for name, item in value.items():
                _check(item, value_type, (*path, name))
        case inspect.StructType():
            assert isinstance(value, dict)
            _check_keys(value, _by_tag(value, fitting, path), path)


def _kind(wanted: inspect.Type) -> str:
    if isinstance(wanted, inspect.LiteralType):
        return kind_of(wanted.values[0])
    return _KINDS[type(wanted)]


def _by_tag(table: dict[str, object], structs: list[inspect.Type], path: KeyPath) -> inspect.StructType:
    """Return the struct that a table is for: of several, the one that its tag names (`dist = "normal"`)."""
    by_tag = {struct.tag: struct for struct in structs if isinstance(struct, inspect.StructType)}
    first = next(iter(by_tag.values()))
    if first.tag_field is None:
        return first
    if first.tag_field not in table:
        raise TableError(f"the key '{first.tag_field}' is missing: it must be one of {listed(map(str, by_tag))}", path)
    tag = table[first.tag_field]
    if not isinstance(tag, str) or tag not in by_tag:
        raise _wrong_choice(tag, tuple(map(str, by_tag)), (*path, first.tag_field))
    return by_tag[tag]


def _check_keys(table: dict[str, object], struct: inspect.StructType, path: KeyPath) -> None:
    fields = {field.encode_name: field for field in struct.fields}
    known = [struct.tag_field, *fields] if struct.tag_field is not None else [*fields]
    for key in table:
        if key not in known:
            hint = nearest(key, known)
            raise TableError(f"unknown key {key!r}: the keys are {', '.join(known)}{hint}", path, key)
    for key, field in fields.items():
        if field.required and key not in table:
            raise TableError(f"the key '{key}' is missing", path)
    for key, value in table.items():
        if key in fields:
            _check(value, fields[key].type, (*path, key))


def _wrong_choice(value: object, choices: tuple[object, ...], path: KeyPath) -> TableError:
    wanted = shown(choices[0]) if len(choices) == 1 else f"one of {', '.join(map(shown, choices))}"
    hint = nearest(value, map(str, choices)) if isinstance(value, str) else ""
    return TableError(f"{path[-1]} = {shown(value)} must be {wanted}{hint}", path[:-1], str(path[-1]))


def _wrong_type(value: object, members: tuple[inspect.Type, ...], path: KeyPath) -> TableError:
    name, kind = path[-1], kind_of(value)
    label = f"entry {name + 1}" if isinstance(name, int) else name
    kinds = dict.fromkeys(_kind(member) for member in members if _kind(member))
    if "float" in kinds:
        # A number: an integer serves as a float, too.
        del kinds["integer"]
        if "string" in kinds:
            # A Measure: bare numbers are accepted for a better message, but they are not wanted.
            del kinds["float"]
    wanted = " or ".join(map(with_article, kinds))
    message = f"{label} = {shown(value)} is {with_article(kind)}: it must be {wanted}"
    return TableError(message + _header_hint(value, members, path), path[:-1], str(name))


def _header_hint(value: object, members: tuple[inspect.Type, ...], path: KeyPath) -> str:
    """Return how to write the header of a table, if the wrong brackets are the likely mistake."""
    dotted = ".".join(toml_key(part) for part in path if isinstance(part, str))
    of_tables = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    match members:
        case (inspect.ListType(item_type=inspect.StructType()),) if isinstance(value, dict):
            return f" of tables: write [[{dotted}]] instead of [{dotted}]"
        case (inspect.DictType(value_type=inspect.StructType()),) if of_tables:
            return f": write [{dotted}.NAME] instead of [[{dotted}]]"
        case (inspect.StructType(),) if of_tables:
            return f": write [{dotted}] instead of [[{dotted}]]"
        case (inspect.StructType(),) if path[:-1] == ("stack",):
            return ": write [stack.NAME] above the keys of a stack"
    return ""
