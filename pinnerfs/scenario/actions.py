"""Parse the text of live actions: one action per line, in the words of the scenario."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pinnerfs.scenario.messages import listed, nearest, unknown_name
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import MAX_PAGES, RELEASES, Scenario, Task

__all__ = ["Action", "parse_actions"]

# The keys of each action. `task` is required.
KEYS = {
    "pin": ("task", "pages", "hold"),
    "release": ("task", "pages", "by"),
    "free": ("task", "pages"),
    "unmap": ("task", "pages"),
}
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


def parse_actions(text: str, scenario: Scenario) -> list[Action]:
    """Parse actions, one per line; empty lines do nothing. Raise ValueError that names the line of a mistake."""
    tasks = {task.name: task for task in scenario.task}
    actions = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if words := _words(line):
                actions.append(_action(number, words, tasks))
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


def _action(line: int, words: list[str], tasks: dict[str, Task]) -> Action:
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


def _pages(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_PAGES:
        raise ValueError(f"pages = {text!r} must be a number from 1 to {MAX_PAGES}")
    return int(text)


def _call(text: str) -> str:
    if text not in CALLS:
        raise ValueError(f"by = {text!r} must be one of {listed(CALLS)}{nearest(text, CALLS)}")
    return text
