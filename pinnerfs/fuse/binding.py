"""The binding to libfuse 2 through fusepy. No other module imports `fuse`, and importing this one loads libfuse.

A C program serves a record read in about 10 µs, most of it spent in the kernel. So frequent requests skip fusepy and
go from libfuse straight to the open file.
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import fuse

from pinnerfs.debugfs.tree import Node
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.fuse.protocols import OpenHandle, Operations

__all__ = ["Binding", "check_version"]

# Names need not be UTF-8: this encoding maps each byte to one character and back.
ENCODING = "latin-1"

# fusepy's prototypes create an object for each pointer. Here a pointer is a number, and `_AtAddress` keeps the objects:
# a single-threaded loop reuses the same few addresses of its stack and heap.
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
    """libfuse's `struct fuse_operations`, with the members after those that fusepy declares."""

    _fields_ = [  # noqa: RUF012
        ("poll", _address),
        ("write_buf", _address),
        ("read_buf", _address),
        ("flock", _address),
        ("fallocate", ctypes.CFUNCTYPE(ctypes.c_int, _address, ctypes.c_int, _offset, _offset, _address)),
    ]


class _Arguments(ctypes.Structure):
    """libfuse's `struct fuse_args`."""

    _fields_ = [("argc", ctypes.c_int), ("argv", ctypes.c_void_p), ("allocated", ctypes.c_int)]


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(fuse._libfuse, name)
    function.restype, function.argtypes = result, arguments
    return function


def _versioned(name: str, version: str, result: Any, *arguments: Any) -> Any:
    """Return a function of which the library has several versions; by the name alone ctypes finds the oldest."""
    find = ctypes.CDLL(None).dlvsym
    find.restype, find.argtypes = _address, [_address, ctypes.c_char_p, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(result, *arguments)(find(fuse._libfuse._handle, name.encode(), version.encode()))


# Operations that debugfs lacks as well, and that are logged: the kernel translates ENOSYS into the answer of a file
# system without them. Not logged: those that the kernel sends unasked (flush, access, getxattr), poll, and locks.
UNSUPPORTED = ("setxattr", "removexattr", "ioctl", "fallocate")
TCGETS = 0x5401  # the ioctl of isatty()

CACHED_ADDRESSES = 32  # of each kind; a loop hardly uses more
# A buffer is cached by its address alone, so all have one size; a request has little more than 128 KiB.
BUFFER = 1 << 20

SECOND = 10**9  # ns

log = logging.getLogger(__name__)


def check_version() -> None:
    """Check that the library that fusepy loaded is libfuse 2. PinnerfsError names the package to install."""
    version = fuse._libfuse.fuse_version()
    # 29 is 2.9, and 310 is 3.10.
    major, minor = divmod(version, 10 if version < 100 else 100)
    if major != 2:
        raise PinnerfsError(
            f"found libfuse {major}.{minor}, wanted version 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases)",
            NO_FUSE,
        )


_Found = TypeVar("_Found")


class _AtAddress(dict[int, _Found]):
    """A cache of the objects that `create` makes of the memory at an address."""

    def __init__(self, create: Callable[[int], _Found]) -> None:
        self._create = create

    def __missing__(self, address: int) -> _Found:
        if len(self) >= CACHED_ADDRESSES:
            self.clear()
        found = self[address] = self._create(address)
        return found


def _bytes_at(address: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * BUFFER).from_address(address)).cast("B")


def _status_at(address: int) -> tuple[Any, Any, Any, Any]:
    """Return a `struct stat` and its three times."""
    status = fuse.c_stat.from_address(address)
    return status, status.st_atimespec, status.st_mtimespec, status.st_ctimespec


