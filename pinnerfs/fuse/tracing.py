"""Log each FUSE request with its answer (`--trace fuse`)."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from types import GeneratorType
from typing import Any

__all__ = ["traced_operations"]

SHOWN = 64  # bytes of what is read or written

_log = logging.getLogger("pinnerfs.trace.fuse")


def traced_operations(operations: Any) -> Any:
    """FUSE's operations, each logged with its arguments and its answer if that is asked for, else as they are."""
    return _Operations(operations) if _log.isEnabledFor(logging.DEBUG) else operations


def _call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    shown = f"{name}({', '.join(map(_shown, arguments))})"
    try:
        answer = function(*arguments)
        if isinstance(answer, GeneratorType):
            answer = [*answer]
    except OSError as error:
        _log.debug("fuse: %s: %s", shown, errno.errorcode.get(error.errno or 0, error))
        raise
    except BaseException as error:
        _log.debug("fuse: %s: %r", shown, error)
        raise
    _log.debug("fuse: %s: %s", shown, "done" if answer is None else _shown(answer))
    return answer


def _shown(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > SHOWN:
        return f"{value[:SHOWN]!r}... ({len(value)} bytes)"
    if hasattr(value, "nlink"):
        return f"ino {value.ino} mode {value.mode:o} owner {value.uid}:{value.gid} size {value.size}"
    return repr(value)


class _File:
    """An open file, by a number that its log lines have in common."""

    def __init__(self, file: Any, number: int) -> None:
        self._file = file
        self._name = f"file {number}"

    def __repr__(self) -> str:
        return self._name

    def read(self, size: int, owner: int) -> Any:
        # Of the owner it matters alone whether there is one: sendfile has none.
        return _call(f"{self._name}.{'read' if owner else 'sendfile'}", lambda size: self._file.read(size, owner), size)

    def write(self, data: bytes, offset: int) -> None:
        _call(f"{self._name}.write", self._file.write, data, offset)

    def truncate(self, size: int) -> None:
        _call(f"{self._name}.truncate", self._file.truncate, size)

    def fsync(self) -> None:
        _call(f"{self._name}.fsync", self._file.fsync)

    def release(self) -> None:
        _call(f"{self._name}.release", self._file.release)

    @property
    def node(self) -> Any:
        return _call(f"{self._name}.getattr", lambda: self._file.node)


class _Operations:
    """All that the operations offer, and nothing more: what is missing is missing here, too."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations
        self._opened = 0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return _call(operation, getattr(self._operations, operation), *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def getattr(self, path: str) -> Any:
        return _call("getattr", self._operations.getattr, path)

    def open(self, path: str, flags: int) -> Any:
        self._opened += 1
        return _call("open", lambda path, flags: _File(self._operations.open(path, flags), self._opened), path, flags)
