"""The tree of a debugfs: which files there are, their modes, and the errno of everything one may try.

Imitates fs/debugfs/inode.c and fs/libfs.c of Linux 5.10 to 6.1. Who may do what is not decided here: the modes
say it, and the kernel of the mount enforces them.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pinnerfs.debugfs.attributes import FILES, Failures, OpenFile
from pinnerfs.debugfs.control import CONTROL_FOLDER, Control
from pinnerfs.debugfs.device import Device
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["Node", "Tree"]

NAME_MAX = 255
# debugfs leaves s_maxbytes at MAX_NON_LFS.
LARGEST_SIZE = 0x7FFFFFFF
FOLDER = "/page_pinner"
CONTROL = f"/{CONTROL_FOLDER}"
KEEP = 0xFFFFFFFF  # chown's -1, as FUSE hands it on


@dataclass
class Node:
    """A file or folder, with what stat shows of it; times in ns."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int = 1
    size: int = 0
    atime: int = field(default_factory=time.time_ns)
    mtime: int = 0
    ctime: int = 0
    children: dict[str, Node] = field(default_factory=dict)
    open: Callable[[], OpenFile] | None = None

    def __post_init__(self) -> None:
        self.mtime = self.ctime = self.atime

    def changed(self) -> None:
        """Note the time of a change of the inode."""
        self.ctime = time.time_ns()


class Tree:
    """The files of one fake device, owned by whoever mounts it. Every method raises OSError with the kernel's errno."""

    def __init__(self, device: Device, generation: Generation, uid: int, gid: int) -> None:
        self._owner = (uid, gid)
        self._nodes: dict[str, Node] = {}  # all of them, by their path
        root = self._folder("/", 0o700)
        root.children["page_pinner"] = self._folder(FOLDER, 0o755)
        root.nlink += 1
        failures = Failures()
        for name in generation.files:
            mode, opener = FILES[name]
            self._file(FOLDER, name, mode, opener(device, failures))
        # Among nobody's children: it is never listed.
        self._folder(CONTROL, 0o700)
        for name, (mode, reopen) in Control(device).files.items():
            self._file(CONTROL, name, mode, reopen)

    def _folder(self, path: str, mode: int) -> Node:
        folder = self._nodes[path] = Node(len(self._nodes) + 1, stat.S_IFDIR | mode, *self._owner, nlink=2)
        return folder

    def _file(self, folder: str, name: str, mode: int, opener: Callable[[], OpenFile]) -> None:
        file = Node(len(self._nodes) + 1, stat.S_IFREG | mode, *self._owner, open=opener)
        self._nodes[f"{folder}/{name}"] = self._nodes[folder].children[name] = file

    def node(self, path: str) -> Node:
        """The node at a path from the root on, "/" itself included; each character of it stands for a byte.

        ENOENT, ENOTDIR, ENAMETOOLONG.
        """
        node = self._nodes.get(path)
        if node is None:
            raise OSError(self._why_not(path), path)
        return node

    def _why_not(self, path: str) -> int:
        """Which of the three a path meets first, from the root on."""
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
        """The entries of a folder, newest first; the control folder is never among them. Imitates `dcache_readdir`."""
        return list(reversed(self.node(path).children.items()))

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a file. EINVAL with O_DIRECT, which no such file can do."""
        opener = self.node(path).open
        if opener is None:
            raise OSError(errno.EISDIR, path)
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, path)
        return opener()

    def make(self, path: str, mode: int) -> None:
        """Refuse a new file or node: EACCES for a regular file (there is no `->create`), else EPERM (no `->mknod`)."""
        raise OSError(errno.EACCES if stat.S_IFMT(mode) in (0, stat.S_IFREG) else errno.EPERM, path)

    def rearrange(self, path: str) -> None:
        """Refuse mkdir, rmdir, unlink, rename, link and symlink: EPERM, there are no such operations."""
        raise OSError(errno.EPERM, path)

    def chmod(self, path: str, mode: int) -> None:
        """Keep new permissions: imitates `simple_setattr`, as the next three do."""
        node = self.node(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.changed()

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Keep a new owner and group; -1 leaves the old one."""
        node = self.node(path)
        node.uid = node.uid if uid in (-1, KEEP) else uid
        node.gid = node.gid if gid in (-1, KEEP) else gid
        node.changed()

    def set_times(self, path: str, atime: int, mtime: int) -> None:
        """Keep new times, in ns."""
        node = self.node(path)
        node.atime, node.mtime = atime, mtime
        node.changed()

    def truncate(self, path: str, size: int) -> None:
        """Keep the size that stat shows, which is all that it does. EFBIG for one over 2 GiB."""
        if size > LARGEST_SIZE:
            raise OSError(errno.EFBIG, path)
        node = self.node(path)
        node.size = size
        node.changed()
        node.mtime = node.ctime

    def fsync(self, path: str) -> None:
        """EINVAL for a file (there is no `->fsync`); a folder has nothing to write and succeeds."""
        if not stat.S_ISDIR(self.node(path).mode):
            raise OSError(errno.EINVAL, path)

    @staticmethod
    def statfs() -> dict[str, int]:
        """What statfs shows: imitates `simple_statfs`."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": NAME_MAX}