class Binding(fuse.FUSE):  # type: ignore[misc]
    """A mount that answers with `operations`: creating it returns after the unmount.

    `connection` is the mount's descriptor of /dev/fuse. RuntimeError if libfuse fails.
    """

    use_ns = True
    raw_fi = False
    encoding = ENCODING

    def __init__(self, operations: Operations, connection: int, **options: bool | int | str) -> None:
        # Does not call fusepy's __init__, whose table of prototypes cannot be changed.
        self.operations = operations
        self._handles: dict[int, OpenHandle] = {}
        self._last_number = 0
        self._warned: set[str] = set()
        self._informations: _AtAddress[Any] = _AtAddress(fuse.fuse_file_info.from_address)
        self._buffers = _AtAddress(_bytes_at)
        self._statuses = _AtAddress(_status_at)
        given = ",".join(self._normalize_fuse_options(**options)).encode(ENCODING)
        words = (ctypes.c_char_p * 4)(b"pinnerfs", b"-o", given)
        arguments = _Arguments(3, ctypes.addressof(words), 0)
        table = self._table()
        new_channel = _function("fuse_kern_chan_new", _address, ctypes.c_int)
        new = _versioned("fuse_new", "FUSE_2.6", _address, _address, _address, _address, _size, _address)
        session_of = _function("fuse_get_session", _address, _address)
        # Not fuse_main(), which mounts by itself, on a path.
        running = new(
            new_channel(connection), ctypes.addressof(arguments), ctypes.addressof(table), ctypes.sizeof(table), None
        )
        if not running:
            raise RuntimeError("fuse_new() failed")
        _function("fuse_set_signal_handlers", ctypes.c_int, _address)(session_of(running))
        status = _function("fuse_loop", ctypes.c_int, _address)(running)
        _function("fuse_remove_signal_handlers", None, _address)(session_of(running))
        _function("fuse_destroy", None, _address)(running)
        if status:
            raise RuntimeError(f"fuse_loop() returned {status}")

    def _table(self) -> _Table:
        table = _Table()
        # Handles are found by number: libfuse need not compute the path for requests on an open file.
        table.flag_nullpath_ok = table.flag_nopath = 1
        # Keep references to the callbacks: a Structure subclass does not.
        self._callbacks = []
        for name, prototype, *_ in (*fuse.fuse_operations._fields_, *_Table._fields_):
            if name in _PROTOTYPES:
                callback = _PROTOTYPES[name](getattr(self, name))
            elif name == "fsync" or (hasattr(prototype, "argtypes") and hasattr(self.operations, name)):
                callback = prototype(partial(self._run, getattr(self, name)))
            elif name in UNSUPPORTED:
                callback = prototype(partial(self._unsupported, name))
            else:
                continue
            self._callbacks.append(callback)
            setattr(table, name, ctypes.cast(callback, prototype))
        return table

    def _unsupported(self, name: str, *arguments: Any) -> int:
        """Answer ENOSYS, as libfuse does for a missing operation, and log that once."""
        shown = name
        if name == "ioctl":
            shown = f"ioctl {arguments[1]:#x}"
            if arguments[1] == TCGETS:
                return -errno.ENOSYS
        if name not in self._warned:
            self._warned.add(name)
            log.warning("unsupported operation %s: returning ENOSYS", shown)
        return -errno.ENOSYS

    @classmethod
    def _run(cls, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Run a method of fusepy, and return 0 or a negative errno."""
        try:
            return operation(*arguments) or 0
        except BaseException as error:
            return cls._failed(operation.__name__, error)

    @staticmethod
    def _failed(operation: str, error: BaseException) -> int:
        """Return the answer to libfuse: the negative errno, or -EIO for any other exception, which is a bug to log."""
        if isinstance(error, OSError) and error.errno:
            return -error.errno
        with suppress(MemoryError):
            log.error("FUSE operation %s failed: returning EIO", operation, exc_info=error)
        return -errno.EIO

    def open(self, path: bytes, information: int) -> int:
        try:
            opened = self._informations[information]
            handle = self.operations.open(path.decode(ENCODING), opened.flags)
            self._last_number = opened.fh = self._last_number + 1
            self._handles[self._last_number] = handle
            # Without direct_io the kernel sends no read for a file of size 0. With nonseekable lseek is ESPIPE.
            opened.direct_io = 1
            opened.nonseekable = 1
            return 0
        except BaseException as error:
            return self._failed("open", error)

    def read(self, path: None, buffer: int, size: int, offset: int, information: int) -> int:
        try:
            opened = self._informations[information]
            handle = self._handles[opened.fh]
            # A read for the page cache (sendfile, splice) has no lock owner.
            data = handle.read(size) if opened.lock_owner else handle.sendfile(size)
            length = len(data)
            assert length <= size
            self._buffers[buffer][:length] = data
            return length
        except BaseException as error:
            return self._failed("read", error)

    def write(self, path: None, buffer: int, size: int, offset: int, information: int) -> int:
        try:
            self._handles[self._informations[information].fh].write(bytes(self._buffers[buffer][:size]), offset)
            return size
        except BaseException as error:
            return self._failed("write", error)

    def release(self, path: None, information: int) -> int:
        try:
            self._handles.pop(self._informations[information].fh).release()
            return 0
        except BaseException as error:
            return self._failed("release", error)

    def ftruncate(self, path: None, size: int, information: int) -> int:
        try:
            self._handles[self._informations[information].fh].truncate(size)
            return 0
        except BaseException as error:
            return self._failed("ftruncate", error)

    def fgetattr(self, path: None, status: int, information: int) -> int:
        try:
            self._fill(status, self._handles[self._informations[information].fh].node)
            return 0
        except BaseException as error:
            return self._failed("fgetattr", error)

    def getattr(self, path: bytes, status: Any) -> None:
        self._fill(ctypes.addressof(status.contents), self.operations.getattr(path.decode(ENCODING)))

    def fsync(self, path: None, datasync: int, information: Any) -> None:
        self._handles[information.contents.fh].fsync()

    def _fill(self, address: int, node: Node) -> None:
        """Fill in a `struct stat`, which libfuse has zeroed."""
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
