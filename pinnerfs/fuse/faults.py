"""Let rules of faults hit FUSE requests."""

from __future__ import annotations

import errno
from collections.abc import Callable

from pinnerfs.fuse import libfuse
from pinnerfs.fuse.callers import Caller, Proc
from pinnerfs.fuse.delays import Delays
from pinnerfs.fuse.protocols import Operations
from pinnerfs.scenario.faults import Rule

__all__ = ["FaultInjection"]


class FaultInjection:
    """The fault of each request. `active` says whether there can be any, `may_hide` whether names can be missing.

    `fail` answers a request whose operation raised an exception. Create it before the mount.
    """

    def __init__(self, operations: Operations, fail: Callable[[int, str, BaseException], None]) -> None:
        self._operations = operations
        self._fail = fail
        self._proc = Proc()
        self._delays = Delays(lambda request: libfuse.reply_err(request, errno.EINTR))

    def hits(self, request: int, operation: str, path: str) -> Rule | None:
        """Return the rule that hits a request, or None."""
        context = libfuse.request_context(request).contents
        return self._operations.fault(operation, path, Caller(context.uid, context.pid, self._proc))

    def check(self, request: int, operation: str, path: str) -> None:
        """Raise OSError if a rule hits a lookup or an opendir: ENOENT."""
        if rule := self.hits(request, operation, path):
            raise OSError(rule.number, rule.text)

    def answer(self, rule: Rule, request: int, operation: str, answer: Callable[[bool], None]) -> None:
        """Answer a request that a rule hits: wait, and then fail or call `answer` with whether to cut."""

        def now() -> None:
            try:
                if rule.number:
                    raise OSError(rule.number, rule.text)
                answer(rule.cut)
            except BaseException as error:
                self._fail(request, operation, error)

        if rule.wait:
            self._delays.add(request, rule.wait / 1e6, now)
        else:
            now()
