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
from collections import Counter
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

__all__ = ["ENCODING", "Inode", "Inodes"]

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


class Inode:
    """An inode that the kernel knows, with the number that it has there.

    slow: whether writes can take long.
    readers: the open handles that can read.
    cached: whether the last answer with attributes does not expire.
    raised: whether the size in the kernel's inode is certainly not 0.
    waited: until when readers wait for the kernel to handle the answer to a truncation.
    writer, write_end, write_length: of the last WRITE, the handle, the offset of its end, and its length.
    """

    __slots__ = (
        "cached",
        "number",
        "path",
        "raised",
        "readers",
        "slow",
        "waited",
        "write_end",
        "write_length",
        "writer",
    )

    def __init__(self, number: int, path: str, slow: bool) -> None:
        self.number = number
        self.path = path
        self.slow = slow
        self.readers = 0
        self.cached = False
        self.raised = False
        self.waited = 0.0
        self.writer = self.write_end = self.write_length = 0


class Inodes:
    """The inodes that the kernel knows, by number."""

    def __init__(
        self,
        getattr: Callable[[str], Node],
        notify: Callable[[int, bytes], None],
    ) -> None:
        self._getattr = getattr
        self._notify = notify
        self._writers: Counter[int] = Counter()  # open handles that can write to slow files
        self._sent_back: set[int] = set()  # threads whose open is to look the name up again
        self._further = 0  # inodes beyond the first one of a file
        self.known = {ROOT_ID: Inode(ROOT_ID, "/", slow=False)}
        # Handles whose truncation may not have reached the inode yet, each with its inode, its thread, and until when.
        self._unsettled: dict[int, tuple[Inode, int, float]] = {}
        self._store_marks_size = True

    def negotiate(self, version: tuple[int, int]) -> None:
        """Note the kernel's version of FUSE."""
        self._store_marks_size = version >= MARKS_SIZE

    def path(self, ino: int) -> str:
        """Return the path of an inode."""
        return self.known[ino].path

    def below(self, parent: int, name: bytes) -> str:
        """Return the path of a name in a directory."""
        return f"{self.known[parent].path.rstrip('/')}/{name.decode(ENCODING)}"

    def lookup(self, parent: int, name: bytes, lifetime: int = FOREVER) -> bytes:
        """Return the answer to LOOKUP. The kernel keeps the name for `lifetime` seconds."""
        path = self.below(parent, name)
        node = self._getattr(path)
        ino = node.ino
        if node.waits:
            lifetime = 0
            if any(one & FILE_NUMBER == ino for one in self._writers):
                self._further += 1
                further = self._further << 32 | ino
                self.known[further] = Inode(further, path, slow=True)
                return ENTRY_OUT.pack(further, 0, lifetime, 0, 0, 0) + _attributes(node, node.size)
        inode = self.known.get(ino)
        if inode is None:
            inode = self.known[ino] = Inode(ino, path, node.waits)
        if inode.raised:
            self._outdate(ino)  # unless the kernel has forgotten the inode
        if inode.readers:
            return ENTRY_OUT.pack(ino, 0, lifetime, 0, 0, 0) + _attributes(node, KEPT_SIZE)
        inode.raised = False
        inode.cached = True
        return ENTRY_OUT.pack(ino, 0, lifetime, FOREVER, 0, 0) + _attributes(node, node.size)

    def forget(self, ino: int) -> None:
        """Note that the kernel does not know an inode any more."""
        # The first inode of a file stays: a later lookup may have returned its number already.
        if ino > FILE_NUMBER:
            self.known.pop(ino, None)

    def getattr(self, ino: int) -> bytes:
        """Return the answer to GETATTR, which shows the true size."""
        inode = self.known[ino]
        node = self._getattr(inode.path)
        if inode.readers or (inode.raised and inode.cached):
            self._outdate(ino)
        else:
            inode.raised = False
            inode.cached = True
        return _KEPT + _attributes(node, node.size)

    def changed(self, inode: Inode, node: Node) -> bytes:
        """Return the answer to SETATTR."""
        if not stat.S_ISREG(node.mode):
            return _KEPT + _attributes(node, node.size)
        inode.cached = False
        if not inode.readers:
            inode.raised = False
        return _EXPIRED + _attributes(node, KEPT_SIZE)

    def truncated(self, inode: Inode, node: Node, handle: int, thread: int) -> bytes:
        """Return the answer to a SETATTR of a thread that has opened a file with O_TRUNC."""
        now = monotonic()
        if inode.readers or now < inode.waited:
            return self.changed(inode, node)
        inode.raised = False
        inode.cached = True
        self._unsettled[handle] = inode, thread, now + SETTLE
        return _KEPT + _attributes(node, node.size)

    def settle(self, handle: int) -> None:
        """Note a request of a handle: the kernel has handled the answer to its truncation."""
        if self._unsettled:
            self._unsettled.pop(handle, None)

    def opening(self, ino: int, flags: int, thread: int) -> Inode:
        """Note that a thread opens a file, and return the inode.

        The kernel has handled the answers to the thread's truncations. An open for writing needs its own inode, if
        writes to the file can take long. OSError ESTALE if it has none, once for each open: the kernel then looks up
        the name again.
        """
        if self._unsettled:
            self._unsettled = {handle: entry for handle, entry in self._unsettled.items() if entry[1] != thread}
        inode = self.known[ino]
        if inode.slow and flags & os.O_ACCMODE != os.O_RDONLY:
            if self._writers[ino] and thread not in self._sent_back:
                self._sent_back.add(thread)
                raise OSError(errno.ESTALE, "another writer has this inode")
            self._sent_back.discard(thread)
        return inode

    def opened(self, inode: Inode, flags: int) -> bool:
        """Note an open. The first one for reading raises the size in the kernel's inode.

        Return False if a reader has to wait and try again. Later truncations do not hold it up.
        """
        mode = flags & os.O_ACCMODE
        if mode != os.O_WRONLY:
            if self._unsettled and not self._settled(inode):
                return False
            inode.readers += 1
            if not inode.raised:
                inode.raised = True
                self._outdate(inode.number)  # an answer on its way may have the size 0
                self._notify(NOTIFY_STORE, STORE_OUT.pack(inode.number, KEPT_SIZE - 1, 1, 0) + b"\0")
        if inode.slow and mode != os.O_RDONLY:
            self._writers[inode.number] += 1
        return True

    def _settled(self, inode: Inode) -> bool:
        """Return whether the kernel has handled the answers to truncations of an inode."""
        now = monotonic()
        if all(inode is not truncated or end < now for truncated, _, end in self._unsettled.values()):
            return True
        inode.waited = now + SETTLE
        return False

    def released(self, inode: Inode, flags: int, handle: int) -> None:
        """Note the last close of a handle that was opened with these flags."""
        self.settle(handle)
        mode = flags & os.O_ACCMODE
        if mode != os.O_WRONLY:
            inode.readers -= 1
        if inode.slow and mode != os.O_RDONLY:
            self._writers[inode.number] -= 1
            if not self._writers[inode.number]:
                del self._writers[inode.number]

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
