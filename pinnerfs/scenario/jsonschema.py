"""The JSON Schema of scenario files, for editors: made from the tables' structs and from their documentation.

The structs accept bare numbers as quantities, so that an error can say that the unit is missing. The schema refuses
them, and has patterns for units and frames. What several tables say about each other is not in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, Migratetype
from pinnerfs.scenario.faults import ERRNOS
from pinnerfs.scenario.gallery import gallery_directory
from pinnerfs.scenario.quantities import RATES, SIZES, TIMES
from pinnerfs.scenario.schema import FRAME, MAX_FRAME, RELEASES, Scenario

__all__ = ["FILE_NAME", "scenario_schema", "schema_text"]

FILE_NAME = "scenario.schema.json"

# The section of scenarios/README.md that describes a struct's keys.
_SECTIONS = {
    "Scenario": "The scenario",
    "Memory": "memory",
    "Region": "memory.region",
    "Stack": "stack",
    "Task": "task",
    "Phase": "task.phase",
    "Alloc": "alloc",
    "Expectation": "expect",
    "RecordBounds": "expect.records",
    "Bounds": "expect.ts",
    "NumberBounds": "expect.count",
    "AllocCounts": "expect.allocs",
    "Fault": "fault",
}
_DISTRIBUTIONS = ("Uniform", "Exponential", "Normal", "Lognormal", "Choice")
_NUMBERS = ("sigma", "weights")  # the keys of distributions that are not times

_NUMBER = r"[0-9]{1,25}(\.[0-9]{1,25})? ?"


class _Key(NamedTuple):
    """A documented key of a table."""

    type: str
    meaning: str


def schema_text() -> str:
    """Return the schema as JSON."""
    return json.dumps(scenario_schema(), indent=1) + "\n"


def scenario_schema() -> dict[str, Any]:
    """Return the schema."""
    schema = msgspec.json.schema(Scenario)
    documented = dict(_documented((gallery_directory() / "README.md").read_text()))
    for name, definition in schema["$defs"].items():
        keys = documented.get(_SECTIONS.get(name, ""), {})
        for key, value in definition["properties"].items():
            kind = keys[key].type if key in keys else "time" if name in _DISTRIBUTIONS and key not in _NUMBERS else ""
            definition["properties"][key] = _property(value, kind)
            if key in keys:
                definition["properties"][key] |= _range(keys[key]) | {"description": keys[key].meaning}
    _add_choices(schema["$defs"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scenario of pinnerfs",
        **schema,
    }


def _documented(text: str) -> Iterator[tuple[str, dict[str, _Key]]]:
    """Yield the name of each section of a page, and the keys of its table."""
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0].strip("`")
        keys = {}
        for row in re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE):
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row[1])]
            if len(cells) == 3:
                keys[row[0]] = _Key(cells[0], _plain(cells[2]))
        yield title, keys


def _plain(markdown: str) -> str:
    """Return a sentence without Markdown's links and emphasis."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").replace("*", "")


def _property(value: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the schema of a key of the documented kind. TOML has no null, and a quantity is a string with a unit."""
    default = {"default": value["default"]} if value.get("default") is not None else {}
    members = [member for member in _members(value) if member.get("type") != "null"]
    pattern = _pattern(kind)
    if pattern is not None:
        members = [member for member in members if member.get("type") not in ("integer", "number")]
        for place, member in enumerate(members):
            if member.get("type") == "string":
                members[place] = {"type": "string", "pattern": pattern}
            elif member.get("type") == "array":
                members[place] = {"type": "array", "items": {"type": "string", "pattern": pattern}}
    elif {"type": "number"} in members:
        members = [member for member in members if member.get("type") != "integer"]
    return (members[0] if len(members) == 1 else {"anyOf": members}) | default


def _range(key: _Key) -> dict[str, int]:
    """Return the bounds of a number whose description says "from 0 to 3"."""
    match = re.search(r"from ([0-9]+) to ([0-9]+)(?![0-9^])", key.meaning)
    if match is None or key.type not in ("integer", "float"):
        return {}
    return {"minimum": int(match[1]), "maximum": int(match[2])}


def _members(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the alternatives of a value, flat."""
    if "anyOf" not in value:
        yield {key: inner for key, inner in value.items() if key != "default"}
        return
    for member in value["anyOf"]:
        yield from _members(member)


def _pattern(kind: str) -> str | None:
    """Return the pattern of the strings of a documented kind, or None if it has no unit."""
    if kind == "quantity or string":
        return f"^({_NUMBER}({_units(TIMES)})|with-release|never)$"
    for word, units in (("time", TIMES), ("quantity", TIMES), ("size", SIZES), ("rate", RATES)):
        if kind.startswith(word):
            return f"^{_NUMBER}({_units(units)})$"
    return None


def _units(units: dict[str, int]) -> str:
    return "|".join(units)


def _add_choices(tables: dict[str, Any]) -> None:
    """Add what the structs check by code: names that a kernel knows, and the form of a frame."""
    files = list(dict.fromkeys(file for generation in GENERATIONS.values() for file in generation.record_files))
    region, stack, expect = (tables[name]["properties"] for name in ("Region", "Stack", "Expectation"))
    region["migratetype"]["enum"] = [migratetype.name for migratetype in Migratetype]
    region["flags"]["items"] = {"enum": list(PAGE_FLAG_BITS)}
    # Without Python's names of groups. Some validators take every `$` for the end.
    frame = re.sub(r"\?P<\w+>", "", FRAME.pattern).replace("$", r"\x24")
    stack["frames"]["items"] |= {"pattern": f"^{frame}$", "maxLength": MAX_FRAME}
    stack["syscall"]["pattern"] = r"^\w{1,64}$"
    expect["kernel"]["enum"] = list(GENERATIONS)
    expect["file"]["enum"] = files
    fault = tables["Fault"]["properties"]
    fault["errno"]["enum"] = [name for name in sorted(ERRNOS) if name != "ENOSYS"]
    fault["op"]["enum"] = ["open", "read", "write"]
    calls = [call for call in RELEASES if call != "never"]
    for member in tables["Task"]["properties"]["release"]["anyOf"]:
        if member.get("type") == "object":
            member["properties"] = {call: member["additionalProperties"] for call in calls}
            member["additionalProperties"] = False
            member["minProperties"] = 1
