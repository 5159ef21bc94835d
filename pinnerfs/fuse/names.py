"""The handlers of requests with names in a directory: the lookup, and the operations that debugfs refuses."""

from __future__ import annotations

import threading
from functools import partial
from typing import NoReturn

from pinnerfs.debugfs.declaration import Later
from pinnerfs.debugfs.inject import PAGE_PINNER
from pinnerfs.fuse.connection import Connection
from pinnerfs.fuse.inodes import ENCODING, Inodes
from pinnerfs.fuse.messages import (
    BODY,
    CREATE_IN,
    INVAL_ENTRY_OUT,
    LINK_IN,
    MKDIR_IN,
    MKNOD_IN,
    NOTIFY_INVAL_ENTRY,
    RENAME_IN,
    ROOT_ID,
)
from pinnerfs.fuse.protocols import Operations

__all__ = ["NameHandlers"]

POLL = 0.001  # seconds between looks whether the kernel has forgotten a name


class NameHandlers:
    """The handlers of one mount. Each gets the number of a directory, and reads the names from the connection."""

    def __init__(self, connection: Connection, operations: Operations, inodes: Inodes) -> None:
        self._buffer = connection.buffer
        self._body = connection.body
        self._operations = operations
        self._inodes = inodes
        self._path = inodes.below
        self._notify = connection.notify
        self._kept = False  # whether the kernel keeps names

    def lookup(self, ino: int) -> bytes:
        name = self._names()[0]
        if self._operations.faults.may_hide:
            self._operations.find(self._path(ino, name))
            return self._inodes.lookup(ino, name, lifetime=0)
        self._kept = True
        return self._inodes.lookup(ino, name)

    def forget_names(self) -> None:
        """Make the kernel look up page_pinner again, in case it keeps the name. Raise Later until it does."""
        if self._kept:
            self._kept = False
            name = PAGE_PINNER.encode(ENCODING)
            message = INVAL_ENTRY_OUT.pack(ROOT_ID, len(name), 0) + name + b"\0"
            # In a thread: the kernel waits for lookups in progress, which this thread must answer.
            thread = threading.Thread(target=self._notify, args=(NOTIFY_INVAL_ENTRY, message), daemon=True)
            thread.start()
            self._await(thread)

    def _await(self, thread: threading.Thread) -> None:
        if thread.is_alive():
            raise Later(POLL, partial(self._await, thread))

    def _names(self, offset: int = 0) -> list[bytes]:
        """Return the names of the request, which come after its structure of so many bytes."""
        return self._body(offset).split(b"\0")

    def mknod(self, ino: int) -> NoReturn:
        mode, device, *_ = MKNOD_IN.unpack_from(self._buffer, BODY)
        self._refused("mknod", self._path(ino, self._names(MKNOD_IN.size)[0]), mode, device)

    def create(self, ino: int) -> NoReturn:
        _, mode, *_ = CREATE_IN.unpack_from(self._buffer, BODY)
        self._refused("create", self._path(ino, self._names(CREATE_IN.size)[0]), mode)

    def mkdir(self, ino: int) -> NoReturn:
        mode, _ = MKDIR_IN.unpack_from(self._buffer, BODY)
        self._refused("mkdir", self._path(ino, self._names(MKDIR_IN.size)[0]), mode)

    def unlink(self, ino: int) -> NoReturn:
        self._refused("unlink", self._path(ino, self._names()[0]))

    def rmdir(self, ino: int) -> NoReturn:
        self._refused("rmdir", self._path(ino, self._names()[0]))

    def symlink(self, ino: int) -> NoReturn:
        name, target, *_ = self._names()
        self._refused("symlink", self._path(ino, name), target.decode(ENCODING))

    def rename(self, ino: int) -> NoReturn:
        (new_parent,) = RENAME_IN.unpack_from(self._buffer, BODY)
        old, new, *_ = self._names(RENAME_IN.size)
        self._refused("rename", self._path(ino, old), self._path(new_parent, new))

    def link(self, ino: int) -> NoReturn:
        (linked,) = LINK_IN.unpack_from(self._buffer, BODY)
        name = self._path(ino, self._names(LINK_IN.size)[0])
        self._refused("link", name, self._inodes.path(linked))

    def _refused(self, operation: str, *arguments: object) -> NoReturn:
        self._operations(operation, *arguments)
        raise AssertionError(f"{operation} succeeded")
