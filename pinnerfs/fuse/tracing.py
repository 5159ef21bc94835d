"""Log each FUSE request with its answer (`--trace fuse`)."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from pinnerfs.debugfs.declaration import Later, OpenFile
from pinnerfs.debugfs.tree import Node
from pinnerfs.fuse.protocols import Operations

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


class _TracedFile:
    """An open file with a number, which its log lines share."""

    def __init__(self, file: OpenFile, number: int) -> None:
        self.file = file
        self._name = f"file {number}"

    def __repr__(self) -> str:
        return self._name

    def read(self, size: int) -> bytes:
        return _logged(f"{self}.read", self.file.read, size)

    def write(self, data: bytes) -> None:
        _logged(f"{self}.write", self.file.write, data)


def _untraced(file: OpenFile) -> OpenFile:
    assert isinstance(file, _TracedFile)
    return file.file


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

    def open(self, path: str, flags: int) -> OpenFile:
        self._opened += 1
        numbered = partial(_TracedFile, number=self._opened)

        def opened(path: str, flags: int) -> _TracedFile:
            try:
                return numbered(self._operations.open(path, flags))
            except Later as later:
                raise later.converted(numbered) from None

        return _logged("open", opened, path, flags)

    def read(self, path: str, file: OpenFile, size: int) -> bytes:
        return _logged(f"{file}.read", partial(self._operations.read, path, _untraced(file)), size)

    def sendfile(self, file: OpenFile, size: int) -> bytes:
        return _logged(f"{file}.sendfile", partial(self._operations.sendfile, file), size)

    def write(self, path: str, file: OpenFile, data: bytes) -> None:
        _logged(f"{file}.write", partial(self._operations.write, path, _untraced(file)), data)

    def release(self, file: OpenFile) -> None:
        _logged(f"{file}.release", partial(self._operations.release, file))

    def truncate(self, path: str, size: int) -> Node:
        return _logged("truncate", self._operations.truncate, path, size)
