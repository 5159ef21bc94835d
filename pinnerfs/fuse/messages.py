"""The messages of FUSE: their numbers and structures, as in <linux/fuse.h>, with the names that they have there."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

__all__ = [
    "ATTR",
    "ATTR_OUT",
    "BATCH_FORGET_IN",
    "BODY",
    "CREATE_IN",
    "DATA",
    "ENTRY_OUT",
    "FATTR_ATIME",
    "FATTR_GID",
    "FATTR_LOCKOWNER",
    "FATTR_MODE",
    "FATTR_MTIME",
    "FATTR_SIZE",
    "FATTR_UID",
    "FOPEN_DIRECT_IO",
    "FOPEN_NONSEEKABLE",
    "FOPEN_STREAM",
    "FORGET_ONE",
    "FUSE_ASYNC_READ",
    "FUSE_BIG_WRITES",
    "FUSE_READ_LOCKOWNER",
    "INIT_IN",
    "INIT_OUT",
    "INTERRUPT_IN",
    "INVAL_ENTRY_OUT",
    "INVAL_INODE_OUT",
    "IN_HEADER",
    "IOCTL_IN",
    "KSTATFS",
    "LINK_IN",
    "MKDIR_IN",
    "MKNOD_IN",
    "NOTIFY_INVAL_ENTRY",
    "NOTIFY_INVAL_INODE",
    "NOTIFY_STORE",
    "OPENER",
    "OPEN_IN",
    "OPEN_OUT",
    "OUT_HEADER",
    "READ_IN",
    "RELEASE_IN",
    "RENAME_IN",
    "REQUEST",
    "ROOT_ID",
    "SETATTR_IN",
    "STORE_OUT",
    "TRUNCATION",
    "VERSION",
    "WRITE_IN",
    "WRITE_OUT",
    "XATTR_SIZE",
    "Opcode",
    "dirent",
]

VERSION = (7, 31)  # the newest of the structures and flags below: Linux 5.4
ROOT_ID = 1  # the inode number of the root


class Opcode(IntEnum):
    """The requests that have a handler, and those that are logged as unsupported."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    LISTXATTR = 23
    REMOVEXATTR = 24
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43


NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_STORE = 4

FUSE_ASYNC_READ = 1 << 0
FUSE_BIG_WRITES = 1 << 5

FOPEN_DIRECT_IO = 1 << 0
FOPEN_NONSEEKABLE = 1 << 2
FOPEN_STREAM = 1 << 4

FUSE_READ_LOCKOWNER = 1 << 1

FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE, FATTR_ATIME, FATTR_MTIME = (1 << bit for bit in range(6))
FATTR_LOCKOWNER = 1 << 9

# Requests. A header of BODY bytes comes first, and the data of a write begin after DATA bytes.
IN_HEADER = Struct("=IIQQIIIHH")  # length, opcode, unique, inode, uid, gid, thread
BODY = IN_HEADER.size
REQUEST = Struct("=4xIQQ")  # of the header only opcode, unique, inode
INIT_IN = Struct("=IIII")  # version, max_readahead, flags
INTERRUPT_IN = Struct("=Q")  # unique
BATCH_FORGET_IN = Struct("=I4x")  # how many of the next follow
FORGET_ONE = Struct("=Q8x")  # inode
SETATTR_IN = Struct("=IIQQQqqqIIIIIII")
TRUNCATION = Struct("=32xI4xI12xQ")  # of the header and the structure of a SETATTR: thread, valid, size
OPEN_IN = Struct("=II")  # flags
OPENER = Struct("=32xI4xI")  # of the header and the structure of an OPEN: thread, flags
READ_IN = Struct("=QQII")  # handle, offset, size, flags; also of READDIR
WRITE_IN = Struct("=QQI12xI4x")  # handle, offset, size, flags
DATA = BODY + WRITE_IN.size
RELEASE_IN = Struct("=QI")  # handle, flags; also of FSYNC and FSYNCDIR
MKNOD_IN = Struct("=IIII")  # mode, device
MKDIR_IN = Struct("=II")  # mode
CREATE_IN = Struct("=IIII")  # flags, mode
RENAME_IN = Struct("=Q")  # new directory
LINK_IN = Struct("=Q")  # inode
IOCTL_IN = Struct("=QIIQII")  # handle, flags, command
XATTR_SIZE = Struct("=II")  # size: both the request and the answer of LISTXATTR

# Answers.
OUT_HEADER = Struct("=IiQ")  # length, negative errno or number of a notification, unique
INIT_OUT = Struct("=IIIIHHII32x")  # version, max_readahead, flags, max_background, congestion, max_write, granularity
ENTRY_OUT = Struct("=QQQQII")  # inode, generation, lifetimes of the name and of the attributes; attributes follow
ATTR_OUT = Struct("=QII")  # lifetime; attributes follow
ATTR = Struct("=QQ8xqqqIIIIIII12x")  # inode, size, times in s, in ns, mode, links, owner, group
OPEN_OUT = Struct("=QI4x")  # handle, flags
WRITE_OUT = Struct("=I4x")  # size
KSTATFS = Struct("=QQQQQIIII24x")
INVAL_INODE_OUT = Struct("=Qqq")  # inode, offset, length
INVAL_ENTRY_OUT = Struct("=QII")  # directory, length of the name
STORE_OUT = Struct("=QQII")  # inode, offset, size

_DIRENT = Struct("=QQII")


def dirent(ino: int, next_offset: int, mode: int, name: bytes) -> bytes:
    """Return a directory entry of an answer to READDIR."""
    entry = _DIRENT.pack(ino, next_offset, len(name), (mode >> 12) & 0o17) + name
    return entry + b"\0" * (-len(entry) % 8)
