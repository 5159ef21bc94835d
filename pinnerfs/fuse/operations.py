"""The tree as a FUSE file system.

An operation that is missing here answers ENOSYS, which the kernel remembers. So extended attributes answer EOPNOTSUPP
without a request, and close sends no flush.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Node, Time, Tree
from pinnerfs.fuse.connection import Connection
from pinnerfs.fuse.faults import Injection
from pinnerfs.fuse.server import serve_requests
from pinnerfs.fuse.tracing import traced

__all__ = ["TreeOperations", "serve"]

# A write over 128 KiB, or of more than 32 buffers, arrives in pieces. An append with a shorter piece is a new one. From
# an unaligned buffer the first piece can be up to a page shorter than 128 KiB.
PIECE = 131072 - 4096

log = logging.getLogger(__name__)


class _Handle:
    """An open file, with what FUSE needs beyond the file itself."""

    __slots__ = ("_faults", "_file", "_operations", "_path", "_write_end", "_write_length")

    def __init__(self, operations: TreeOperations, path: str, flags: int) -> None:
        self._operations = operations
        self._faults = operations.faults
        self._path = path
        self._file = operations.tree.open(path, flags)
        self._write_end = -1
        self._write_length = 0

    def read(self, size: int) -> bytes:
        if self._faults.active:
            return self._operations.injection.meet("read", self._path, lambda: self._file.read(size))
        return self._file.read(size)

    def sendfile(self, size: int) -> bytes:
        # debugfs files have no splice_read. The reader falls back to read.
        raise OSError(errno.EINVAL, "debugfs files do not support sendfile")

    def write(self, data: bytes, offset: int, append: bool) -> None:
        # A kernel sees one write of any length, so only its first piece counts; the others continue at its end. A new
        # write begins at offset 0, or at the end of the last one if the file is open for appending.
        if offset and offset == self._write_end and not (append and self._write_length <= PIECE):
            self._write_length = len(data)
            self._write_end = offset + len(data)
        elif self._faults.active:
            self._operations.injection.meet("write", self._path, lambda: self._write(data, offset))
        else:
            self._write(data, offset)

    def _write(self, data: bytes, offset: int) -> None:
        self._write_length = len(data)
        self._write_end = offset + len(data)
        self._file.write(data)

    def truncate(self, size: int) -> None:
        self._operations.tree.truncate(self._path, size)

    def fsync(self) -> None:
        self._operations.tree.fsync(self._path)

    def release(self) -> None:
        """Debugfs files have nothing to release."""


class TreeOperations:
    """The operations on a tree: the binding calls them by name. An OSError answers with its errno."""

    def __init__(self, tree: Tree, injection: Injection, ready: Callable[[], None]) -> None:
        self.tree = tree
        self.injection = injection
        self.faults = injection.faults
        self._ready = ready
        self._opened_directories: dict[int, str] = {}  # paths by inode number

    def __call__(self, operation: str, *arguments: object) -> object:
        """Run an operation by its name."""
        answer: object = getattr(self, operation)(*arguments)
        return answer

    def init(self, path: str) -> None:
        self._ready()

    # Attributes and directories.

    def find(self, path: str) -> None:
        self.injection.meet("lookup", path, lambda: None)

    def getattr(self, path: str) -> Node:
        return self.tree.node(path)

    def opendir(self, path: str) -> int:
        if self.faults.may_hide:
            return self.injection.meet("opendir", path, lambda: self._opendir(path))
        return self._opendir(path)

    def _opendir(self, path: str) -> int:
        number = self.tree.node(path).ino
        self._opened_directories[number] = path
        return number

    def readdir(self, path: None, number: int) -> list[tuple[str, dict[str, int], int] | str]:
        opened = self._opened_directories[number]
        listing = self.tree.listing(opened)
        if self.faults.may_hide and opened == "/":
            listing = [(name, node) for name, node in listing if not self.injection.hides(f"/{name}")]
        return [".", "..", *((name, {"st_ino": node.ino, "st_mode": node.mode}, 0) for name, node in listing)]

    def fsyncdir(self, path: None, datasync: int, number: int) -> None:
        self.tree.fsync(self._opened_directories[number])

    def statfs(self, path: str) -> dict[str, int]:
        return self.tree.statfs()

    def listxattr(self, path: str) -> list[str]:
        return []

    # Open files.

    def open(self, path: str, flags: int) -> _Handle:
        if self.faults.active:
            return self.injection.meet("open", path, lambda: _Handle(self, path, flags))
        return _Handle(self, path, flags)

    # Changes of attributes.

    def chmod(self, path: str, mode: int) -> None:
        self.tree.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.tree.chown(path, uid, gid)

    def utimens(self, path: str, times: tuple[Time, Time]) -> None:
        self.tree.set_times(path, *times)

    def truncate(self, path: str, size: int) -> Node:
        return self.tree.truncate(path, size)

    # Operations that debugfs refuses.

    def create(self, path: str, mode: int) -> None:
        self.tree.make(path, mode)

    def mknod(self, path: str, mode: int, dev: int) -> None:
        self.tree.make(path, mode)

    def mkdir(self, path: str, mode: int) -> None:
        self.tree.rearrange(path)

    def rmdir(self, path: str) -> None:
        self.tree.rearrange(path)

    def unlink(self, path: str) -> None:
        self.tree.rearrange(path)

    def symlink(self, path: str, source: str) -> None:
        self.tree.rearrange(path)

    def rename(self, old: str, new: str) -> None:
        self.tree.rearrange(old)

    def link(self, path: str, source: str) -> None:
        self.tree.rearrange(path)


def serve(tree: Tree, faults: Faults, descriptor: int, processes: int, ready: Callable[[], None]) -> None:
    """Answer the requests of a mount until it is unmounted.

    `descriptor` is that of /dev/fuse, and `processes` one of /proc. `ready` is called when the mount answers.
    """
    connection = Connection(descriptor, processes)
    serve_requests(connection, traced(TreeOperations(tree, Injection(faults, connection.caller), ready)))
