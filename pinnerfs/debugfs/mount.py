"""The tree as a FUSE file system: the one module that knows fusepy.

fusepy calls an operation by name through `__call__`; an operation that is missing here answers ENOSYS, which the
kernel remembers: extended attributes then answer EOPNOTSUPP by themselves, and close costs no request.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pinnerfs.debugfs.files import OpenFile
from pinnerfs.debugfs.tree import Node, Tree
from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["FSNAME", "SUBTYPE", "check_binding", "serve"]

FSNAME = "debugfs"
SUBTYPE = "pinnerfs"

# A write over 128 KiB arrives in pieces; from an unaligned buffer the first may be up to a page shorter.
PIECE = 131072 - 4096

# How fusepy turns the kernel's names into strings, and back: whatever their bytes are.
ENCODING = "latin-1"

# Nothing changes behind the kernel's back: every change of an attribute comes through it.
TIMEOUT = 3600  # seconds

log = logging.getLogger(__name__)


def check_binding() -> None:
    """See to it that libfuse 2 is what fusepy has loaded. PinnerfsError says what to install."""
    try:
        import fuse
    except OSError as error:
        raise PinnerfsError(
            f"cannot load libfuse 2: {error} (Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones)",
            NO_FUSE,
        ) from None
    version = fuse._libfuse.fuse_version()
    if version // 10 != 2:
        raise PinnerfsError(
            f"the libfuse that was found has version {version // 10}.{version % 10}: wanted 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones)",
            NO_FUSE,
        )


@dataclass
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
        """Run an operation. Anything but an errno is a bug of ours: the log tells it, the caller gets EIO."""
        try:
            return getattr(self, operation)(*arguments)
        except OSError as error:
            if error.errno:
                raise
            log.exception("%s%r failed", operation, arguments[:1])
        except Exception:
            log.exception("%s%r failed", operation, arguments[:1])
        raise OSError(errno.EIO, "a bug in pinnerfs")

    def init(self, path: str) -> None:
        self._ready()

    # What stat and ls ask.

    def getattr(self, path: str, fi: Any = None) -> dict[str, int]:
        return self._attributes(self._tree.node(path))

    def _attributes(self, node: Node) -> dict[str, int]:
        size = node.size
        if self._sendfile and node.open is not None:
            size = max(1, size)
        return {
            "st_ino": node.ino,
            "st_mode": node.mode,
            "st_nlink": node.nlink,
            "st_uid": node.uid,
            "st_gid": node.gid,
            "st_size": size,
            "st_atime": node.atime,
            "st_mtime": node.mtime,
            "st_ctime": node.ctime,
        }

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int] | str]:
        yield from (".", "..")
        for name, node in self._tree.listing(path):
            yield name, self._attributes(node), 0

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

    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        handle = self._handles[fi.fh]
        handle.touched = True
        # sendfile and splice come from the page cache, for no owner. A debugfs file can do neither.
        if fi.lock_owner == 0:
            raise OSError(errno.EINVAL, path)
        return handle.file.read(size)

    def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
        handle = self._handles[fi.fh]
        handle.touched = True
        # The kernel of a device sees one write, however long: what continues a piece has been judged with it.
        if not (offset == handle.write_end and handle.write_length > PIECE):
            handle.file.write(data)
        handle.write_end, handle.write_length = offset + len(data), len(data)
        return len(data)

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
    import fuse

    more = {"dev": True, "suid": True} if os.geteuid() == 0 else {}
    if cover:
        more["nonempty"] = True
    try:
        fuse.FUSE(
            _Operations(tree, ready, sendfile),
            # Bytes as characters, one for one: names need not be UTF-8.
            os.fsencode(mountpoint).decode(ENCODING),
            raw_fi=True,
            encoding=ENCODING,
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
