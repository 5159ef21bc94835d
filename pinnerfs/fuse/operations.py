"""The tree as a FUSE file system, with the operations of libfuse 2.

An operation that is missing here answers ENOSYS, which the kernel remembers. So extended attributes answer EOPNOTSUPP
without a request, and close sends no flush.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from pinnerfs.debugfs.tree import Node, Tree
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.fuse.tracing import traced

__all__ = ["TreeOperations", "check_binding", "serve"]

# A write over 128 KiB arrives in pieces. From an unaligned buffer the first can be up to a page shorter.
PIECE = 131072 - 4096

# Every change of an attribute is a request to this process, so what the kernel has cached stays true.
CACHE_TIMEOUT = 3600  # seconds

MAX_BACKGROUND = 0xFFFF  # the maximum of FUSE; the kernel lowers it for an ordinary user

log = logging.getLogger(__name__)


def check_binding() -> None:
    """Check that fusepy has loaded libfuse 2. PinnerfsError names the package to install."""
    try:
        from pinnerfs.fuse.binding import check_version
    except (OSError, AttributeError) as error:  # no library, or a library that is not libfuse
        raise PinnerfsError(
            f"cannot load libfuse 2: {error} (Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases; "
            "libfuse 3 does not replace it)",
            NO_FUSE,
        ) from None
    check_version()


class _Handle:
    """An open file, with what FUSE needs beyond the file itself."""

    _touched = False  # a read or write has arrived
    _write_end = -1
    _write_length = 0

    def __init__(self, operations: TreeOperations, path: str, flags: int) -> None:
        self._operations = operations
        self._path = path
        self._flags = flags
        self._file = operations.tree.open(path, flags)

    @property
    def node(self) -> Node:
        return self._operations.tree.node(self._path)

    def read(self, size: int) -> bytes:
        self._touched = True
        return self._file.read(size)

    def sendfile(self, size: int) -> bytes:
        self._touched = True
        # debugfs files have no splice_read. The reader falls back to read.
        raise OSError(errno.EINVAL, "debugfs files do not support sendfile")

    def write(self, data: bytes, offset: int) -> None:
        self._touched = True
        # A kernel sees one write of any length, so only its first piece counts; the others continue at its end.
        if not (offset == self._write_end and self._write_length > PIECE):
            self._file.write(data)
        self._write_end, self._write_length = offset + len(data), len(data)

    def truncate(self, size: int) -> None:
        self._operations.tree.truncate(self._path, size)

    def fsync(self) -> None:
        self._operations.tree.fsync(self._path)

    def release(self) -> None:
        if not self._touched and self._flags & os.O_ACCMODE == os.O_RDONLY:
            self._operations.closed_unread(self._path)


class TreeOperations:
    """The operations on a tree: fusepy calls them by name. An OSError answers with its errno."""

    def __init__(self, tree: Tree, ready: Callable[[], None], sendfile: bool) -> None:
        self.tree = tree
        self._ready = ready
        self._sendfile = sendfile
        self._opened_directories: dict[int, str] = {}  # paths by inode number
        self._warned = False

    def __call__(self, operation: str, *arguments: object) -> object:
        """Run an operation by its name, as fusepy does."""
        answer: object = getattr(self, operation)(*arguments)
        return answer

    def init(self, path: str) -> None:
        self._ready()

    # Attributes and directories.

    def getattr(self, path: str) -> Node:
        return self.tree.node(path)

    def size(self, node: Node) -> int:
        """Return the size that stat shows: of files 1 with --sendfile, else the kernel answers sendfile by itself."""
        return 1 if self._sendfile and not node.size and node.open is not None else node.size

    def opendir(self, path: str) -> int:
        number = self.tree.node(path).ino
        self._opened_directories[number] = path
        return number

    def readdir(self, path: None, number: int) -> list[tuple[str, dict[str, int], int] | str]:
        listing = self.tree.listing(self._opened_directories[number])
        return [".", "..", *((name, {"st_ino": node.ino, "st_mode": node.mode}, 0) for name, node in listing)]

    def fsyncdir(self, path: None, datasync: int, number: int) -> None:
        self.tree.fsync(self._opened_directories[number])

    def statfs(self, path: str) -> dict[str, int]:
        return self.tree.statfs()

    def listxattr(self, path: str) -> list[str]:
        return []

    # Open files.

    def open(self, path: str, flags: int) -> _Handle:
        return _Handle(self, path, flags)

    def closed_unread(self, path: str) -> None:
        """Warn once that a reader may have read nothing."""
        if not self._sendfile and not self._warned:
            self._warned = True
            log.warning(
                "%s was opened for reading and closed unread: a reader that begins with sendfile (a static "
                "busybox's cat into a pipe) reads nothing here; for such readers mount with --sendfile",
                path,
            )

    # Changes of attributes.

    def chmod(self, path: str, mode: int) -> None:
        self.tree.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.tree.chown(path, uid, gid)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        self.tree.set_times(path, *times)

    def truncate(self, path: str, size: int) -> None:
        self.tree.truncate(path, size)

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


def serve(tree: Tree, connection: int, ready: Callable[[], None], sendfile: bool) -> None:
    """Answer the requests of a mount until it is unmounted.

    `connection` is the mount's descriptor of /dev/fuse. `ready` is called when the mount answers. PinnerfsError if
    libfuse fails; it has then written the reason to stderr.
    """
    from pinnerfs.fuse.binding import Binding

    try:
        Binding(
            traced(TreeOperations(tree, ready, sendfile)),
            connection,
            use_ino=True,
            readdir_ino=True,
            # Else libfuse renames an open file that is unlinked, and asks about that.
            hard_remove=True,
            attr_timeout=CACHE_TIMEOUT,
            entry_timeout=CACHE_TIMEOUT,
            # Releases are background requests, of which the kernel sends 12 at a time by default. Many readers that
            # open and close at once would then leave ever more closed files open here.
            max_background=MAX_BACKGROUND,
        )
    except RuntimeError as error:
        raise PinnerfsError(f"libfuse failed: {error}") from None
