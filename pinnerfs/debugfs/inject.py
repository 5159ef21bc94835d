"""The rules of `.pinnerfs/inject`: which requests fail, wait, or get half a record.

The grammar is that of the block layer's error injection in debugfs: one rule a line, `add,op=read,errno=EIO,chance=10`,
or `removeall`. This module only decides. It knows no FUSE and no clock.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from pinnerfs.scenario.quantities import parse_time

__all__ = ["MAX_RULES", "OPERATIONS", "Fault", "Faults", "Rule", "parse_rules"]

OPERATIONS = ("open", "read", "write")
LOOKUP = "lookup"  # the request that only `missing` answers; a rule cannot name it

MAX_RULES = 256  # each request compares itself with all of them
MAX_DELAY = 3600 * 10**6  # µs
COMM_LENGTH = 15  # TASK_COMM_LEN without its NUL: the kernel cuts a longer name
MAX_TIMES = (1 << 63) - 1
MAX_UID = (1 << 32) - 2  # the kernel has no user -1
MAX_PID = 1 << 22  # PID_MAX_LIMIT

ERRNOS = {name: value for name, value in vars(errno).items() if name.startswith("E")}

_MASK = (1 << 64) - 1


class Fault(NamedTuple):
    """The fault of one request: wait `delay` µs, then fail with `error`, or read normally, or read half if `cut`."""

    error: int = 0  # 0 is no error
    delay: int = 0  # µs of wall-clock time
    cut: bool = False


@dataclass(frozen=True)
class Rule:
    """A rule: the requests that it matches, and their fault. A filter of None matches every request."""

    text: str  # as written
    fault: Fault
    missing: bool = False
    op: str | None = None
    file: str | None = None
    uid: int | None = None
    pid: int | None = None
    comm: str | None = None
    chance: int = 100  # percent
    times: int | None = None

    def matches(self, op: str, path: str, uid: int, pid: int, comm: Callable[[], str]) -> bool:
        """Return whether the filters match a request; `comm` is only called if the others do."""
        return (
            (op in (LOOKUP, "open") if self.missing else op != LOOKUP and self.op in (None, op))
            and (self.file is None or self.file in _names(path))
            and self.uid in (None, uid)
            and self.pid in (None, pid)
            and (self.comm is None or self.comm == comm())
        )


class _Counted:
    """A rule with its number, how often it drew its chance, and how often it fired."""

    def __init__(self, rule: Rule, number: int) -> None:
        self.rule = rule
        self.number = number
        self.draws = 0
        self.fired = 0

    def fires(self, seed: int) -> bool:
        """Return whether the rule hits a request that it matches, and count that."""
        if self.rule.times is not None and self.fired >= self.rule.times:
            return False
        self.draws += 1
        if _hash(_hash(_hash(seed) ^ self.number) ^ self.draws) % 100 >= self.rule.chance:
            return False
        self.fired += 1
        return True


class Faults:
    """The rules of one device, and how often each fired.

    `paths` are the files and directories that rules can hit, relative to the root: all but `.pinnerfs/`. Rules are
    numbered from 1 since the last `removeall`, and a chance depends on the seed, the number, and the draws before it.
    So after a `removeall` the same rules do the same again.
    """

    def __init__(self, seed: int, paths: Collection[str]) -> None:
        self._seed = seed
        self._paths = frozenset(paths)
        self._rules: list[_Counted] = []

    def __bool__(self) -> bool:
        """Return whether there are rules: without any, requests need not ask."""
        return bool(self._rules)

    @property
    def missing(self) -> bool:
        """Whether a rule hides a file or directory: the kernel must then not cache names."""
        return any(counted.rule.missing for counted in self._rules)

    def write(self, text: str) -> None:
        """Add and remove rules, all lines or none of them. ValueError says which line is bad, and why."""
        rules: list[_Counted] = list(self._rules)
        for rule in parse_rules(text, self._paths):
            if rule is None:
                rules.clear()
            else:
                rules.append(_Counted(rule, len(rules) + 1))
        if len(rules) > MAX_RULES:
            raise ValueError(f"{len(rules)} rules: wanted at most {MAX_RULES}")
        self._rules = rules

    def text(self) -> str:
        """Return the rules as written, one a line, each with how often it fired."""
        return "".join(f"{counted.rule.text} fired={counted.fired}\n" for counted in self._rules)

    def decide(self, op: str, path: str, uid: int, pid: int, comm: Callable[[], str]) -> Fault | None:
        """Return the fault of the first rule that matches the request and fires, or None.

        `op` is one of OPERATIONS, or LOOKUP. `comm` reads the caller's name, and is only called for a rule with one.
        """
        if path not in self._paths:
            return None
        for counted in self._rules:
            if counted.rule.matches(op, path, uid, pid, comm) and counted.fires(self._seed):
                return counted.rule.fault
        return None


def parse_rules(text: str, paths: Collection[str]) -> list[Rule | None]:
    """Parse the lines of a write: rules, and None for each `removeall`. ValueError names the bad line."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rules: list[Rule | None] = []
    for number, line in lines:
        try:
            rules.append(None if line == "removeall" else _parse_rule(line, paths))
        except ValueError as error:
            where = f"line {number}: " if len(lines) > 1 else ""
            raise ValueError(f"{where}{error}") from None
    if not rules:
        raise ValueError("no rule: wanted a line such as add,op=read,errno=EIO, or removeall")
    return rules


