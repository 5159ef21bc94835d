"""Let rules of faults hit the operations on page_pinner/ and on files in cma/."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pinnerfs.debugfs.declaration import Later
from pinnerfs.debugfs.inject import Caller, Faults, file_of
from pinnerfs.scenario.faults import Rule

__all__ = ["Injection"]

_Answer = TypeVar("_Answer")


class Injection:
    """The faults of a mount. `caller` returns the caller of the request that is being handled."""

    def __init__(self, faults: Faults, caller: Callable[[], Caller]) -> None:
        self.faults = faults
        self._caller = caller

    def meet(self, operation: str, path: str, work: Callable[[], _Answer]) -> _Answer:
        """Do the work of an operation, unless a rule hits it: then raise OSError, or Later, or cut the answer."""
        rule = self._rule(operation, path)
        if rule is None:
            return work()
        if rule.wait:
            raise Later(rule.wait / 1e6, partial(_hit, rule, work))
        answer: _Answer = _hit(rule, work)
        return answer

    def hides(self, path: str) -> bool:
        """Return whether the caller does not find a path."""
        return self._rule("lookup", path) is not None

    def _rule(self, operation: str, path: str) -> Rule | None:
        file = file_of(path)
        return None if file is None else self.faults.fault(operation, file, self._caller())


def _hit(rule: Rule, work: Callable[[], Any]) -> Any:
    if rule.number:
        raise OSError(rule.number, rule.text)
    answer = work()
    return answer[: len(answer) // 2] if rule.cut else answer
