"""Log each FUSE request with its answer (`--trace fuse`)."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from pinnerfs.debugfs.tree import Node
from pinnerfs.fuse.protocols import OpenHandle, Operations

__all__ = ["traced"]

SHOWN = 64  # bytes of the data of a read or write

_log = logging.getLogger("pinnerfs.trace.fuse")

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


def traced(operations: Operations) -> Operations:
    """Wrap operations in a log of their arguments and answers; return them unchanged if the trace is off."""
    return _TracedOperations(operations) if _log.isEnabledFor(logging.DEBUG) else operations


def _logged(
    name: str,
    function: Callable[_Parameters, _Answer],
    *arguments: _Parameters.args,
    **none: _Parameters.kwargs,
) -> _Answer:
    shown = f"{name}({', '.join(map(_shown, arguments))})"
    try:
        answer = function(*arguments, **none)
    except OSError as error:
        _log.debug("fuse: %s: %s", shown, errno.errorcode.get(error.errno or 0, error))
        raise
    except BaseException as error:
        _log.debug("fuse: %s: %r", shown, error)
        raise
    _log.debug("fuse: %s: %s", shown, "done" if answer is None else _shown(answer))
    return answer


def _shown(value: object) -> str:
    if isinstance(value, bytes) and len(value) > SHOWN:
        return f"{value[:SHOWN]!r}... ({len(value)} bytes)"
    if isinstance(value, Node):
        return f"ino {value.ino} mode {value.mode:o} owner {value.uid}:{value.gid} size {value.size}"
    return repr(value)


class _TracedHandle:
    """An open file with a number, which its log lines share."""

    def __init__(self, handle: OpenHandle, number: int) -> None:
        self._handle = handle
        self._name = f"file {number}"

    def __repr__(self) -> str:
        return self._name

    def read(self, size: int) -> bytes:
        return _logged(f"{self._name}.read", self._handle.read, size)

    def sendfile(self, size: int) -> bytes:
        return _logged(f"{self._name}.sendfile", self._handle.sendfile, size)

    def write(self, data: bytes, offset: int, append: bool) -> None:
        _logged(f"{self._name}.write", partial(self._handle.write, append=append), data, offset)

    def truncate(self, size: int) -> None:
        _logged(f"{self._name}.truncate", self._handle.truncate, size)

    def fsync(self) -> None:
        _logged(f"{self._name}.fsync", self._handle.fsync)

    def release(self) -> None:
        _logged(f"{self._name}.release", self._handle.release)


class _TracedOperations:
    """The wrapped operations with a log; an operation that they lack is missing here too."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.faults = operations.faults
        self._opened = 0

    def __call__(self, operation: str, *arguments: object) -> object:
        return _logged(operation, getattr(self._operations, operation), *arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self._operations, name)

    def find(self, path: str) -> None:
        _logged("find", self._operations.find, path)

    def getattr(self, path: str) -> Node:
        return _logged("getattr", self._operations.getattr, path)

    def open(self, path: str, flags: int) -> OpenHandle:
        def numbered(path: str, flags: int) -> _TracedHandle:
            return _TracedHandle(self._operations.open(path, flags), self._opened)

        self._opened += 1
        return _logged("open", numbered, path, flags)

    def truncate(self, path: str, size: int) -> Node:
        return _logged("truncate", self._operations.truncate, path, size)
