"""fusepy, as pinnerfs uses it: the one module that imports `fuse`.

A record read costs a C program some 10 µs, of which most is the kernel's way there and back: what happens often goes
from libfuse to the open file without a detour. Importing this module loads libfuse.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import fuse

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["Binding", "check_version"]

# How names become strings, and back: bytes as characters, one for one, as they need not be UTF-8.
ENCODING = "latin-1"

# fusepy's prototypes make an object of each pointer; here they are numbers, and what lies there has been seen before:
# one loop finds its requests in the same places of its stack and heap, over and over.
_address, _size, _offset = ctypes.c_void_p, ctypes.c_size_t, fuse.c_off_t
_PROTOTYPES = {
    "open": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, _address),
    "read": ctypes.CFUNCTYPE(ctypes.c_int, _address, _address, _size, _offset, _address),
    "write": ctypes.CFUNCTYPE(ctypes.c_int, _address, _address, _size, _offset, _address),
    "release": ctypes.CFUNCTYPE(ctypes.c_int, _address, _address),
    "ftruncate": ctypes.CFUNCTYPE(ctypes.c_int, _address, _offset, _address),
    "fgetattr": ctypes.CFUNCTYPE(ctypes.c_int, _address, _address, _address),
}


class _Table(fuse.fuse_operations):  # type: ignore[misc]
    """libfuse's `struct fuse_operations`, with what fusepy's ends before."""

    _fields_ = [  # noqa: RUF012
        ("poll", _address),
        ("write_buf", _address),
        ("read_buf", _address),
        ("flock", _address),
        ("fallocate", ctypes.CFUNCTYPE(ctypes.c_int, _address, ctypes.c_int, _offset, _offset, _address)),
    ]


# What a debugfs has not, either: the kernel turns ENOSYS into the answer of a file system without it, and remembers.
# Not what it asks for by itself (flush, access, getxattr), or answers by itself from then on: poll, and locks.
UNMODELLED = ("setxattr", "removexattr", "ioctl", "fallocate")
TCGETS = 0x5401  # the ioctl by which isatty asks

KEPT = 32  # places remembered, of each kind; there are hardly more
# As a buffer is remembered by its place alone, its size must be: no request has more than 128 KiB and a bit.
BUFFER = 1 << 20

SECOND = 10**9  # ns

log = logging.getLogger(__name__)


def check_version() -> None:
    """See to it that libfuse 2 is what has been loaded. PinnerfsError says what to install."""
    version = fuse._libfuse.fuse_version()
    # 29 is 2.9, and from 3.10 on 310 is 3.10.
    major, minor = divmod(version, 10 if version < 100 else 100)
    if major != 2:
        raise PinnerfsError(
            f"the libfuse that was found has version {major}.{minor}: wanted 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones)",
            NO_FUSE,
        )


class _Places(dict[int, Any]):
    """What lies at an address, as `look` sees it, remembered."""

    def __init__(self, look: Callable[[int], Any]) -> None:
        self._look = look

    def __missing__(self, address: int) -> Any:
        if len(self) >= KEPT:
            self.clear()
        found = self[address] = self._look(address)
        return found


def _bytes_at(address: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * BUFFER).from_address(address)).cast("B")


def _status_at(address: int) -> tuple[Any, Any, Any, Any]:
    """A `struct stat`, and its times."""
    status = fuse.c_stat.from_address(address)
    return status, status.st_atimespec, status.st_mtimespec, status.st_ctimespec


class Binding(fuse.FUSE):  # type: ignore[misc]
    """Mounts `operations` and answers until the unmount. RuntimeError where libfuse cannot mount.

    An operation that they lack answers ENOSYS, which the kernel remembers. Most are called as fusepy calls them; what
    comes often has a shorter way. `open(path, flags)` returns an object, which has

    read(size, owner) -> bytes; write(data, offset); truncate(size); fsync(); release(); node, as `getattr` returns it.
    """

    use_ns = True
    raw_fi = False
    encoding = ENCODING

    def __init__(self, operations: Any, mountpoint: str, **options: Any) -> None:
        # Not fusepy's own: that one has its prototypes in a table that cannot be changed.
        self.operations = operations
        self._files: dict[int, Any] = {}
        self._last_file = 0
        self._told: set[str] = set()
        self._informations = _Places(fuse.fuse_file_info.from_address)
        self._buffers = _Places(_bytes_at)
        self._statuses = _Places(_status_at)
        words = [b"pinnerfs", b"-f", b"-s", b"-o", ",".join(self._normalize_fuse_options(**options)).encode(ENCODING)]
        words.append(os.fsencode(mountpoint))
        table = self._table()
        status = fuse._libfuse.fuse_main_real(
            len(words), (ctypes.c_char_p * len(words))(*words), ctypes.byref(table), ctypes.sizeof(table), None
        )
        if status:
            raise RuntimeError(status)

    def _table(self) -> _Table:
        table = _Table()
        # An open file is known by its number, and its path need not be found out.
        table.flag_nullpath_ok = table.flag_nopath = 1
        # What the table points to shall live: one that is derived does not see to it by itself.
        self._callbacks = []
        for name, prototype, *_ in (*fuse.fuse_operations._fields_, *_Table._fields_):
            if name in _PROTOTYPES:
                callback = _PROTOTYPES[name](getattr(self, name))
            elif name == "fsync" or (hasattr(prototype, "argtypes") and hasattr(self.operations, name)):
                callback = prototype(partial(self._run, getattr(self, name)))
            elif name in UNMODELLED:
                callback = prototype(partial(self._unmodelled, name))
            else:
                continue
            self._callbacks.append(callback)
            setattr(table, name, ctypes.cast(callback, prototype))
        return table

    def _unmodelled(self, name: str, *arguments: Any) -> int:
        """Answer as libfuse does where there is no such operation; but say so once."""
        asked = name
        if name == "ioctl":
            asked = f"ioctl {arguments[1]:#x}"
            if arguments[1] == TCGETS:
                return -errno.ENOSYS
        if name not in self._told:
            self._told.add(name)
            log.warning(
                "somebody asks for %s, which is not modelled: the answer is that of a file system without", asked
            )
        return -errno.ENOSYS

    @classmethod
    def _run(cls, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Run one of fusepy's operations."""
        try:
            return operation(*arguments) or 0
        except BaseException as error:
            return cls._failed(operation.__name__, error)

    @staticmethod
    def _failed(operation: str, error: BaseException) -> int:
        """What libfuse is told. Anything but an errno is a bug of ours: the log tells it, the caller gets EIO."""
        if isinstance(error, OSError) and error.errno:
            return -error.errno
        with suppress(MemoryError):
            log.error("%s failed", operation, exc_info=error)
        return -errno.EIO

    def open(self, path: bytes, information: int) -> int:
        try:
            file = self._informations[information]
            opened = self.operations.open(path.decode(ENCODING), file.flags)
            self._last_file = file.fh = self._last_file + 1
            self._files[self._last_file] = opened
            # Without direct_io a file of size 0 would never be asked; with nonseekable lseek is ESPIPE.
            file.direct_io = 1
            file.nonseekable = 1
            return 0
        except BaseException as error:
            return self._failed("open", error)

    def read(self, path: None, buffer: int, size: int, offset: int, information: int) -> int:
        try:
            file = self._informations[information]
            data = self._files[file.fh].read(size, file.lock_owner)
            length = len(data)
            assert length <= size
            self._buffers[buffer][:length] = data
            return length
        except BaseException as error:
            return self._failed("read", error)

    def write(self, path: None, buffer: int, size: int, offset: int, information: int) -> int:
        try:
            self._files[self._informations[information].fh].write(bytes(self._buffers[buffer][:size]), offset)
            return size
        except BaseException as error:
            return self._failed("write", error)

    def release(self, path: None, information: int) -> int:
        try:
            self._files.pop(self._informations[information].fh).release()
            return 0
        except BaseException as error:
            return self._failed("release", error)

    def ftruncate(self, path: None, size: int, information: int) -> int:
        try:
            self._files[self._informations[information].fh].truncate(size)
            return 0
        except BaseException as error:
            return self._failed("ftruncate", error)

    def fgetattr(self, path: None, status: int, information: int) -> int:
        try:
            self._fill(status, self._files[self._informations[information].fh].node)
            return 0
        except BaseException as error:
            return self._failed("fgetattr", error)

    def getattr(self, path: bytes, status: Any) -> None:
        self._fill(ctypes.addressof(status.contents), self.operations.getattr(path.decode(ENCODING)))

    def fsync(self, path: None, datasync: int, information: Any) -> None:
        self._files[information.contents.fh].fsync()

    def _fill(self, address: int, node: Any) -> None:
        """Fill in the `struct stat`, which libfuse has zeroed."""
        status, atime, mtime, ctime = self._statuses[address]
        status.st_ino = node.ino
        status.st_mode = node.mode
        status.st_nlink = node.nlink
        status.st_uid = node.uid
        status.st_gid = node.gid
        status.st_size = self.operations.size(node)
        atime.tv_sec, atime.tv_nsec = divmod(node.atime, SECOND)
        mtime.tv_sec, mtime.tv_nsec = divmod(node.mtime, SECOND)
        ctime.tv_sec, ctime.tv_nsec = divmod(node.ctime, SECOND)
