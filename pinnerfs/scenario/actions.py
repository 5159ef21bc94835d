"""What is done live, read from its text: one action a line, in the scenario's own words."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import get_args

from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import MAX_PAGES, Release, Scenario, Task

__all__ = ["Action", "parse_actions"]

# Which keys an action may have. `task` must be there.
KEYS = {"pin": ("task", "pages", "hold"), "release": ("task", "pages", "by"), "free": ("task", "pages")}
# Not `free`, which is an action of its own, and not `never`.
CALLS = tuple(call for call in get_args(Release) if call not in ("free", "never"))


@dataclass(frozen=True)
class Action:
    """One line. `pages` None: as many as the task has, or as there are; `hold` in µs; `by` the call that releases."""

    line: int
    verb: str
    task: Task
    pages: int | None
    hold: int | None
    by: str | None


def parse_actions(text: str, scenario: Scenario) -> list[Action]:
    """The actions of a text, one a line; empty lines do nothing. ValueError says in which line what is wrong."""
    tasks = {task.name: task for task in scenario.task}
    actions = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if words := _words(line):
                actions.append(_action(number, words, tasks))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not actions:
        raise ValueError(f"no action: wanted one of {', '.join(KEYS)}")
    return actions


def _words(line: str) -> list[str]:
    """The words of a line, quoted where need be as in a shell: a task's name may have blanks in it."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"{line!r} is quoted wrongly: {error}") from None


def _action(line: int, words: list[str], tasks: dict[str, Task]) -> Action:
    verb = words[0]
    if verb not in KEYS:
        raise ValueError(f"no action {verb!r}: wanted one of {', '.join(KEYS)}")
    values: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS[verb]:
            wanted = ", ".join(f"{known}=..." for known in KEYS[verb])
            raise ValueError(f"{verb} has {word!r}: wanted {wanted}")
        if key in values:
            raise ValueError(f"{key} is there twice: {values[key]!r} and {value!r}")
        values[key] = value
    names = ", ".join(map(repr, tasks))
    if "task" not in values:
        raise ValueError(f"{verb} has no task: wanted task=..., one of {names}")
    if values["task"] not in tasks:
        raise ValueError(f"task = {values['task']!r} must be one of {names}")
    task = tasks[values["task"]]
    return Action(
        line=line,
        verb=verb,
        task=task,
        pages=_pages(values["pages"]) if "pages" in values else None,
        hold=parse_time("hold", values["hold"]) if "hold" in values else None,
        by=_call(values["by"]) if "by" in values else None,
    )


def _pages(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_PAGES:
        raise ValueError(f"pages = {text!r} must be a number from 1 to {MAX_PAGES}")
    return int(text)


def _call(text: str) -> str:
    if text not in CALLS:
        raise ValueError(f"by = {text!r} must be one of {', '.join(map(repr, CALLS))}")
    return text
