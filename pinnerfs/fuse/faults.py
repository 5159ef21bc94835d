"""Let rules of faults hit the operations on page_pinner/."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pinnerfs.debugfs.inject import PAGE_PINNER, Caller, Faults
from pinnerfs.fuse.protocols import Later
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
        _, top, *file = path.split("/", 2)
        return self.faults.fault(operation, file[0] if file else "", self._caller()) if top == PAGE_PINNER else None


def _hit(rule: Rule, work: Callable[[], Any]) -> Any:
    if rule.number:
        raise OSError(rule.number, rule.text)
    answer = work()
    return answer[: len(answer) // 2] if rule.cut else answer
