"""The kinds of files that debugfs directories are made of: a text, a number, a command."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from pinnerfs.debugfs.declaration import File
from pinnerfs.kernel.attribute import parse_simple_attribute

__all__ = ["OpenCommand", "OpenNumber", "OpenText", "command_file", "number_file", "text_file"]


class OpenText:
    """A text that is sampled at open, and read by byte position.

    Imitates a file whose open formats a buffer and whose read is simple_read_from_buffer(), such as u32_array_open()
    and u32_array_read(). Without `put` it has no write operation: EINVAL. `put` gets each write whole.
    """

    def __init__(self, sample: Callable[[], str], put: Callable[[bytes], None] | None) -> None:
        self._text = sample().encode(errors="surrogateescape")
        self._put = put
        self._position = 0

    def read(self, size: int) -> bytes:
        part = self._text[self._position : self._position + size]
        self._position += len(part)
        return part

    def write(self, data: bytes) -> None:
        if self._put is None:
            raise OSError(errno.EINVAL, "the file has no write operation")
        self._put(data)


class OpenNumber:
    """A simple attribute: one number as decimal text.

    Imitates simple_attr_read() and simple_attr_write(): the number is sampled at the read at position 0. Without `get`
    a read is EACCES, without `put` a write is. `put` receives an unsigned 64-bit number.
    """

    __slots__ = ("_get", "_position", "_put", "_text")

    def __init__(self, get: Callable[[], int] | None, put: Callable[[int], None] | None) -> None:
        self._get = get
        self._put = put
        self._text = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        if self._get is None:
            raise OSError(errno.EACCES, "the attribute cannot be read")
        if self._position == 0:
            self._text = b"%d\n" % self._get()
        part = self._text[self._position : self._position + size]
        self._position += len(part)
        return part

    def write(self, data: bytes) -> None:
        if self._put is None:
            raise OSError(errno.EACCES, "the attribute cannot be written")
        self._put(parse_simple_attribute(data))


class OpenCommand:
    """A write-only command: `run` gets each write whole, and has finished or raised OSError when the write returns.

    Imitates a file with a write operation alone: a read is EINVAL, as vfs_read() answers without FMODE_CAN_READ.
    """

    def __init__(self, run: Callable[[bytes], None]) -> None:
        self._run = run

    def read(self, size: int) -> bytes:
        raise OSError(errno.EINVAL, "the file has no read operation")

    def write(self, data: bytes) -> None:
        self._run(data)


def text_file(
    name: str, sample: Callable[[], str], mode: int = 0o444, put: Callable[[bytes], None] | None = None
) -> File:
    """Declare a text, which is read-only without `put`."""
    return File(name, mode, partial(OpenText, sample, put))


def number_file(name: str, get: Callable[[], int] | None = None, put: Callable[[int], None] | None = None) -> File:
    """Declare a number: 0644 with `get` and `put`, 0444 with `get` alone, 0200 with `put` alone."""
    mode = (0o444 if get else 0) | (0o200 if put else 0)
    return File(name, mode, partial(OpenNumber, get, put))


def command_file(name: str, run: Callable[[bytes], None]) -> File:
    """Declare a command: mode 0200."""
    return File(name, 0o200, partial(OpenCommand, run))
