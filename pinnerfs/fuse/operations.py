"""The tree as a FUSE file system, in the terms of libfuse 2.

An operation that is missing here answers ENOSYS, which the kernel remembers: extended attributes then answer
EOPNOTSUPP by themselves, and close costs no request.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from pinnerfs.debugfs.tree import Node, Tree
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.fuse.tracing import traced_operations

__all__ = ["FSNAME", "SUBTYPE", "check_binding", "serve"]

FSNAME = "debugfs"
SUBTYPE = "pinnerfs"

# A write over 128 KiB arrives in pieces; from an unaligned buffer the first may be up to a page shorter.
PIECE = 131072 - 4096

# Nothing changes behind the kernel's back: every change of an attribute comes through it.
TIMEOUT = 3600  # seconds

MAX_BACKGROUND = 0xFFFF  # the most that FUSE can be told; the kernel lowers it for an ordinary user

log = logging.getLogger(__name__)


def check_binding() -> None:
    """See to it that libfuse 2 is what fusepy has loaded. PinnerfsError says what to install."""
    try:
        from pinnerfs.fuse.binding import check_version
    except (OSError, AttributeError) as error:  # it is not there, or it is something else
        raise PinnerfsError(
            f"cannot load libfuse 2: {error} (Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones; "
            "libfuse 3 does not take its place)",
            NO_FUSE,
        ) from None
    check_version()


class _Handle:
    """An open file as FUSE sees it."""

    _touched = False  # whether a read or write has come
    _write_end = -1
    _write_length = 0

    def __init__(self, operations: _Operations, path: str, flags: int) -> None:
        self._operations = operations
        self._path = path
        self._flags = flags
        self._file = operations.tree.open(path, flags)

    def read(self, size: int, owner: int) -> bytes:
        self._touched = True
        # sendfile and splice come from the page cache, for no owner. A debugfs file can do neither.
        if not owner:
            raise OSError(errno.EINVAL, "sendfile")
        return self._file.read(size)

    def write(self, data: bytes, offset: int) -> None:
        self._touched = True
        # The kernel of a device sees one write, however long: what continues a piece has been judged with it.
        if not (offset == self._write_end and self._write_length > PIECE):
            self._file.write(data)
        self._write_end, self._write_length = offset + len(data), len(data)

    def truncate(self, size: int) -> None:
        self._operations.tree.truncate(self._path, size)

    def fsync(self) -> None:
        self._operations.tree.fsync(self._path)

    @property
    def node(self) -> Node:
        return self._operations.tree.node(self._path)

    def release(self) -> None:
        if not self._touched and self._flags & os.O_ACCMODE == os.O_RDONLY:
            self._operations.closed_unread(self._path)


class _Operations:
    """FUSE's operations, in the binding's terms. Whatever raises an OSError answers with its errno."""

    def __init__(self, tree: Tree, ready: Callable[[], None], sendfile: bool) -> None:
        self.tree = tree
        self._ready = ready
        self._sendfile = sendfile
        self._folders: dict[int, str] = {}  # those that somebody has opened, by their number
        self._warned = False

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Run an operation by its name, as fusepy asks for it."""
        return getattr(self, operation)(*arguments)

    def init(self, path: str) -> None:
        self._ready()

    # What stat and ls ask.

    def getattr(self, path: str) -> Node:
        return self.tree.node(path)

    def size(self, node: Node) -> int:
        """What stat shows of it."""
        return 1 if self._sendfile and not node.size and node.open is not None else node.size

    def opendir(self, path: str) -> int:
        number = self.tree.node(path).ino
        self._folders[number] = path
        return number

    def readdir(self, path: None, number: int) -> Iterator[tuple[str, dict[str, int], int] | str]:
        yield from (".", "..")
        for name, node in self.tree.listing(self._folders[number]):
            yield name, {"st_ino": node.ino, "st_mode": node.mode}, 0

    def fsyncdir(self, path: None, datasync: int, number: int) -> None:
        self.tree.fsync(self._folders[number])

    def statfs(self, path: str) -> dict[str, int]:
        return self.tree.statfs()

    def listxattr(self, path: str) -> list[str]:
        return []

    # Open files.

    def open(self, path: str, flags: int) -> _Handle:
        return _Handle(self, path, flags)

    def closed_unread(self, path: str) -> None:
        """Say once why a reader may have seen nothing."""
        if not self._sendfile and not self._warned:
            self._warned = True
            log.warning(
                "%s was opened for reading and closed unread: a reader that begins with sendfile (a static "
                "busybox's cat into a pipe) sees nothing here; mount with --sendfile for it",
                path,
            )

    # Changes of a file's attributes.

    def chmod(self, path: str, mode: int) -> None:
        self.tree.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.tree.chown(path, uid, gid)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        self.tree.set_times(path, *times)

    def truncate(self, path: str, size: int) -> None:
        self.tree.truncate(path, size)

    # What a debugfs refuses.

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


def serve(
    tree: Tree, mountpoint: str, ready: Callable[[], None], allow_other: bool, cover: bool, sendfile: bool
) -> None:
    """Mount the tree and answer until it is unmounted, or SIGINT, SIGTERM or SIGHUP asks for that.

    With `cover` it is mounted over whatever lies there; only root's mounts can do that. `ready` is called once the
    mount answers. PinnerfsError where mounting fails; libfuse has then said why on stderr.
    """
    from pinnerfs.fuse.binding import Binding

    # Neither `dev` nor `suid`: nobody needs devices or setuid programs here, and nobody shall get any.
    more = {"nonempty": True} if cover else {}
    try:
        Binding(
            traced_operations(_Operations(tree, ready, sendfile)),
            mountpoint,
            fsname=FSNAME,
            subtype=SUBTYPE,
            # The kernel enforces the modes, as it does on a debugfs.
            default_permissions=True,
            allow_other=allow_other,
            use_ino=True,
            readdir_ino=True,
            # An unlink is refused as such, not turned into a renaming of an open file.
            hard_remove=True,
            attr_timeout=TIMEOUT,
            entry_timeout=TIMEOUT,
            # A close is a request that nobody waits for. By default the kernel hands out 12 of them at a time: where
            # many readers open and close at once, ever more files that were closed long ago would stay open here.
            max_background=MAX_BACKGROUND,
            **more,
        )
    except RuntimeError:
        raise PinnerfsError(f"cannot mount on {mountpoint}: libfuse gave up", NO_FUSE) from None
