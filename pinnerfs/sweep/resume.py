"""The file that keeps the results of a sweep, so that a sweep that was interrupted goes on.

Its first line has the arguments of the sweep. Each further line has the results of one play, in the order of the plays.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.sweep.play import Result
from pinnerfs.sweep.runners import versions

__all__ = ["ResultFile", "opened"]

_Line = tuple[Result, ...]


class ResultFile:
    """An open file of results. done: those that it has."""

    def __init__(self, descriptor: int, name: str, done: list[_Line]) -> None:
        self._descriptor, self._name, self.done = descriptor, name, done

    def add(self, results: _Line) -> None:
        """Add the results of the next play."""
        _write(self._descriptor, self._name, msgspec.json.encode(results))


@contextmanager
def opened(path: str, arguments: dict[str, Any], most: int) -> Iterator[ResultFile]:
    """Open the file of a sweep of `most` plays, or create it. Raise PinnerfsError if it is of another sweep."""
    name, arguments = in_a_line(path), arguments | versions()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise PinnerfsError(f"-o {name}: cannot open it: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PinnerfsError(f"-o {name}: it is not a regular file", BAD_INPUT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PinnerfsError(f"-o {name}: another sweep writes to it; wait for that one") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
        yield ResultFile(descriptor, name, _read(descriptor, name, arguments, most))
    finally:
        os.close(descriptor)


def _read(descriptor: int, name: str, arguments: dict[str, Any], most: int) -> list[_Line]:
    """Return the results that the file has. Write its first line if it is empty, and cut an unfinished last line."""
    with open(os.dup(descriptor), "rb") as file:
        text = file.read()
    lines = text.split(b"\n")
    unfinished = lines.pop()
    if not lines:
        if unfinished and not msgspec.json.encode(arguments).startswith(unfinished):
            raise PinnerfsError(f"-o {name}: it exists and has no sweep; name another file", BAD_INPUT)
        os.ftruncate(descriptor, 0)
        _write(descriptor, name, msgspec.json.encode(arguments))
        return []
    _check_arguments(lines[0], name, arguments)
    os.ftruncate(descriptor, len(text) - len(unfinished))
    return list(_results(lines[1:], name, most))


def _check_arguments(line: bytes, name: str, arguments: dict[str, Any]) -> None:
    try:
        before = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        before = {}
    if "sweep" not in before:
        raise PinnerfsError(f"-o {name}: it exists and has no sweep; name another file", BAD_INPUT)
    now = msgspec.json.decode(msgspec.json.encode(arguments))
    for key in now | before:
        if before.get(key) != now.get(key):
            raise PinnerfsError(
                in_a_line(
                    f"-o {name}: it has a sweep with other arguments: {key} = {before.get(key)!r}, "
                    f"now {now.get(key)!r}; name another file"
                ),
                BAD_INPUT,
            )


def _results(lines: Iterable[bytes], name: str, most: int) -> Iterator[_Line]:
    for number, line in enumerate(lines, start=2):
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise PinnerfsError(f"-o {name}:{number}: not the results of a play: {error}", BAD_INPUT) from None
        if number - 1 > most:
            raise PinnerfsError(f"-o {name}:{number}: more results than the sweep has plays ({most})", BAD_INPUT)
        yield found


def _write(descriptor: int, name: str, line: bytes) -> None:
    # In one call: an interrupt comes before or after it.
    line += b"\n"
    try:
        written = os.write(descriptor, line)
    except OSError as error:
        raise PinnerfsError(f"-o {name}: cannot write to it: {error.strerror}") from None
    if written < len(line):
        raise PinnerfsError(f"-o {name}: cannot write to it: {os.strerror(errno.ENOSPC)}")
