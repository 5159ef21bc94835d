"""The interface between the server of requests and the operations that it calls."""

from __future__ import annotations

from typing import Protocol

from pinnerfs.debugfs.declaration import OpenFile
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Node

__all__ = ["Operations"]


class Operations(Protocol):
    """The operations of a file system. `open`, `read` and `write` may raise Later.

    The server calls the named methods directly, and the others by name. It answers ENOSYS for a name that is missing.
    Without rules of faults it reads and writes an open file directly. A path is absolute, and each of its characters
    stands for one byte.
    """

    def __call__(self, operation: str, *arguments: object) -> object:
        """Run an operation by its name."""

    faults: Faults  # the rules of faults: see `Faults.active` and `Faults.may_hide`

    def find(self, path: str) -> None:
        """Raise OSError if a path is missing for the caller."""

    def getattr(self, path: str) -> Node:
        """Return the node at a path."""

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a file."""

    def read(self, path: str, file: OpenFile, size: int) -> bytes:
        """Read from a file while rules of faults can hit that."""

    def sendfile(self, file: OpenFile, size: int) -> bytes:
        """Answer a read for the page cache, which sendfile(2) and splice(2) cause."""

    def write(self, path: str, file: OpenFile, data: bytes) -> None:
        """Write to a file while rules of faults can hit that."""

    def release(self, file: OpenFile) -> None:
        """Take note of the last close of a file."""

    def truncate(self, path: str, size: int) -> Node:
        """Set the size that stat shows, and return the node."""
