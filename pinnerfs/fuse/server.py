"""The handlers of requests: each takes a request apart, calls the operations, and packs their answer."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from pinnerfs.fuse.connection import MAX_WRITE, Connection
from pinnerfs.fuse.directories import DirectoryHandlers
from pinnerfs.fuse.files import FileHandlers
from pinnerfs.fuse.inodes import Inodes
from pinnerfs.fuse.messages import (
    BATCH_FORGET_IN,
    BODY,
    FORGET_ONE,
    FUSE_ASYNC_READ,
    FUSE_BIG_WRITES,
    INIT_IN,
    INIT_OUT,
    IOCTL_IN,
    VERSION,
    Opcode,
)
from pinnerfs.fuse.names import NameHandlers
from pinnerfs.fuse.protocols import Operations

__all__ = ["serve_requests"]

# Releases are background requests, of which the kernel sends 12 at a time by default. Many readers that open and close
# at once would then leave ever more closed files open here. The kernel lowers this maximum for an ordinary user.
MAX_BACKGROUND = 0xFFFF

# Operations that debugfs lacks as well, and that are logged: the kernel translates ENOSYS into the answer of a file
# system without them. Not logged: those that the kernel sends unasked (flush, access, getxattr), poll, and locks.
UNSUPPORTED = (Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.IOCTL, Opcode.FALLOCATE)
NO_ANSWER = (Opcode.NOTIFY_REPLY, Opcode.DESTROY)
TCGETS = 0x5401  # the ioctl of isatty()

log = logging.getLogger(__name__)


def serve_requests(connection: Connection, operations: Operations) -> None:
    """Answer the requests of a connection with operations until the unmount."""
    connection.serve(_Handlers(connection, operations).table())


class _Handlers:
    """The handlers of one mount. Each gets the number of an inode, and reads the rest from the connection's buffer."""

    def __init__(self, connection: Connection, operations: Operations) -> None:
        self._connection = connection
        self._buffer = connection.buffer
        self._operations = operations
        self._inodes = Inodes(operations.getattr, connection.notify)
        self._names = NameHandlers(connection, operations, self._inodes)
        self._files = FileHandlers(connection, operations, self._inodes, self._names.forget_names)
        self._directories = DirectoryHandlers(connection, operations, self._inodes)
        self._warned: set[str] = set()

    def table(self) -> dict[int, Callable[[int], bytes | None]]:
        """Return the handlers by opcode."""
        handlers: dict[int, Callable[[int], bytes | None]] = defaultdict(lambda: self._unsupported)
        for opcode in Opcode:
            name = opcode.name.lower()
            if opcode is Opcode.INTERRUPT:
                handlers[opcode.value] = self._connection.interrupt
            elif opcode in UNSUPPORTED:
                handlers[opcode.value] = partial(self._logged, name)
            elif opcode is Opcode.GETATTR:
                handlers[opcode.value] = self._inodes.getattr
            elif opcode is Opcode.FORGET:
                handlers[opcode.value] = self._inodes.forget
            elif opcode in NO_ANSWER:
                handlers[opcode.value] = self._no_answer
            else:
                others = (self._files, self._names, self._directories)
                found = next((other for other in others if hasattr(other, name)), None)
                handlers[opcode.value] = getattr(found, name) if found else getattr(self, f"_{name}")
        return handlers

    def _init(self, ino: int) -> bytes:
        major, minor, readahead, flags = INIT_IN.unpack_from(self._buffer, BODY)
        self._inodes.negotiate((major, minor))
        try:
            self._operations("init", "/")
        except BaseException:
            log.exception("FUSE operation init failed")
        return INIT_OUT.pack(
            *VERSION,
            readahead,
            flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES),
            MAX_BACKGROUND,
            MAX_BACKGROUND * 3 // 4,
            MAX_WRITE,
            1,
        )

    def _no_answer(self, ino: int) -> None:
        """Accept a message that has no answer."""

    def _batch_forget(self, ino: int) -> None:
        (count,) = BATCH_FORGET_IN.unpack_from(self._buffer, BODY)
        for number in range(count):
            self._inodes.forget(
                *FORGET_ONE.unpack_from(self._buffer, BODY + BATCH_FORGET_IN.size + number * FORGET_ONE.size)
            )

    def _unsupported(self, ino: int) -> NoReturn:
        raise OSError(errno.ENOSYS, "unsupported operation")

    def _logged(self, name: str, ino: int) -> NoReturn:
        """Answer ENOSYS, and log that once for each operation."""
        _, _, command, *_ = IOCTL_IN.unpack_from(self._buffer, BODY)
        if name not in self._warned and not (name == "ioctl" and command == TCGETS):
            self._warned.add(name)
            shown = f"ioctl {command:#x}" if name == "ioctl" else name
            log.warning("unsupported operation %s: returning ENOSYS", shown)
        self._unsupported(ino)
