"""What the kernel keeps of each inode: its attributes, and two different sizes.

A debugfs shows sizes of 0 and refuses sendfile with EINVAL, so that the reader falls back to read. FUSE answers
sendfile from the page cache up to the size in its inode, and with 0 the reader sees an empty file. So while a reader
has a file open, the size in the inode must not be 0, and stat must still show 0. An open file is a stream, whose
sendfile begins at offset 0: any size will do.

- The kernel learns the true size by the answer to a lookup. From then on it checks permissions without a request.
- The first open for reading stores the last byte of KEPT_SIZE, which raises the size in the inode. A store beyond all
  sizes stores nothing, but marks the size as invalid, so each stat becomes a request. The mode stays valid.
- While readers are there, the answer to such a request is made too old for the inode, by such a store in front of it:
  fuse_change_attributes() ignores it, and stat shows it (Linux 5.8, commit 5ddd9ced9aef).
- The answer to a change of attributes always goes into the inode. So it has KEPT_SIZE, and it expires at once: no stat
  shows it. Only after an open with O_TRUNC without a reader, the answer has the true size. Then a new reader waits
  until the kernel has handled that answer, as the next request of the same writer tells.

The pages of a file are locked only for its readers, so the store waits for no page whose read waits for this process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable
from time import monotonic

from pinnerfs.debugfs.tree import Node
from pinnerfs.fuse.messages import (
    ATTR,
    ATTR_OUT,
    ENTRY_OUT,
    INVAL_INODE_OUT,
    NOTIFY_INVAL_INODE,
    NOTIFY_STORE,
    ROOT_ID,
    STORE_OUT,
)

__all__ = ["ENCODING", "Inodes"]

# Names need not be UTF-8: this encoding maps each byte to one character and back.
ENCODING = "latin-1"

# Every change of an attribute is a request to this process, so what the kernel has cached stays true.
FOREVER = 1 << 32  # seconds

# The kernel locks an inode during a write. So each open for writing of a file whose writes can take long gets an inode
# of its own, and no writer waits for another one. The numbers of these have the file's number in these bits.
FILE_NUMBER = (1 << 32) - 1

KEPT_SIZE = 2  # a page whose first byte is not stored stays invalid, so a sendfile asks for it
BEYOND = 1 << 40  # beyond any size: a store here changes no size

SETTLE = 0.05  # seconds in which the kernel has handled an answer, even on a busy machine

# A store marks only the size and the times as invalid, since this version (Linux 5.16, commit fa5eee57e33e).
MARKS_SIZE = (7, 35)

_KEPT, _EXPIRED = ATTR_OUT.pack(FOREVER, 0, 0), ATTR_OUT.pack(0, 0, 0)

_pack_attributes = ATTR.pack


class Inodes:
    """The inodes that the kernel knows, by number."""

    def __init__(
        self,
        getattr: Callable[[str], Node],
        notify: Callable[[int, bytes], None],
    ) -> None:
        self._getattr = getattr
        self._notify = notify
        self._slow: set[int] = set()  # files whose writes can take long
        self._writers: Counter[int] = Counter()  # open handles that can write to them
        self._sent_back: set[int] = set()  # threads whose open is to look the name up again
        self._further = 0  # inodes beyond the first one of a file
        self._paths = {ROOT_ID: "/"}
        self._readers: defaultdict[int, int] = defaultdict(int)  # open handles that can read
        self._cached: set[int] = set()  # files whose last answer does not expire
        self._raised: set[int] = set()  # files whose size in the kernel's inode is certainly not 0
        # Handles whose truncation may not have reached the inode yet, each with its inode, its thread, and until when.
        self._unsettled: dict[int, tuple[int, int, float]] = {}
        self._waited: defaultdict[int, float] = defaultdict(float)  # until when readers wait for such a handle
        self._store_marks_size = True

    def negotiate(self, version: tuple[int, int]) -> None:
        """Note the kernel's version of FUSE."""
        self._store_marks_size = version >= MARKS_SIZE

    def path(self, ino: int) -> str:
        """Return the path of an inode."""
        return self._paths[ino & FILE_NUMBER]

    def below(self, parent: int, name: bytes) -> str:
        """Return the path of a name in a directory."""
        return f"{self._paths[parent].rstrip('/')}/{name.decode(ENCODING)}"

    def lookup(self, parent: int, name: bytes, lifetime: int = FOREVER) -> bytes:
        """Return the answer to LOOKUP. The kernel keeps the name for `lifetime` seconds."""
        path = self.below(parent, name)
        node = self._getattr(path)
        ino = node.ino
        self._paths[ino] = path
        if node.waits:
            lifetime = 0
            self._slow.add(ino)
            if any(one & FILE_NUMBER == ino for one in self._writers):
                self._further += 1
                further = self._further << 32 | ino
                return ENTRY_OUT.pack(further, 0, lifetime, 0, 0, 0) + _attributes(node, node.size)
        if ino in self._raised:
            self._outdate(ino)  # unless the kernel has forgotten the inode
        if self._readers[ino]:
            return ENTRY_OUT.pack(ino, 0, lifetime, 0, 0, 0) + _attributes(node, KEPT_SIZE)
        self._raised.discard(ino)
        self._cached.add(ino)
        return ENTRY_OUT.pack(ino, 0, lifetime, FOREVER, 0, 0) + _attributes(node, node.size)

    def getattr(self, ino: int) -> bytes:
        """Return the answer to GETATTR, which shows the true size."""
        node = self._getattr(self.path(ino))
        if self._readers[ino] or (ino in self._raised and ino in self._cached):
            self._outdate(ino)
        else:
            self._raised.discard(ino)
            self._cached.add(ino)
        return _KEPT + _attributes(node, node.size)

    def changed(self, ino: int, node: Node) -> bytes:
        """Return the answer to SETATTR."""
        if not stat.S_ISREG(node.mode):
            return _KEPT + _attributes(node, node.size)
        self._cached.discard(ino)
        if not self._readers[ino]:
            self._raised.discard(ino)
        return _EXPIRED + _attributes(node, KEPT_SIZE)

    def truncated(self, ino: int, node: Node, handle: int, thread: int) -> bytes:
        """Return the answer to a SETATTR of a thread that has opened a file with O_TRUNC."""
        now = monotonic()
        if self._readers[ino] or now < self._waited[ino]:
            return self.changed(ino, node)
        self._raised.discard(ino)
        self._cached.add(ino)
        self._unsettled[handle] = ino, thread, now + SETTLE
        return _KEPT + _attributes(node, node.size)

    def settle(self, handle: int) -> None:
        """Note a request of a handle: the kernel has handled the answer to its truncation."""
        if self._unsettled:
            self._unsettled.pop(handle, None)

    def opening(self, ino: int, flags: int, thread: int) -> str:
        """Note that a thread opens a file, and return the path. The kernel has handled the answers to its truncations.

        An open for writing needs its own inode, if writes to the file can take long. OSError ESTALE if it has none,
        once for each open: the kernel then looks up the name again.
        """
        if self._unsettled:
            self._unsettled = {handle: entry for handle, entry in self._unsettled.items() if entry[1] != thread}
        file = ino & FILE_NUMBER
        if file in self._slow and flags & os.O_ACCMODE != os.O_RDONLY:
            if self._writers[ino] and thread not in self._sent_back:
                self._sent_back.add(thread)
                raise OSError(errno.ESTALE, "another writer has this inode")
            self._sent_back.discard(thread)
        return self._paths[file]

    def opened(self, ino: int, flags: int) -> bool:
        """Note an open. The first one for reading raises the size in the kernel's inode.

        Return False if a reader has to wait and try again. Later truncations do not hold it up.
        """
        mode = flags & os.O_ACCMODE
        if mode != os.O_WRONLY:
            if self._unsettled and not self._settled(ino):
                return False
            self._readers[ino] += 1
            if ino not in self._raised:
                self._raised.add(ino)
                self._outdate(ino)  # an answer on its way may have the size 0
                self._notify(NOTIFY_STORE, STORE_OUT.pack(ino, KEPT_SIZE - 1, 1, 0) + b"\0")
        if mode != os.O_RDONLY and ino & FILE_NUMBER in self._slow:
            self._writers[ino] += 1
        return True

    def _settled(self, ino: int) -> bool:
        """Return whether the kernel has handled the answers to truncations of an inode."""
        now = monotonic()
        if all(ino != truncated or end < now for truncated, _, end in self._unsettled.values()):
            return True
        self._waited[ino] = now + SETTLE
        return False

    def released(self, ino: int, flags: int, handle: int) -> None:
        """Note the last close of a handle that was opened with these flags."""
        self.settle(handle)
        mode = flags & os.O_ACCMODE
        if mode != os.O_WRONLY:
            self._readers[ino] -= 1
        if mode != os.O_RDONLY and ino in self._writers:
            self._writers[ino] -= 1
            if not self._writers[ino]:
                del self._writers[ino]

    def _outdate(self, ino: int) -> None:
        """Make each answer with attributes that the kernel has not handled yet too old for the inode."""
        if self._store_marks_size:
            self._notify(NOTIFY_STORE, STORE_OUT.pack(ino, BEYOND, 0, 0))
        else:
            self._notify(NOTIFY_INVAL_INODE, INVAL_INODE_OUT.pack(ino, -1, 0))


def _attributes(node: Node, size: int) -> bytes:
    """Return a `struct fuse_attr`."""
    atime, atime_ns = node.atime
    mtime, mtime_ns = node.mtime
    ctime, ctime_ns = node.ctime
    return _pack_attributes(
        node.ino, size, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, node.mode, node.nlink, node.uid, node.gid
    )
