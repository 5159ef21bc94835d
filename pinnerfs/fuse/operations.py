"""The tree as a FUSE file system.

An operation that is missing here answers ENOSYS, which the kernel remembers. So extended attributes answer EOPNOTSUPP
without a request, and close sends no flush.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from pinnerfs.debugfs.declaration import OpenFile
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Node, Time, Tree
from pinnerfs.fuse.connection import Connection
from pinnerfs.fuse.faults import Injection
from pinnerfs.fuse.server import serve_requests
from pinnerfs.fuse.tracing import traced

__all__ = ["TreeOperations", "serve"]

log = logging.getLogger(__name__)


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

    def open(self, path: str, flags: int) -> OpenFile:
        if self.faults.active:
            return self.injection.meet("open", path, lambda: self.tree.open(path, flags))
        return self.tree.open(path, flags)

    def read(self, path: str, file: OpenFile, size: int) -> bytes:
        return self.injection.meet("read", path, lambda: file.read(size))

    def sendfile(self, file: OpenFile, size: int) -> bytes:
        # debugfs files have no splice_read. The reader falls back to read.
        raise OSError(errno.EINVAL, "debugfs files do not support sendfile")

    def write(self, path: str, file: OpenFile, data: bytes) -> None:
        self.injection.meet("write", path, lambda: file.write(data))

    def fsync(self, path: str) -> None:
        self.tree.fsync(path)

    def release(self, file: OpenFile) -> None:
        """Debugfs files have nothing to release."""

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
