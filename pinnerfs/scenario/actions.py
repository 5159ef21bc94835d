"""Parse the text of live actions: one action per line, in the words of the scenario."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.messages import listed, nearest, unknown_name
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import MAX_PAGES, RELEASES, Scenario, Task

__all__ = ["Action", "AllocAction", "parse_actions"]

# The keys of each action. Some actions are for a task, some for a CMA area or an alloc of the scenario.
KEYS = {
    "pin": ("task", "pages", "hold"),
    "release": ("task", "pages", "by", "area", "name"),
    "free": ("task", "pages"),
    "unmap": ("task", "pages"),
    "alloc": ("area", "name", "pages", "hold"),
}
OF_ALLOCS = ("area", "name")
MAX_ALLOCATED = 1 << 30  # pages: more than any memory has; the kernel refuses what the area does not have
# `free` is an action of its own, and `never` is not a call.
CALLS = tuple(call for call in RELEASES if call not in ("free", "never"))


@dataclass(frozen=True)
class Action:
    """An action of one line; `hold` in µs, `by` the call that releases.

    Without `pages`, a pin takes as many pages as the task's holds, and a release all that are pinned.
    """

    line: int
    verb: str
    task: Task
    pages: int | None
    hold: int | None
    by: str | None


@dataclass(frozen=True)
class AllocAction:
    """An allocation from a CMA area, or the release of allocations, of one line; `hold` in µs.

    It is that of an alloc of the scenario, or of a program that writes to the area's file. `pages` is the alloc's own
    number if it is None.
    """

    line: int
    verb: str
    area: str
    alloc: Alloc | None
    pages: int | None
    hold: int | None


def parse_actions(text: str, scenario: Scenario) -> list[Action | AllocAction]:
    """Parse actions, one per line; empty lines do nothing. Raise ValueError that names the line of a mistake."""
    actions = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if words := _words(line):
                actions.append(_action(number, words, scenario))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not actions:
        raise ValueError(f"the text has no action: wanted one of {', '.join(KEYS)}")
    return actions


def _words(line: str) -> list[str]:
    """Split a line into words as a shell does: a task's name may have spaces in it."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"{line!r} has wrong quotes: {error}") from None


def _action(line: int, words: list[str], scenario: Scenario) -> Action | AllocAction:
    verb = words[0]
    if verb not in KEYS:
        raise ValueError(f"no action {verb!r}: wanted one of {', '.join(KEYS)}{nearest(verb, KEYS)}")
    values: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS[verb]:
            wanted = ", ".join(f"{known}=..." for known in KEYS[verb])
            raise ValueError(f"{verb} has {word!r}: wanted {wanted}{nearest(key, KEYS[verb])}")
        if key in values:
            raise ValueError(f"{key} is given twice: {values[key]!r} and {value!r}")
        values[key] = value
    if verb == "alloc" or any(key in values for key in OF_ALLOCS):
        return _alloc_action(line, verb, values, scenario)
    tasks = {task.name: task for task in scenario.task}
    if "task" not in values:
        wanted = f"wanted task=..., one of {listed(tasks)}" if tasks else "this scenario has no task"
        raise ValueError(f"{verb} has no task: {wanted}")
    if values["task"] not in tasks:
        raise ValueError(unknown_name("task", values["task"], tasks, "task"))
    task = tasks[values["task"]]
    return Action(
        line=line,
        verb=verb,
        task=task,
        pages=_pages(values["pages"]) if "pages" in values else None,
        hold=parse_time("hold", values["hold"]) if "hold" in values else None,
        by=_call(values["by"]) if "by" in values else None,
    )


def _alloc_action(line: int, verb: str, values: dict[str, str], scenario: Scenario) -> AllocAction:
    areas = [region.cma for region in scenario.memory.region if region.cma is not None]
    allocs = {alloc.name: alloc for alloc in scenario.alloc}
    given = [key for key in ("task", *OF_ALLOCS) if key in values]
    if len(given) != 1 or given == ["task"]:
        came = f"has {' and '.join(f'{key}=...' for key in given)}" if given else "has no area"
        wanted = f"area=..., one of {listed(areas)}" if areas else "an area, but this scenario has none"
        named = f"; or name=..., one of {listed(allocs)}" if allocs else ""
        raise ValueError(f"{verb} {came}: wanted {wanted}{named}")
    if verb == "release" and (other := [key for key in ("pages", "by") if key in values]):
        raise ValueError(f"release of an allocation has {other[0]}=...: cma_release gives back all of its pages")
    alloc = None
    if "name" in values:
        if values["name"] not in allocs:
            raise ValueError(unknown_name("name", values["name"], allocs, "alloc"))
        alloc = allocs[values["name"]]
    elif values["area"] not in areas:
        raise ValueError(unknown_name("area", values["area"], areas, "CMA area"))
    elif verb == "alloc" and "pages" not in values:
        raise ValueError("alloc has no pages: wanted pages=..., such as pages=64")
    return AllocAction(
        line=line,
        verb=verb,
        area=values["area"] if alloc is None else alloc.area,
        alloc=alloc,
        pages=_pages(values["pages"], MAX_ALLOCATED) if "pages" in values else None,
        hold=parse_time("hold", values["hold"]) if "hold" in values else None,
    )


def _pages(text: str, most: int = MAX_PAGES) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise ValueError(f"pages = {text!r} must be a number from 1 to {most}")
    return int(text)


def _call(text: str) -> str:
    if text not in CALLS:
        raise ValueError(f"by = {text!r} must be one of {listed(CALLS)}{nearest(text, CALLS)}")
    return text
