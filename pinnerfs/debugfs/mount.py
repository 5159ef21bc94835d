"""The tree as a FUSE file system, in the terms of libfuse 2.

An operation that is missing here answers ENOSYS, which the kernel remembers: extended attributes then answer
EOPNOTSUPP by themselves, and close costs no request.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pinnerfs.debugfs.files import OpenFile
from pinnerfs.debugfs.tree import Tree
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["FSNAME", "SUBTYPE", "check_binding", "serve"]

FSNAME = "debugfs"
SUBTYPE = "pinnerfs"

# A write over 128 KiB arrives in pieces; from an unaligned buffer the first may be up to a page shorter.
PIECE = 131072 - 4096

SECOND = 10**9  # ns

# Nothing changes behind the kernel's back: every change of an attribute comes through it.
TIMEOUT = 3600  # seconds

log = logging.getLogger(__name__)


def check_binding() -> None:
    """See to it that libfuse 2 is what fusepy has loaded. PinnerfsError says what to install."""
    try:
        from pinnerfs.debugfs.binding import check_version
    except OSError as error:
        raise PinnerfsError(
            f"cannot load libfuse 2: {error} (Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones)",
            NO_FUSE,
        ) from None
    check_version()


@dataclass(slots=True)
class _Handle:
    """An open file as FUSE sees it."""

    file: OpenFile
    reader: bool
    touched: bool = False  # whether a read or write has come
    write_end: int = -1
    write_length: int = 0


class _Operations:
    """FUSE's operations, in libfuse 2's terms. Whatever raises an OSError answers with its errno."""

    use_ns = True

    def __init__(self, tree: Tree, ready: Callable[[], None], sendfile: bool) -> None:
        self._tree = tree
        self._ready = ready
        self._sendfile = sendfile
        self._handles: dict[int, _Handle] = {}
        self._last_handle = 0
        self._warned = False

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Run an operation by its name, as fusepy asks for it."""
        return getattr(self, operation)(*arguments)

    def init(self, path: str) -> None:
        self._ready()

    # What stat and ls ask.

    def getattr(self, path: str, status: Any) -> None:
        node = self._tree.node(path)
        status.st_ino = node.ino
        status.st_mode = node.mode
        status.st_nlink = node.nlink
        status.st_uid = node.uid
        status.st_gid = node.gid
        status.st_size = 1 if self._sendfile and not node.size and node.open is not None else node.size
        for shown, time in (
            (status.st_atimespec, node.atime),
            (status.st_mtimespec, node.mtime),
            (status.st_ctimespec, node.ctime),
        ):
            shown.tv_sec, shown.tv_nsec = divmod(time, SECOND)

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int] | str]:
        yield from (".", "..")
        for name, node in self._tree.listing(path):
            yield name, {"st_ino": node.ino, "st_mode": node.mode}, 0

    def statfs(self, path: str) -> dict[str, int]:
        return self._tree.statfs()

    def listxattr(self, path: str) -> list[str]:
        return []

    # Open files.

    def open(self, path: str, fi: Any) -> None:
        file = self._tree.open(path, fi.flags)
        self._last_handle += 1
        reader = fi.flags & os.O_ACCMODE == os.O_RDONLY
        self._handles[self._last_handle] = _Handle(file, reader)
        fi.fh = self._last_handle
        # Without direct_io a file of size 0 would never be asked; with nonseekable lseek is ESPIPE.
        fi.direct_io = 1
        fi.nonseekable = 1

    def read(self, fi: Any, size: int) -> bytes:
        handle = self._handles[fi.fh]
        handle.touched = True
        # sendfile and splice come from the page cache, for no owner. A debugfs file can do neither.
        if fi.lock_owner == 0:
            raise OSError(errno.EINVAL, "sendfile")
        return handle.file.read(size)

    def write(self, fi: Any, offset: int, data: bytes) -> None:
        handle = self._handles[fi.fh]
        handle.touched = True
        # The kernel of a device sees one write, however long: what continues a piece has been judged with it.
        if not (offset == handle.write_end and handle.write_length > PIECE):
            handle.file.write(data)
        handle.write_end, handle.write_length = offset + len(data), len(data)

    def fsync(self, path: str, datasync: int, fi: Any) -> None:
        self._tree.fsync(path)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._tree.fsync(path)

    def release(self, path: str, fi: Any) -> None:
        handle = self._handles.pop(fi.fh)
        if handle.reader and not handle.touched and not self._sendfile and not self._warned:
            self._warned = True
            log.warning(
                "%s was opened for reading and closed unread: a reader that begins with sendfile (a static "
                "busybox's cat into a pipe) sees nothing here; mount with --sendfile for it",
                path,
            )

    # Changes of a file's attributes.

    def chmod(self, path: str, mode: int) -> None:
        self._tree.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._tree.chown(path, uid, gid)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        self._tree.set_times(path, *times)

    def truncate(self, path: str, length: int, fi: Any = None) -> None:
        self._tree.truncate(path, length)

    # What a debugfs refuses.

    def create(self, path: str, mode: int, fi: Any) -> None:
        self._tree.make(path, mode)

    def mknod(self, path: str, mode: int, dev: int) -> None:
        self._tree.make(path, mode)

    def mkdir(self, path: str, mode: int) -> None:
        self._tree.rearrange(path)

    def rmdir(self, path: str) -> None:
        self._tree.rearrange(path)

    def unlink(self, path: str) -> None:
        self._tree.rearrange(path)

    def symlink(self, path: str, source: str) -> None:
        self._tree.rearrange(path)

    def rename(self, old: str, new: str) -> None:
        self._tree.rearrange(old)

    def link(self, path: str, source: str) -> None:
        self._tree.rearrange(path)


def serve(
    tree: Tree, mountpoint: str, ready: Callable[[], None], allow_other: bool, cover: bool, sendfile: bool
) -> None:
    """Mount the tree and answer until it is unmounted, or SIGINT, SIGTERM or SIGHUP asks for that.

    With `cover` it is mounted over whatever lies there; only root's mounts can do that. `ready` is called once the
    mount answers. PinnerfsError where mounting fails; libfuse has then said why on stderr.
    """
    from pinnerfs.debugfs.binding import Binding

    more = {"dev": True, "suid": True} if os.geteuid() == 0 else {}
    if cover:
        more["nonempty"] = True
    try:
        Binding(
            _Operations(tree, ready, sendfile),
            mountpoint,
            # One loop in this process: two to five times as fast as threads, and nothing forks behind our back.
            foreground=True,
            nothreads=True,
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
            **more,
        )
    except RuntimeError:
        raise PinnerfsError(f"cannot mount on {mountpoint}: libfuse gave up, for the reason above", NO_FUSE) from None
