"""The binding to libfuse 2, through its low-level interface.

The low-level interface is what makes sizes of 0 work. A debugfs shows them, and refuses sendfile with EINVAL, so that
the reader falls back to read. FUSE answers sendfile from the page cache up to its own size of the inode, and with 0
the reader sees an empty file. So the kernel learns a large size from each lookup, where no program sees it, and stat
gets the true size from an answer that the kernel must not keep: see `_getattr`.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import stat
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from pinnerfs.debugfs.page_pinner import PAGE_PINNER
from pinnerfs.debugfs.tree import Node
from pinnerfs.fuse import libfuse
from pinnerfs.fuse.faults import FaultInjection
from pinnerfs.fuse.protocols import OpenHandle, Operations

__all__ = ["Binding"]

# Names need not be UTF-8: this encoding maps each byte to one character and back.
ENCODING = "latin-1"

# `struct fuse_attr`, `struct fuse_attr_out` and `struct fuse_entry_out` of <linux/fuse.h>. libfuse would translate them
# from a `struct stat`, whose size depends on the machine: fusepy's lacks the end of it.
_ATTR = "QQQqqqIIIIIIIIII"
_pack_attr = struct.Struct("=QII" + _ATTR).pack
_pack_entry = struct.Struct("=QQQQII" + _ATTR).pack

ROOT = 1  # FUSE's number of the root inode

# The size of a file that the kernel keeps. A sendfile becomes a request if it starts below. It starts where the reads
# before it ended, and 4096 records have less than 16 MiB. FIONREAD shows this size, so it is not much larger.
KEPT_SIZE = 1 << 25

# What a setattr changes.
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = (1 << bit for bit in range(6))

# Every change of an attribute is a request to this process, so what the kernel has cached stays true.
CACHE_TIMEOUT = 3600  # seconds

# Operations that debugfs lacks as well, and that are logged: the kernel translates ENOSYS into the answer of a file
# system without them. Not logged: those that the kernel sends unasked (flush, access, getxattr), poll, and locks.
UNSUPPORTED = ("setxattr", "removexattr", "ioctl", "fallocate")
TCGETS = 0x5401  # the ioctl of isatty()

CACHED_ADDRESSES = 32  # of each kind; a loop hardly uses more
# A buffer is cached by its address alone, so all have one size; a request has little more than 128 KiB.
BUFFER = 1 << 20

SECOND = 10**9  # ns

log = logging.getLogger(__name__)

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


class Binding:
    """A mount that answers with `operations`: creating it returns after the unmount.

    RuntimeError if libfuse cannot mount.
    """

    def __init__(self, operations: Operations, mountpoint: str, **options: bool | int | str) -> None:
        self.operations = operations
        self._faults = operations.faults
        self._injection = FaultInjection(operations, self._failed)
        self._names_kept = False  # whether the kernel may find page_pinner without a lookup
        self._paths = {ROOT: "/"}  # by inode number, of those that the kernel has looked up
        self._handles: dict[int, OpenHandle] = {}
        self._last_number = 0
        self._warned: set[str] = set()
        self._informations: _AtAddress[Any] = _AtAddress(libfuse.FileInformation.from_address)
        self._buffers = _AtAddress(_bytes_at)
        given = ",".join(libfuse.options_text(**options)).encode(ENCODING)
        argv = (b"pinnerfs", b"-o", given)
        arguments = libfuse.Arguments(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv), 0)
        place = os.fsencode(os.path.realpath(mountpoint))
        self._channel = libfuse.mount(place, ctypes.byref(arguments))
        if not self._channel:
            raise RuntimeError("fuse_mount() failed")
        table = self._table()
        try:
            session = libfuse.new_session(ctypes.byref(arguments), ctypes.byref(table), ctypes.sizeof(table), None)
            if not session:
                raise RuntimeError("fuse_lowlevel_new() failed")
            if libfuse.set_signal_handlers(session):
                raise RuntimeError("fuse_set_signal_handlers() failed")
            libfuse.add_channel(session, self._channel)
            status = libfuse.serve_session(session)
            libfuse.remove_signal_handlers(session)
            libfuse.remove_channel(self._channel)
        finally:
            libfuse.unmount(place, self._channel)
            libfuse.free_arguments(ctypes.byref(arguments))
        libfuse.destroy_session(session)
        if status:
            raise RuntimeError(f"fuse_session_loop() returned {status}")

    def _table(self) -> libfuse.Table:
        callbacks: dict[str, Any] = {}
        for name, prototype in libfuse.PROTOTYPES.items():
            if name in ("open", "read", "write", "release"):
                callbacks[name] = prototype(getattr(self, f"_{name}"))
            elif name == "init":
                callbacks[name] = prototype(self._init)
            elif name in ("lookup", "setattr", "fsync") or hasattr(self.operations, name):
                callbacks[name] = prototype(partial(self._run, getattr(self, f"_{name}")))
            elif name in UNSUPPORTED:
                callbacks[name] = prototype(partial(self._unsupported, name))
        return libfuse.Table(**callbacks)

    def _unsupported(self, name: str, request: int, *arguments: Any) -> None:
        """Answer ENOSYS, as libfuse does for a missing operation, and log that once."""
        shown = f"ioctl {arguments[1]:#x}" if name == "ioctl" else name
        if name not in self._warned and not (name == "ioctl" and arguments[1] == TCGETS):
            self._warned.add(name)
            log.warning("unsupported operation %s: returning ENOSYS", shown)
        libfuse.reply_err(request, errno.ENOSYS)

    def _run(self, operation: Callable[..., None], request: int, *arguments: Any) -> None:
        """Run an operation that answers the request itself; answer for it if it raises."""
        try:
            operation(request, *arguments)
        except BaseException as error:
            self._failed(request, operation.__name__, error)

    @staticmethod
    def _failed(request: int, operation: str, error: BaseException) -> None:
        """Answer with the errno, or EIO for any other exception, which is a bug to log."""
        if isinstance(error, OSError) and error.errno:
            libfuse.reply_err(request, error.errno)
            return
        libfuse.reply_err(request, errno.EIO)
        with suppress(MemoryError):
            log.error("FUSE operation %s failed: returning EIO", operation.removeprefix("_"), exc_info=error)

    @staticmethod
    def _reply(request: int, data: bytes) -> None:
        libfuse.reply_buf(request, data, len(data))

    def _path(self, parent: int, name: bytes) -> str:
        return f"{self._paths[parent].rstrip('/')}/{name.decode(ENCODING)}"

    # Open files: the frequent requests.

    def _open(self, request: int, ino: int, information: int) -> None:
        try:
            if self._faults.active and (rule := self._injection.hits(request, "open", self._paths[ino])):
                # libfuse's memory is only valid during the callback.
                copy = libfuse.FileInformation.from_buffer_copy(self._informations[information])
                self._injection.answer(rule, request, "open", lambda cut: self._open_now(request, ino, copy))
            else:
                self._open_now(request, ino, self._informations[information])
        except BaseException as error:
            self._failed(request, "open", error)

    def _open_now(self, request: int, ino: int, opened: Any) -> None:
        try:
            handle = self.operations.open(self._paths[ino], opened.flags)
            number = self._last_number = opened.fh = self._last_number + 1
            self._handles[number] = handle
            # Without direct_io the kernel would cache what it reads. With nonseekable lseek is ESPIPE.
            opened.direct_io = 1
            opened.nonseekable = 1
            if libfuse.reply_open(request, ctypes.addressof(opened)):
                # The caller was interrupted, and no release will come.
                self._handles.pop(number).release()
        except BaseException as error:
            self._failed(request, "open", error)

    def _read(self, request: int, ino: int, size: int, offset: int, information: int) -> None:
        try:
            opened = self._informations[information]
            handle = self._handles[opened.fh]
            # A read for the page cache (sendfile, splice) has no lock owner.
            if not opened.lock_owner:
                data = handle.sendfile(size)
            elif self._faults.active and (rule := self._injection.hits(request, "read", self._paths[ino])):
                self._injection.answer(rule, request, "read", lambda cut: self._read_now(request, handle, size, cut))
                return
            else:
                data = handle.read(size)
            assert len(data) <= size
            libfuse.reply_buf(request, data, len(data))
        except BaseException as error:
            self._failed(request, "read", error)

    def _read_now(self, request: int, handle: OpenHandle, size: int, cut: bool) -> None:
        data = handle.read(size)
        self._reply(request, data[: len(data) // 2] if cut else data)

    def _write(self, request: int, ino: int, buffer: int, size: int, offset: int, information: int) -> None:
        try:
            handle = self._handles[self._informations[information].fh]
            data = bytes(self._buffers[buffer][:size])
            if self._faults.active and (rule := self._injection.hits(request, "write", self._paths[ino])):
                self._injection.answer(
                    rule, request, "write", lambda cut: self._write_now(request, handle, data, offset)
                )
            else:
                self._write_now(request, handle, data, offset)
        except BaseException as error:
            self._failed(request, "write", error)

    def _write_now(self, request: int, handle: OpenHandle, data: bytes, offset: int) -> None:
        handle.write(data, offset)
        if self._faults.may_hide and self._names_kept:
            # In a thread: the kernel waits for lookups in progress, which this one must answer.
            threading.Thread(target=self._forget_names, args=(request, len(data)), daemon=True).start()
        else:
            libfuse.reply_write(request, len(data))

    # Faults.

    def _forget_names(self, request: int, size: int) -> None:
        """Make the kernel look up page_pinner again, and answer the write that hides it."""
        self._names_kept = False
        name = PAGE_PINNER.encode(ENCODING)
        libfuse.invalidate_entry(self._channel, ROOT, name, len(name))
        libfuse.reply_write(request, size)

    def _release(self, request: int, ino: int, information: int) -> None:
        try:
            self._handles.pop(self._informations[information].fh).release()
            libfuse.reply_err(request, 0)
        except BaseException as error:
            self._failed(request, "release", error)

    def _fsync(self, request: int, ino: int, datasync: int, information: int) -> None:
        self._handles[self._informations[information].fh].fsync()
        libfuse.reply_err(request, 0)

    # Attributes and directories.

    def _init(self, user_data: None, connection: int) -> None:
        try:
            self.operations("init", "/")
        except BaseException:
            log.exception("FUSE operation init failed")

    def _lookup(self, request: int, parent: int, name: bytes) -> None:
        path = self._path(parent, name)
        may_hide = self._faults.may_hide
        if may_hide:
            self._injection.check(request, "lookup", path)
        node = self.operations.getattr(path)
        self._paths[node.ino] = path
        timeout, attributes = _kept(node)
        self._names_kept = self._names_kept or not may_hide
        self._reply(request, _pack_entry(node.ino, 0, 0 if may_hide else CACHE_TIMEOUT, timeout, 0, 0, *attributes))

    def _getattr(self, request: int, ino: int, information: int) -> None:
        """Answer stat with the true size, and let the kernel keep KEPT_SIZE.

        An answer to getattr that is older than an invalidation of the inode goes to the caller of stat, but not into
        the inode: fuse_change_attributes() of Linux 5.8 and later (commit 5ddd9ced9aef). So each answer is made to be
        older. Earlier kernels keep the size of 0.
        """
        node = self.operations.getattr(self._paths[ino])
        timeout = CACHE_TIMEOUT
        if stat.S_ISREG(node.mode):
            libfuse.invalidate_inode(self._channel, ino, -1, 0)
            timeout = 0
        self._reply(request, _pack_attr(timeout, 0, 0, *_attributes(node, node.size)))

    def _setattr(self, request: int, ino: int, wanted: int, which: int, information: int) -> None:
        path = self._paths[ino]
        status = libfuse.Stat.from_address(wanted)
        if which & SET_MODE:
            self.operations("chmod", path, status.st_mode)
        if which & (SET_UID | SET_GID):
            owner = status.st_uid if which & SET_UID else -1
            self.operations("chown", path, owner, status.st_gid if which & SET_GID else -1)
        if which & SET_SIZE and information:
            self._handles[self._informations[information].fh].truncate(status.st_size)
        elif which & SET_SIZE:
            self.operations("truncate", path, status.st_size)
        if which & (SET_ATIME | SET_MTIME):
            node = self.operations.getattr(path)
            atime = _nanoseconds(status.st_atimespec) if which & SET_ATIME else node.atime
            mtime = _nanoseconds(status.st_mtimespec) if which & SET_MTIME else node.mtime
            self.operations("utimens", path, (atime, mtime))
        timeout, attributes = _kept(self.operations.getattr(path))
        self._reply(request, _pack_attr(timeout, 0, 0, *attributes))

    def _opendir(self, request: int, ino: int, information: int) -> None:
        if self._faults.may_hide:
            self._injection.check(request, "opendir", self._paths[ino])
        self._informations[information].fh = self.operations("opendir", self._paths[ino])
        libfuse.reply_open(request, information)

    def _readdir(self, request: int, ino: int, size: int, offset: int, information: int) -> None:
        buffer = ctypes.create_string_buffer(size)
        used = 0
        entries: Any = self.operations("readdir", None, self._informations[information].fh)
        for position, entry in enumerate(entries[offset:], offset + 1):
            name, known = (entry, {}) if isinstance(entry, str) else entry[:2]
            if known and self._faults.may_hide and self._injection.hits(request, "lookup", f"{self._paths[ino]}{name}"):
                continue
            status = libfuse.Stat(**known) if known else libfuse.Stat(st_ino=ino, st_mode=stat.S_IFDIR)
            place = ctypes.addressof(buffer) + used
            needed = libfuse.add_direntry(
                request, place, size - used, name.encode(ENCODING), ctypes.byref(status), position
            )
            if needed > size - used:
                break
            used += needed
        self._reply(request, buffer.raw[:used])

    def _fsyncdir(self, request: int, ino: int, datasync: int, information: int) -> None:
        self.operations("fsyncdir", None, datasync, self._informations[information].fh)
        libfuse.reply_err(request, 0)

    def _statfs(self, request: int, ino: int) -> None:
        shown: Any = self.operations("statfs", self._paths[ino])
        libfuse.reply_statfs(request, ctypes.byref(libfuse.StatVfs(**shown)))

    def _listxattr(self, request: int, ino: int, size: int) -> None:
        assert not self.operations("listxattr", self._paths[ino])
        if size:
            self._reply(request, b"")
        else:
            libfuse.reply_xattr(request, 0)

    # Operations on names, which debugfs refuses.

    def _mknod(self, request: int, parent: int, name: bytes, mode: int, device: int) -> None:
        self._refused("mknod", self._path(parent, name), mode, device)

    def _create(self, request: int, parent: int, name: bytes, mode: int, information: int) -> None:
        self._refused("create", self._path(parent, name), mode)

    def _mkdir(self, request: int, parent: int, name: bytes, mode: int) -> None:
        self._refused("mkdir", self._path(parent, name), mode)

    def _unlink(self, request: int, parent: int, name: bytes) -> None:
        self._refused("unlink", self._path(parent, name))

    def _rmdir(self, request: int, parent: int, name: bytes) -> None:
        self._refused("rmdir", self._path(parent, name))

    def _symlink(self, request: int, target: bytes, parent: int, name: bytes) -> None:
        self._refused("symlink", self._path(parent, name), target.decode(ENCODING))

    def _rename(self, request: int, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        self._refused("rename", self._path(parent, name), self._path(new_parent, new_name))

    def _link(self, request: int, ino: int, parent: int, name: bytes) -> None:
        self._refused("link", self._path(parent, name), self._paths[ino])

    def _refused(self, operation: str, *arguments: object) -> None:
        self.operations(operation, *arguments)
        raise AssertionError(f"{operation} succeeded")


def _nanoseconds(time: Any) -> int:
    return int(time.tv_sec) * SECOND + int(time.tv_nsec)


def _attributes(node: Node, size: int) -> tuple[int, ...]:
    """Return the members of a `struct fuse_attr`."""
    (atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns) = (
        divmod(time, SECOND) for time in (node.atime, node.mtime, node.ctime)
    )
    times = atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns
    return node.ino, size, 0, *times, node.mode, node.nlink, node.uid, node.gid, 0, 0, 0


def _kept(node: Node) -> tuple[int, tuple[int, ...]]:
    """Return for how long stat may show what the kernel keeps, and the attributes that it keeps."""
    if stat.S_ISREG(node.mode):
        return 0, _attributes(node, KEPT_SIZE)
    return CACHE_TIMEOUT, _attributes(node, node.size)
