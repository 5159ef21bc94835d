"""The handlers of requests on directories and on the whole file system."""

from __future__ import annotations

from stat import S_IFDIR
from typing import Any

from pinnerfs.fuse.connection import Connection
from pinnerfs.fuse.inodes import ENCODING, Inodes
from pinnerfs.fuse.messages import BODY, KSTATFS, OPEN_OUT, READ_IN, RELEASE_IN, XATTR_SIZE, dirent
from pinnerfs.fuse.protocols import Operations

__all__ = ["DirectoryHandlers"]


class DirectoryHandlers:
    """The handlers of one mount. Each gets the number of an inode, and reads the rest from the connection's buffer."""

    def __init__(self, connection: Connection, operations: Operations, inodes: Inodes) -> None:
        self._buffer = connection.buffer
        self._operations = operations
        self._path = inodes.path

    def opendir(self, ino: int) -> bytes:
        number: Any = self._operations("opendir", self._path(ino))
        return OPEN_OUT.pack(number, 0)

    def readdir(self, ino: int) -> bytes:
        number, offset, size, _ = READ_IN.unpack_from(self._buffer, BODY)
        entries: Any = self._operations("readdir", None, number)
        answer = b""
        for position, entry in enumerate(entries[offset:], offset + 1):
            name, known = (entry, {"st_ino": ino, "st_mode": S_IFDIR}) if isinstance(entry, str) else entry[:2]
            packed = dirent(known["st_ino"], position, known["st_mode"], name.encode(ENCODING))
            if len(answer) + len(packed) > size:
                break
            answer += packed
        return answer

    def releasedir(self, ino: int) -> bytes:
        return b""

    def fsyncdir(self, ino: int) -> bytes:
        self._operations("fsyncdir", None, 0, RELEASE_IN.unpack_from(self._buffer, BODY)[0])
        return b""

    def statfs(self, ino: int) -> bytes:
        shown: Any = self._operations("statfs", self._path(ino))
        return KSTATFS.pack(0, 0, 0, 0, 0, shown["f_bsize"], shown["f_namemax"], shown["f_frsize"], 0)

    def listxattr(self, ino: int) -> bytes:
        assert not self._operations("listxattr", self._path(ino))
        size, _ = XATTR_SIZE.unpack_from(self._buffer, BODY)
        return b"" if size else XATTR_SIZE.pack(0, 0)
