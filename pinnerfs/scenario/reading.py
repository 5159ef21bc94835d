"""Read the bytes of a scenario from a path that another user may control, or from stdin.

A path is checked and read through one descriptor, so that nothing can take its place in between. No read waits
without a deadline, and no device is opened.
"""

from __future__ import annotations

import os
import stat

__all__ = ["read_path", "read_stdin"]

BLOCK = 1 << 16  # bytes per read
PIPE_TIMEOUT = 10  # seconds without data from a pipe or terminal

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_path(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the bytes of a regular file or a pipe, at most `most` of them. Raise ValueError for anything else."""
    # To open a device can have an effect, so O_PATH comes first: it opens only the name.
    found = os.open(path, os.O_PATH)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise ValueError(f"it is {_KINDS[stat.S_IFMT(mode)]}, not a regular file or a pipe")
        # O_NONBLOCK: a pipe without a writer would block the open, and some regular files of /proc block reads.
        try:
            descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            raise ValueError("wanted /proc to be mounted, but it is not") from None
    finally:
        os.close(found)
    try:
        return _read(descriptor, most)
    finally:
        os.close(descriptor)


def read_stdin(most: int) -> bytes:
    """Return the bytes of stdin up to its end. Raise ValueError if there are none, or more than `most`."""
    data = _read(0, most)
    if not data:
        raise ValueError("standard input is empty")
    return data


def _read(descriptor: int, most: int) -> bytes:
    # A regular file is not polled: some files of /proc would never be ready, while a read says so at once.
    waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    parts: list[bytes] = []
    length = 0
    # In whole blocks: some files of /proc refuse smaller reads.
    while length <= most:
        if waits:
            _wait(descriptor)
        part = os.read(descriptor, BLOCK)
        if not part:
            return b"".join(parts)
        parts.append(part)
        length += len(part)
    raise ValueError(f"it is larger than {most} bytes; raise the limit with --limit file=SIZE")


def _wait(descriptor: int) -> None:
    import select  # only pipes need it

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(PIPE_TIMEOUT * 1000):
        raise ValueError(f"no data came for {PIPE_TIMEOUT} s")
