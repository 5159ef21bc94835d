"""The handlers of requests on files: open, read, write, close, and changes of attributes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from pinnerfs.debugfs.declaration import Later, OpenFile
from pinnerfs.fuse.connection import MAX_WRITE, Connection
from pinnerfs.fuse.inodes import Inode, Inodes
from pinnerfs.fuse.messages import (
    BODY,
    DATA,
    FATTR_ATIME,
    FATTR_GID,
    FATTR_LOCKOWNER,
    FATTR_MODE,
    FATTR_MTIME,
    FATTR_SIZE,
    FATTR_UID,
    FOPEN_DIRECT_IO,
    FOPEN_NONSEEKABLE,
    FOPEN_STREAM,
    FUSE_READ_LOCKOWNER,
    OPEN_OUT,
    OPENER,
    READ_IN,
    RELEASE_IN,
    SETATTR_IN,
    TRUNCATION,
    WRITE_IN,
    WRITE_OUT,
)
from pinnerfs.fuse.protocols import Operations

__all__ = ["FileHandlers"]

# Without direct_io the kernel would cache what it reads. With nonseekable lseek is ESPIPE. Of a stream each write(2)
# begins at offset 0, unless the file is open for appending.
OPEN_FLAGS = FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_STREAM

# An open with O_TRUNC changes the size alone, and does not name its handle.
TRUNCATED_AT_OPEN = FATTR_SIZE | FATTR_LOCKOWNER

# A write over 128 KiB, or of more than 32 buffers, arrives in pieces. An append after a piece that is shorter than this
# counts as a new write. From an unaligned buffer a piece can be up to a page shorter than 128 KiB.
PIECE = MAX_WRITE - 4096

POLL = 0.001  # seconds between attempts to open a file

_unpack_opener, _unpack_read, _unpack_write = OPENER.unpack_from, READ_IN.unpack_from, WRITE_IN.unpack_from
_unpack_handle, _unpack_truncation = RELEASE_IN.unpack_from, TRUNCATION.unpack_from
_pack_open, _pack_write = OPEN_OUT.pack, WRITE_OUT.pack


class FileHandlers:
    """The handlers of one mount. Each gets the number of an inode, and reads the rest from the connection's buffer.

    These are the frequent requests. `forget_names` is called after a write that can hide a directory.
    """

    def __init__(
        self, connection: Connection, operations: Operations, inodes: Inodes, forget_names: Callable[[], None]
    ) -> None:
        self._buffer = connection.buffer
        self._view = memoryview(connection.buffer)
        self._operations = operations
        self._faults = operations.faults
        self._inodes = inodes
        self._forget_names = forget_names
        self._handles: dict[int, tuple[OpenFile, Inode]] = {}
        # The last open: the handle, its inode and its thread.
        self._last_number = self._last_ino = self._last_thread = 0

    def open(self, ino: int) -> bytes:
        thread, flags = _unpack_opener(self._buffer)
        inode = self._inodes.opening(ino, flags, thread)
        try:
            file = self._operations.open(inode.path, flags)
        except Later as later:
            raise later.converted(partial(self._opened, 0, inode, flags)) from None
        return self._opened(thread, inode, flags, file)

    def _opened(self, thread: int, inode: Inode, flags: int, file: OpenFile) -> bytes:
        """Answer an OPEN. The thread is 0 after a delay: it may have made other requests since."""
        if not self._inodes.opened(inode, flags):
            raise Later(POLL, partial(self._opened, 0, inode, flags, file))
        number = self._last_number = self._last_number + 1
        self._last_ino = inode.number
        self._last_thread = thread
        self._handles[number] = file, inode
        return _pack_open(number, OPEN_FLAGS)

    def read(self, ino: int) -> bytes:
        number, _, size, flags = _unpack_read(self._buffer, BODY)
        file, inode = self._handles[number]
        if not flags & FUSE_READ_LOCKOWNER:  # a read for the page cache (sendfile, splice)
            return self._operations.sendfile(file, size)
        if self._faults.active:
            return self._operations.read(inode.path, file, size)
        return file.read(size)

    def write(self, ino: int) -> bytes:
        number, offset, size, flags = _unpack_write(self._buffer, BODY)
        file, inode = self._handles[number]
        self._inodes.settle(number)
        # A kernel sees one write of any length, so only its first piece counts; the others continue at its end. A new
        # write begins at offset 0, or at the end of the last one if the file is open for appending.
        continues = (
            offset
            and (inode.writer, inode.write_end) == (number, offset)
            and not (flags & os.O_APPEND and inode.write_length <= PIECE)
        )
        # FUSE locks an inode from the first piece to the last, so no other write comes between them.
        inode.writer = number
        inode.write_end = offset + size
        inode.write_length = size
        if continues:
            return _pack_write(size)
        data = self._view[DATA : DATA + size].tobytes()
        try:
            if self._faults.active:
                self._operations.write(inode.path, file, data)
            else:
                file.write(data)
            if self._faults.may_hide:
                self._forget_names()
        except Later as later:
            answer = _pack_write(size)
            raise later.converted(lambda _: answer) from None
        return _pack_write(size)

    def release(self, ino: int) -> bytes:
        number, flags = _unpack_handle(self._buffer, BODY)
        file, inode = self._handles.pop(number)
        self._inodes.released(inode, flags, number)
        self._operations.release(file)
        return b""

    def fsync(self, ino: int) -> bytes:
        self._operations("fsync", self._inodes.path(ino))
        return b""

    def setattr(self, ino: int) -> bytes:
        thread, which, size = _unpack_truncation(self._buffer)
        inode = self._inodes.known[ino]
        if which == TRUNCATED_AT_OPEN and self._last_ino == ino and self._last_thread == thread:
            node = self._operations.truncate(inode.path, size)
            return self._inodes.truncated(inode, node, self._last_number, thread)
        self._change(inode.path)
        return self._inodes.changed(inode, self._operations.getattr(inode.path))

    def _change(self, path: str) -> None:
        """Make the changes of a SETATTR."""
        which, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid = SETATTR_IN.unpack_from(
            self._buffer, BODY
        )
        if which & FATTR_MODE:
            self._operations("chmod", path, mode)
        if which & (FATTR_UID | FATTR_GID):
            owner = uid if which & FATTR_UID else -1
            self._operations("chown", path, owner, gid if which & FATTR_GID else -1)
        if which & FATTR_SIZE:
            self._operations.truncate(path, size)
        if which & (FATTR_ATIME | FATTR_MTIME):
            node = self._operations.getattr(path)
            self._operations(
                "utimens",
                path,
                (
                    (atime, atime_ns) if which & FATTR_ATIME else node.atime,
                    (mtime, mtime_ns) if which & FATTR_MTIME else node.mtime,
                ),
            )
