"""Faults on demand: the rules in force, and which of them a request meets.

The rules come from `.pinnerfs/inject` and from the scenario's `[[fault]]` tables. They concern the directory
`page_pinner/` and its files, and those files in `cma/` that they name.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from pinnerfs.scenario.faults import CMA, CMA_FILES, MAX_RULES, Fault, Rule, parse_rules

__all__ = ["PAGE_PINNER", "Caller", "Faults", "cma_files", "file_of"]

PAGE_PINNER = "page_pinner"  # the directory that rules are about

log = logging.getLogger(__name__)


def cma_files(directories: Iterable[str]) -> list[str]:
    """Return the names that rules have for the files of CMA areas, which have these directories."""
    return [f"{CMA}/{directory}/{file}" for directory in directories for file in CMA_FILES]


def file_of(path: str) -> str | None:
    """Return the name that rules have for a path: "" is the directory `page_pinner/`, and None is beyond all rules."""
    _, top, *rest = path.split("/", 2)
    if top == PAGE_PINNER:
        return rest[0] if rest else ""
    return path[1:] if top == CMA and rest else None


class Caller(Protocol):
    """The process that makes a request. Only rules with a filter look at it."""

    @property
    def uid(self) -> int:
        """Return the user."""

    @property
    def comm(self) -> str:
        """Return the name of the thread, as /proc/PID/comm shows it."""

    @property
    def pid(self) -> int:
        """Return the process that the thread belongs to."""


class _RuleInForce:
    """A rule with the state of its chance, and how often it fired.

    `number` counts equal rules. Draws depend on the seed and the rule, so that other rules do not change them.
    """

    def __init__(self, rule: Rule, seed: int, number: int) -> None:
        self.rule = rule
        self.fired = 0
        self.text = rule.text
        self._key = f"{seed} {number} {rule.text}"
        self._draws = 0

    def matches(self, caller: Caller) -> bool:
        """Return whether a caller passes the filters."""
        rule = self.rule
        return (
            (rule.uid is None or rule.uid == caller.uid)
            and (rule.pid is None or rule.pid == caller.pid)
            and (rule.comm is None or rule.comm == caller.comm)
        )

    def fires(self) -> bool:
        """Return whether the rule hits a request that it matches, and count that."""
        rule = self.rule
        if rule.times is not None and self.fired >= rule.times:
            return False
        if rule.chance < 100 and self._draw() >= rule.chance:
            return False
        self.fired += 1
        log.info("fault injected: %s", self.text)
        return True

    def _draw(self) -> int:
        from hashlib import blake2b  # few rules need it, and it loads OpenSSL

        self._draws += 1
        return int.from_bytes(blake2b(f"{self._key} {self._draws}".encode(), digest_size=8).digest()) % 100


class Faults:
    """The rules of one device.

    `planned` come into force when the clock `now` reaches their moment. `files` are the names of the files
    that rules can be about.
    """

    def __init__(self, planned: Iterable[Fault], seed: int, files: Collection[str], now: Callable[[], int]) -> None:
        self._planned = deque(sorted(planned, key=lambda fault: fault.moment))
        self._seed = seed
        self._files = files
        self._now = now
        self._rules: list[_RuleInForce] = []
        self._note_state()

    def _note_state(self) -> None:
        # Plain attributes, because each request looks at them.
        self.active = bool(self._rules or self._planned)
        rules: list[Rule] = [*self._planned, *(known.rule for known in self._rules)]
        self.may_hide = any(rule.missing for rule in rules)

    def write(self, text: str) -> None:
        """Add and remove rules: all lines, or none of them. Raise ValueError that says what is wrong."""
        self._come_into_force()
        new = parse_rules(text)
        for rule in new:
            if rule.file is not None and rule.file not in self._files:
                raise ValueError(f"file = {rule.file!r}: this kernel has only {', '.join(self._files)}")
        rules = self._rules
        for rule in new:
            rules = self._with(rules, rule)
            if len(rules) > MAX_RULES:
                raise ValueError(f"too many rules: wanted at most {MAX_RULES}")
        self._rules = rules
        self._note_state()

    def _with(self, rules: list[_RuleInForce], rule: Rule) -> list[_RuleInForce]:
        if rule.removeall:
            return []
        text = rule.text
        return [*rules, _RuleInForce(rule, self._seed, sum(known.text == text for known in rules))]

    def _come_into_force(self) -> None:
        """Put planned rules whose moment has come into force."""
        if not self._planned or self._planned[0].moment > (now := self._now()):
            return
        while self._planned and self._planned[0].moment <= now:
            self._rules = self._with(self._rules, self._planned.popleft())
        self._note_state()

    def text(self) -> str:
        """Return the rules in force, one on each line with how often it fired."""
        self._come_into_force()
        return "".join(f"{known.text} fired={known.fired}\n" for known in self._rules)

    def fault(self, op: str, file: str, caller: Caller) -> Rule | None:
        """Return the first rule that hits a request, or None.

        `op` is the request: lookup, opendir, open, read or write. `file` is its file, see `file_of`.
        """
        self._come_into_force()
        for known in self._rules:
            if known.rule.concerns(op, file) and known.matches(caller) and known.fires():
                return known.rule
        return None
