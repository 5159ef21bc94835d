"""The inodes of a debugfs, and the errno of each operation on them.

Imitates fs/debugfs/inode.c and fs/libfs.c of Linux 5.10 to 6.1. The tree checks no permissions: the kernel that
mounts it enforces the modes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time_ns

from pinnerfs.debugfs.declaration import Directory, File, OpenFile

__all__ = ["Node", "Time", "Tree"]

Time = tuple[int, int]  # s and ns

NAME_MAX = 255
LARGEST_SIZE = 0x7FFFFFFF  # MAX_NON_LFS: debugfs leaves s_maxbytes there
KEEP = 0xFFFFFFFF  # the -1 of chown, as FUSE passes it on


def _now() -> Time:
    return divmod(time_ns(), 10**9)


@dataclass
class Node:
    """An inode, as stat shows it."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int = 1
    size: int = 0
    atime: Time = field(default_factory=_now)
    mtime: Time = (0, 0)
    ctime: Time = (0, 0)
    children: dict[str, Node] = field(default_factory=dict)  # those that are listed
    open: Callable[[], OpenFile] | None = None
    waits: bool = False

    def __post_init__(self) -> None:
        self.mtime = self.ctime = self.atime

    def changed(self) -> None:
        """Set the time of the last inode change to now."""
        self.ctime = _now()


class Tree:
    """A debugfs built from a declaration, owned by one user. Every method raises OSError with the kernel's errno."""

    def __init__(self, root: Directory, uid: int, gid: int) -> None:
        self._owner = (uid, gid)
        self._nodes: dict[str, Node] = {}  # by path
        self._build(root, "")

    def _build(self, entry: File | Directory, path: str) -> Node:
        """Create a node and all below it, each directory before its entries."""
        ino = len(self._nodes) + 1
        if isinstance(entry, File):
            node = self._nodes[path] = Node(
                ino, stat.S_IFREG | entry.mode, *self._owner, size=entry.size, open=entry.open, waits=entry.waits
            )
            return node
        node = self._nodes[path or "/"] = Node(ino, stat.S_IFDIR | entry.mode, *self._owner, nlink=2)
        for child in entry.entries:
            built = self._build(child, f"{path}/{child.name}")
            if isinstance(child, Directory):
                if not child.listed:
                    continue
                node.nlink += 1
            node.children[child.name] = built
        return node

    def node(self, path: str) -> Node:
        """Return the node at an absolute path, in which each character stands for one byte.

        OSError: ENOENT, ENOTDIR or ENAMETOOLONG.
        """
        node = self._nodes.get(path)
        if node is None:
            raise OSError(self._lookup_error(path), path)
        return node

    def _lookup_error(self, path: str) -> int:
        """Return the errno that a walk along the path meets first."""
        at = ""
        for name in path.split("/")[1:]:
            if len(name) > NAME_MAX:
                return errno.ENAMETOOLONG
            if not stat.S_ISDIR(self._nodes[at or "/"].mode):
                return errno.ENOTDIR
            at = f"{at}/{name}"
            if at not in self._nodes:
                break
        return errno.ENOENT

    def listing(self, path: str) -> list[tuple[str, Node]]:
        """Return the listed entries of a directory, newest first. Imitates dcache_readdir()."""
        return list(reversed(self.node(path).children.items()))

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a file; O_DIRECT is EINVAL, as debugfs files do not support it."""
        node = self._nodes.get(path) or self.node(path)
        opener = node.open
        if opener is None:
            raise OSError(errno.EISDIR, path)
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, path)
        return opener()

    def make(self, path: str, mode: int) -> None:
        """Refuse create and mknod: EACCES for a regular file (no `->create`), else EPERM (no `->mknod`)."""
        raise OSError(errno.EACCES if stat.S_IFMT(mode) in (0, stat.S_IFREG) else errno.EPERM, path)

    def rearrange(self, path: str) -> None:
        """Refuse mkdir, rmdir, unlink, rename, link and symlink with EPERM: debugfs does not implement them."""
        raise OSError(errno.EPERM, path)

    def chmod(self, path: str, mode: int) -> None:
        """Set the permissions. Imitates simple_setattr(), as the next three do."""
        node = self.node(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.changed()

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set the owner and the group; -1 keeps the old one."""
        node = self.node(path)
        node.uid = node.uid if uid in (-1, KEEP) else uid
        node.gid = node.gid if gid in (-1, KEEP) else gid
        node.changed()

    def set_times(self, path: str, atime: Time, mtime: Time) -> None:
        """Set the times."""
        node = self.node(path)
        node.atime, node.mtime = atime, mtime
        node.changed()

    def truncate(self, path: str, size: int) -> Node:
        """Set the size that stat shows, and nothing else; more than LARGEST_SIZE is EFBIG. Return the node."""
        if size > LARGEST_SIZE:
            raise OSError(errno.EFBIG, path)
        node = self._nodes.get(path) or self.node(path)
        node.size = size
        node.mtime = node.ctime = _now()
        return node

    def fsync(self, path: str) -> None:
        """Refuse a file with EINVAL (no `->fsync`); a directory succeeds."""
        if not stat.S_ISDIR(self.node(path).mode):
            raise OSError(errno.EINVAL, path)

    @staticmethod
    def statfs() -> dict[str, int]:
        """Return what statfs shows. Imitates simple_statfs()."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": NAME_MAX}
