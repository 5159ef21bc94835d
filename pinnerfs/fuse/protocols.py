"""The interface between the binding to libfuse and the operations that it calls."""

from __future__ import annotations

from typing import Protocol

from pinnerfs.debugfs.inject import Caller, Faults
from pinnerfs.debugfs.tree import Node
from pinnerfs.scenario.faults import Rule

__all__ = ["OpenHandle", "Operations"]


class OpenHandle(Protocol):
    """An open file. Every method raises OSError with the errno that libfuse answers."""

    def read(self, size: int) -> bytes:
        """Answer read(2): at most `size` bytes; b"" at the end."""

    def sendfile(self, size: int) -> bytes:
        """Answer a read for the page cache, which sendfile(2) and splice(2) cause."""

    def write(self, data: bytes, offset: int) -> None:
        """Take all of the data, or raise."""

    def truncate(self, size: int) -> None:
        """Answer ftruncate(2)."""

    def fsync(self) -> None:
        """Answer fsync(2)."""

    def release(self) -> None:
        """Take note of the last close."""


class Operations(Protocol):
    """The operations of a file system.

    The binding calls the named methods directly, and the others by name. It answers ENOSYS for a name that is missing.
    A path is absolute, and each of its characters stands for one byte.
    """

    def __call__(self, operation: str, *arguments: object) -> object:
        """Run an operation by its name."""

    faults: Faults  # if they are active, the binding asks for the fault of each request

    def fault(self, operation: str, path: str, caller: Caller) -> Rule | None:
        """Return the rule that hits a lookup, opendir, open, read or write."""

    def getattr(self, path: str) -> Node:
        """Return the node at a path."""

    def open(self, path: str, flags: int) -> OpenHandle:
        """Open a file."""
