"""Declare the files and directories of a debugfs as data; `tree.Tree` builds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Directory", "File", "OpenFile"]


class OpenFile(Protocol):
    """An open file. Both methods raise OSError with the kernel's errno."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""

    def write(self, data: bytes) -> None:
        """Take one write: all of it, or raise."""


@dataclass(frozen=True)
class File:
    """A file, as debugfs_create_file() takes it: `mode` is its permissions, `open` is called at each open.

    In a name each character stands for one byte.
    """

    name: str
    mode: int
    open: Callable[[], OpenFile]


@dataclass(frozen=True)
class Directory:
    """A directory with its entries in order of creation, which is the order of the inode numbers.

    A directory that is not `listed` can be opened by its path, but its parent does not show it.
    """

    name: str
    mode: int
    entries: Sequence[File | Directory] = ()
    listed: bool = True
