"""The interface between the server of requests and the operations that it calls."""

from __future__ import annotations

from typing import Protocol

from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Node

__all__ = ["OpenHandle", "Operations"]


class OpenHandle(Protocol):
    """An open file. Every method raises OSError with the errno of the answer. `read` and `write` may raise Later."""

    def read(self, size: int) -> bytes:
        """Answer read(2): at most `size` bytes; b"" at the end."""

    def sendfile(self, size: int) -> bytes:
        """Answer a read for the page cache, which sendfile(2) and splice(2) cause."""

    def write(self, data: bytes, offset: int, append: bool) -> None:
        """Take all of the data, or raise. `append`: the file is open with O_APPEND."""

    def truncate(self, size: int) -> None:
        """Answer ftruncate(2)."""

    def fsync(self) -> None:
        """Answer fsync(2)."""

    def release(self) -> None:
        """Take note of the last close."""


class Operations(Protocol):
    """The operations of a file system. `open` may raise Later.

    The server calls the named methods directly, and the others by name. It answers ENOSYS for a name that is missing.
    A path is absolute, and each of its characters stands for one byte.
    """

    def __call__(self, operation: str, *arguments: object) -> object:
        """Run an operation by its name."""

    faults: Faults  # what can make a name missing: see `Faults.may_hide`

    def find(self, path: str) -> None:
        """Raise OSError if a path is missing for the caller."""

    def getattr(self, path: str) -> Node:
        """Return the node at a path."""

    def open(self, path: str, flags: int) -> OpenHandle:
        """Open a file."""

    def truncate(self, path: str, size: int) -> Node:
        """Set the size that stat shows, and return the node."""
