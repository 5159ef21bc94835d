"""Read the bytes of a scenario from a path that another user may control, or from stdin.

A path is checked and read through one descriptor, so that nothing can take its place in between. No read waits
without a deadline, and no device is opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Input", "open_pipe", "read_path", "read_stdin"]

BLOCK = 1 << 16  # bytes per read
PIPE_TIMEOUT = 10  # seconds without data from a pipe or terminal
MOST = 4 << 30  # bytes of a pipe that has no other limit

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class Input:
    """An open file or pipe. Its first bytes can be looked at before it is read.

    Its methods raise ValueError if no data comes, or too much. Each further read raises the same error.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # A read of some regular files of /proc blocks. With O_NONBLOCK it fails at once, so no poll is needed.
        self._waits = os.get_blocking(descriptor) or not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._ahead = b""
        self._came = 0
        self._ended = False  # a terminal would go on after its end
        self._error: OSError | ValueError | None = None

    def peek(self, size: int) -> bytes:
        """Return the first bytes: so many or a few more, or all that come if there are fewer. They are read again.

        Raise an error if none come. After others, only a read raises it.
        """
        try:
            while len(self._ahead) < size and (part := self._more(BLOCK)):
                self._ahead += part
        except (OSError, ValueError):
            if not self._ahead:
                raise
        return self._ahead

    def read(self, size: int = BLOCK) -> bytes:
        """Return the next bytes, or b"" at the end. The first read returns all that `peek` did."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        return self._more(size)

    def read_all(self, most: int) -> bytes:
        """Return the bytes up to the end. Raise ValueError if there are more than `most`."""
        parts: list[bytes] = []
        length = 0
        # In whole blocks: some files of /proc refuse smaller reads.
        while length <= most:
            part = self.read()
            if not part:
                return b"".join(parts)
            parts.append(part)
            length += len(part)
        raise ValueError(f"it is larger than {most} bytes; raise the limit with --limit file=SIZE")

    def seekable(self) -> bool:
        """Tell that it is read from its beginning to its end."""
        return False

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _more(self, size: int) -> bytes:
        if self._error is not None:
            raise self._error
        if self._ended:
            return b""
        try:
            if self._came > MOST:
                raise ValueError(f"it has more than {MOST >> 30} GiB")
            if self._waits:
                _wait(self._descriptor)
            part = os.read(self._descriptor, size)
        except (OSError, ValueError) as error:
            self._error = error
            raise
        self._came += len(part)
        self._ended = not part
        return part


@contextmanager
def open_pipe(scenario: str) -> Iterator[Input | None]:
    """Open what a scenario argument names if it is a pipe, or stdin and no regular file; and None for anything else.

    A path that ends in .toml is left closed: it can only be a scenario.
    """
    if scenario == "-":
        yield None if stat.S_ISREG(os.fstat(0).st_mode) else Input(0)
        return
    pipe = _named_pipe(scenario) if "/" in scenario and not scenario.endswith(".toml") else None
    try:
        yield pipe
    finally:
        if pipe is not None:
            pipe.close()


def _named_pipe(path: str) -> Input | None:
    with suppress(OSError, ValueError):  # `read_path` finds it again, and tells more
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return _opened(path)
    return None


def read_path(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the bytes of a regular file or a pipe, at most `most` of them. Raise ValueError for anything else."""
    file = _opened(path)
    try:
        return file.read_all(most)
    finally:
        file.close()


def _opened(path: str | os.PathLike[str]) -> Input:
    # To open a device can have an effect, so O_PATH comes first: it opens only the name.
    found = os.open(path, os.O_PATH)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise ValueError(f"it is {_KINDS[stat.S_IFMT(mode)]}, not a regular file or a pipe")
        # O_NONBLOCK: a pipe without a writer would block the open, and some regular files of /proc block reads.
        try:
            return Input(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK))
        except FileNotFoundError:
            raise ValueError("wanted /proc to be mounted, but it is not") from None
    finally:
        os.close(found)


def read_stdin(most: int, opened: Input | None = None) -> bytes:
    """Return the bytes of stdin up to its end. Raise ValueError if there are none, or more than `most`.

    opened: stdin, if its first bytes were looked at.
    """
    data = (opened or Input(0)).read_all(most)
    if not data:
        raise ValueError("standard input is empty")
    return data


def _wait(descriptor: int) -> None:
    import select  # only pipes need it

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(PIPE_TIMEOUT * 1000):
        raise ValueError(f"no data came for {PIPE_TIMEOUT} s")
