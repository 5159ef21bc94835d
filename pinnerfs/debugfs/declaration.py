"""Declare the files and directories of a debugfs as data; `tree.Tree` builds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["Directory", "File", "Later", "OpenFile"]


def _nothing() -> None:
    pass


class Later(Exception):
    """Raised by an operation that answers after a delay.

    After `seconds` the server calls `then` for the answer, and serves other requests until then. If the caller gets a
    signal earlier, its call fails with EINTR, and the server calls `cancel` instead.
    """

    def __init__(self, seconds: float, then: Callable[[], Any], cancel: Callable[[], None] = _nothing) -> None:
        super().__init__(f"after {seconds:g} s")
        self.seconds = seconds
        self.then = then
        self.cancel = cancel

    def converted(self, convert: Callable[[Any], Any]) -> Later:
        """Return the same delay with an answer that passes through `convert`."""

        def then() -> Any:
            try:
                answer = self.then()
            except Later as again:
                raise again.converted(convert) from None
            return convert(answer)

        return Later(self.seconds, then, self.cancel)


class OpenFile(Protocol):
    """An open file. Both methods raise OSError with the kernel's errno. `write` may raise Later."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""

    def write(self, data: bytes) -> None:
        """Take one write: all of it, or raise."""


class File(NamedTuple):
    """A file, as debugfs_create_file() takes it: `mode` is its permissions, `open` is called at each open.

    In a name each character stands for one byte. `size` is what stat shows. `waits` tells that a write can take long,
    and that other writes then must not wait for it.
    """

    name: str
    mode: int
    open: Callable[[], OpenFile]
    size: int = 0
    waits: bool = False


class Directory(NamedTuple):
    """A directory with its entries in order of creation, which is the order of the inode numbers.

    A directory that is not `listed` can be opened by its path, but its parent does not show it.
    """

    name: str
    mode: int
    entries: Sequence[File | Directory] = ()
    listed: bool = True