def _parse_rule(line: str, paths: Collection[str]) -> Rule:
    if not line.isprintable():
        raise ValueError(f"{line!r}: wanted printable characters")
    command, *parts = line.split(",")
    if command != "add":
        raise ValueError(f"{command!r} is no command: wanted add,... or removeall")
    given: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in _KEYS:
            raise ValueError(f"{part!r} is unknown: wanted some of {', '.join(_KEYS)}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        if bool(equals) == (key in _FLAGS):
            raise ValueError(f"{part!r}: wanted {key if key in _FLAGS else f'{key}=VALUE'}")
        given[key] = value
    actions = [key for key in _ACTIONS if key in given]
    if not actions or (len(actions) > 1 and actions != ["errno", "delay"]):
        came = " and ".join(actions) or "none"
        raise ValueError(f"actions given: {came}; wanted one of {', '.join(_ACTIONS)}, or errno with delay")
    if "missing" in given and (extra := [key for key in ("op", "chance", "times") if key in given]):
        raise ValueError(f"{extra[0]} does not go with missing: what is missing is missing for every operation")
    if "cut" in given and given.setdefault("op", "read") != "read":
        raise ValueError(f"op={given['op']} does not go with cut: only a read is cut")
    error = _one_of("errno", given["errno"], ERRNOS) if "errno" in given else ""
    return Rule(
        line,
        Fault(
            errno.ENOENT if "missing" in given else ERRNOS.get(error, 0),
            _delay(given["delay"]) if "delay" in given else 0,
            "cut" in given,
        ),
        missing="missing" in given,
        op=_one_of("op", given["op"], OPERATIONS) if "op" in given else None,
        file=_file(given["file"], paths) if "file" in given else None,
        uid=_number("uid", given["uid"], 0, MAX_UID) if "uid" in given else None,
        pid=_number("pid", given["pid"], 1, MAX_PID) if "pid" in given else None,
        comm=_comm(given["comm"]) if "comm" in given else None,
        chance=_number("chance", given["chance"], 1, 100) if "chance" in given else 100,
        times=_number("times", given["times"], 1, MAX_TIMES) if "times" in given else None,
    )


_ACTIONS = ("errno", "delay", "missing", "cut")
_FLAGS = ("missing", "cut")
_KEYS = ("op", "file", *_ACTIONS, "chance", "times", "uid", "pid", "comm")


def _one_of(key: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        wanted = "a name such as EIO" if known is ERRNOS else f"one of {', '.join(known)}"
        raise ValueError(f"{key}={value!r} is unknown: wanted {wanted}")
    return value


def _number(key: str, value: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and least <= int(value) <= most):
        raise ValueError(f"{key}={value!r}: wanted a whole number from {least} to {most}")
    return int(value)


def _delay(value: str) -> int:
    delay = parse_time("delay", value)
    if not 1 <= delay <= MAX_DELAY:
        raise ValueError(f"delay={value!r}: wanted 1us to 1h")
    return delay


def _comm(value: str) -> str:
    if not 1 <= len(value.encode()) <= COMM_LENGTH:
        raise ValueError(f"comm={value!r}: wanted 1 to {COMM_LENGTH} bytes, as in /proc/PID/comm")
    return value


def _file(value: str, paths: Collection[str]) -> str:
    if not any(value in _names(path) for path in paths):
        raise ValueError(f"file={value!r} is not here: wanted a name or a path of {', '.join(sorted(paths))}")
    return value


def _names(path: str) -> list[str]:
    """Return the ways to name a path in a rule: itself and each directory above it, by path and by name."""
    parts = path.split("/")
    return [*("/".join(parts[:end]) for end in range(1, len(parts) + 1)), *parts]


def _hash(x: int) -> int:
    """Mix 64 bits (splitmix64)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
