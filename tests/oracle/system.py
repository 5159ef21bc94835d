"""The system calls of the cases `misc.*` and `rawfs.root`, by the names that the recorder gave them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
from collections.abc import Callable
from typing import Any

from tests.oracle.calls import Calls
from tests.oracle.cases import Op
from tests.oracle.phrases import PP, PhraseCalls

__all__ = ["SystemCalls"]

F_SETSIG = 10
FIBMAP, FIGETBSZ, FIONREAD, FIOQSIZE, FIONBIO, FIOCLEX = 1, 2, 0x541B, 0x5460, 0x5421, 0x5451
TCGETS, BLKGETSIZE64, FS_IOC_GETFLAGS, FICLONE = 0x5401, 0x80081272, 0x80086601, 0x40049409
O_TMPFILE = 0o20200000
# A POSIX ACL: read and write for the owner, read for others.
ACL = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_ssize_t
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_libc.readahead.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_size_t]
_libc.readahead.restype = ctypes.c_ssize_t


def _named(number: int) -> str | int:
    name = errno.errorcode.get(number)
    return ("ENOTSUP" if name == "EOPNOTSUPP" else name) or 0


class SystemCalls(PhraseCalls):
    """A process that has the file of the case open and makes these calls on it."""

    _inotify = -1

    def perform(self, call: str) -> Op:
        if call.startswith("open(") and call.endswith(")"):
            return Calls.perform(self, call)
        if self.case.family == "misc" and call in ON_FILE:
            return self.answer(lambda: {"ret": ON_FILE[call](self)})
        if self.case.family == "rawfs" and call in ON_TREE:
            return self.answer(lambda: {"ret": ON_TREE[call]()})
        return super().perform(call)

    @property
    def path(self) -> str:
        """Return the path of the file of the case."""
        return self._path

    def poll(self, events: int) -> list[list[str]]:
        poll = select.poll()
        poll.register(self.fd, events)
        return [[hex(seen) for _, seen in poll.poll(0)]]

    def epoll(self) -> None:
        with contextlib.closing(select.epoll()) as epoll:
            epoll.register(self.fd, select.EPOLLIN)

    def map(self, protection: int, flags: int) -> list[object]:
        done = _libc.mmap(None, 4096, protection, flags, self.fd, 0)
        return [done, _named(ctypes.get_errno())] if done == -1 else [0, 0]

    def ioctl(self, request: int, size: int = 64) -> int:
        done: int = fcntl.ioctl(self.fd, request, bytearray(size))
        return done

    def clone(self) -> int:
        with open("/tmp/other", "wb") as other:
            return fcntl.ioctl(self.fd, FICLONE, other.fileno())

    def raw(self, function: Any, *arguments: int) -> list[object]:
        """Call a libc function. Return the errno of the previous call, the result and the errno of this call."""
        previous = ctypes.get_errno()
        ctypes.set_errno(0)
        done = function(self.fd, *arguments)
        now = ctypes.get_errno()
        ctypes.set_errno(now or previous)
        return [previous, done, _named(now)]

    def reopen(self, flags: int) -> int:
        """Open the file again, because the recorder had closed it."""
        return os.open(self.path, flags)

    def copy_out(self, move: Callable[[int, int], object], *, pipe: bool) -> object:
        """Copy bytes from the file to a pipe or a file on tmpfs."""
        target = os.pipe()[1] if pipe else os.open("/tmp/target", os.O_CREAT | os.O_RDWR)
        return move(self.reopen(os.O_RDONLY), target)

    def copy_in(self, move: Callable[[int, int], object], *, pipe: bool) -> object:
        """Copy the byte "1" to the file, from a pipe or a file on tmpfs."""
        if pipe:
            source, writer = os.pipe()
            os.write(writer, b"1")
        else:
            source = os.open("/tmp/source", os.O_CREAT | os.O_RDWR)
            os.pwrite(source, b"1", 0)
        return move(source, self.reopen(os.O_WRONLY))

    def watch(self) -> list[int]:
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK)
        modify, access, opened, closed = 0x2, 0x1, 0x20, 0x18
        mask = modify | access | opened | closed
        places = (self.path, PP)
        return [_libc.inotify_add_watch(self._inotify, place.encode(), mask) for place in places]

    def events(self, act: Callable[[], object]) -> list[str]:
        act()
        seen = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._inotify, 1 << 16)
            while data:
                which, mask, _, length = struct.unpack_from("iIII", data)
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                seen.append(f"wd{which}:{mask:#x}:{name}")
                data = data[16 + length :]
        return seen

    def read_twice(self) -> None:
        fd = self.reopen(os.O_RDONLY)
        os.read(fd, 4096)
        os.read(fd, 4096)
        os.close(fd)

    def write_twice(self) -> None:
        fd = self.reopen(os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"1")
        with contextlib.suppress(OSError):
            os.write(fd, b"x")
        os.close(fd)

    def new_record(self) -> None:
        self.sandbox.threshold("1000")
        self.sandbox.pin()


def _fstat(self: SystemCalls) -> dict[str, object]:
    seen = os.fstat(self.fd)
    names = ("st_size", "st_blksize", "st_blocks", "st_nlink", "st_uid", "st_gid", "st_dev")
    return {"st_mode": oct(seen.st_mode), **{name: getattr(seen, name) for name in names}}


def _set_flags(self: SystemCalls, flags: int) -> int:
    return fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)


def _lists(*lists: list[int]) -> list[int]:
    return [len(some) for some in lists]


READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE
ALL_EVENTS = select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLERR
ON_FILE: dict[str, Callable[[SystemCalls], object]] = {
    "poll(POLLIN|POLLOUT|POLLPRI|POLLERR)": lambda self: self.poll(ALL_EVENTS),
    "poll(0)": lambda self: self.poll(0),
    "poll(POLLIN)": lambda self: self.poll(select.POLLIN),
    "select": lambda self: _lists(*select.select([self.fd], [self.fd], [self.fd], 0)),
    "epoll_ctl ADD": SystemCalls.epoll,
    "mmap PROT_READ,MAP_SHARED": lambda self: self.map(READ, mmap.MAP_SHARED),
    "mmap PROT_READ,MAP_PRIVATE": lambda self: self.map(READ, mmap.MAP_PRIVATE),
    "mmap PROT_READ|WRITE,MAP_SHARED": lambda self: self.map(READ | WRITE, mmap.MAP_SHARED),
    "ioctl FIONREAD": lambda self: self.ioctl(FIONREAD),
    "ioctl FIONBIO": lambda self: fcntl.ioctl(self.fd, FIONBIO, struct.pack("i", 1)).hex(),
    "ioctl FIOCLEX": lambda self: self.ioctl(FIOCLEX),
    "ioctl FIGETBSZ": lambda self: self.ioctl(FIGETBSZ),
    "ioctl FIBMAP": lambda self: self.ioctl(FIBMAP),
    "ioctl TCGETS": lambda self: self.ioctl(TCGETS),
    "ioctl BLKGETSIZE64": lambda self: self.ioctl(BLKGETSIZE64),
    "ioctl FIOQSIZE": lambda self: self.ioctl(FIOQSIZE),
    "ioctl 0xdead": lambda self: self.ioctl(0xDEAD),
    "ioctl FS_IOC_GETFLAGS": lambda self: self.ioctl(FS_IOC_GETFLAGS),
    "ioctl FICLONE": SystemCalls.clone,
    "fstat": _fstat,
    "fsync": lambda self: os.fsync(self.fd),
    "fdatasync": lambda self: os.fdatasync(self.fd),
    "ftruncate 0": lambda self: os.ftruncate(self.fd, 0),
    "ftruncate 5": lambda self: os.ftruncate(self.fd, 5),
    "posix_fallocate": lambda self: os.posix_fallocate(self.fd, 0, 10),
    "fallocate(2) raw": lambda self: self.raw(_libc.fallocate, 0, 0, 10),
    "posix_fadvise": lambda self: os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_WILLNEED),
    "readahead": lambda self: self.raw(_libc.readahead, 0, 4096),
    "flock EX|NB": lambda self: fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "lockf": lambda self: fcntl.lockf(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "F_SETLEASE RDLCK": lambda self: fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "F_GETLEASE": lambda self: fcntl.fcntl(self.fd, fcntl.F_GETLEASE),
    "F_SETSIG": lambda self: fcntl.fcntl(self.fd, F_SETSIG, 0),
    "F_SETFL O_ASYNC": lambda self: _set_flags(self, os.O_ASYNC),
    "F_SETFL O_DIRECT": lambda self: _set_flags(self, os.O_DIRECT),
    "F_SETFL O_NONBLOCK": lambda self: _set_flags(self, os.O_NONBLOCK),
    "listxattr": lambda self: os.listxattr(self.fd),
    "getxattr user.x": lambda self: os.getxattr(self.fd, "user.x"),
    "setxattr user.x": lambda self: os.setxattr(self.fd, "user.x", b"1"),
    "setxattr trusted.x": lambda self: os.setxattr(self.fd, "trusted.x", b"1"),
    "getxattr system.posix_acl_access": lambda self: os.getxattr(self.fd, "system.posix_acl_access"),
    "fpathconf PC_LINK_MAX": lambda self: os.fpathconf(self.fd, "PC_LINK_MAX"),
    "fchmod": lambda self: os.fchmod(self.fd, os.fstat(self.fd).st_mode & 0o7777),
    "fchown": lambda self: os.fchown(self.fd, 0, 0),
    "utime": lambda self: os.utime(self.fd),
    "fstatvfs": lambda self: str(os.fstatvfs(self.fd)),
    "isatty": lambda self: os.isatty(self.fd),
    "sendfile file->pipe": lambda self: self.copy_out(lambda a, b: os.sendfile(b, a, None, 4096), pipe=True),
    "sendfile file->tmpfs file": lambda self: self.copy_out(lambda a, b: os.sendfile(b, a, None, 4096), pipe=False),
    "splice file->pipe": lambda self: self.copy_out(lambda a, b: os.splice(a, b, 4096), pipe=True),
    "copy_file_range file->tmpfs": lambda self: self.copy_out(lambda a, b: os.copy_file_range(a, b, 4096), pipe=False),
    "splice pipe->file": lambda self: self.copy_in(lambda a, b: os.splice(a, b, 1), pipe=True),
    "sendfile tmpfs->file": lambda self: self.copy_in(lambda a, b: os.sendfile(b, a, 0, 1), pipe=False),
    "copy_file_range tmpfs->file": lambda self: self.copy_in(lambda a, b: os.copy_file_range(a, b, 1), pipe=False),
    "inotify_add_watch file,dir": SystemCalls.watch,
    "inotify after open,read,read,close": lambda self: self.events(self.read_twice),
    "inotify after open(O_TRUNC),write ok,write fail,close": lambda self: self.events(self.write_twice),
    "inotify after 1 new record": lambda self: self.events(self.new_record),
}


def _attribute() -> str:
    """Return the path of a file with a number, in which the recorder tried these calls."""
    threshold = f"{PP}/threshold"
    return threshold if os.path.lexists(threshold) else f"{PP}/failure_tracking"


def _size_and_blocks() -> list[int]:
    seen = os.stat(_attribute())
    return [seen.st_size, seen.st_blocks]


def _contents() -> str:
    with open(_attribute()) as file:
        return file.read()


def _elsewhere() -> str:
    with open("/tmp/elsewhere", "w"):
        return "/tmp/elsewhere"


ACCESSES = (os.R_OK, os.W_OK, os.X_OK)
ON_TREE: dict[str, Callable[[], object]] = {
    "mkdir new": lambda: os.mkdir(f"{PP}/new"),
    "mkdir existing threshold-like": lambda: os.mkdir(_attribute()),
    "rmdir page_pinner": lambda: os.rmdir(PP),
    "unlink": lambda: os.unlink(_attribute()),
    "rename": lambda: os.rename(_attribute(), f"{PP}/new"),
    "rename over": lambda: os.rename(_attribute(), f"{PP}/longterm_pinner"),
    "rename cross fs": lambda: os.rename(_attribute(), "/tmp/new"),
    "link": lambda: os.link(_attribute(), f"{PP}/new"),
    "link cross fs": lambda: os.link(_elsewhere(), f"{PP}/new"),
    "symlink": lambda: os.symlink("x", f"{PP}/new"),
    "mknod reg": lambda: os.mknod(f"{PP}/new"),
    "mkfifo": lambda: os.mkfifo(f"{PP}/new"),
    "open O_CREAT new": lambda: os.open(f"{PP}/new", os.O_CREAT | os.O_WRONLY),
    "open O_CREAT|O_EXCL new": lambda: os.open(f"{PP}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "open O_TMPFILE": lambda: os.open(PP, O_TMPFILE | os.O_RDWR),
    "open dir O_RDWR": lambda: os.open(PP, os.O_RDWR),
    "read dir fd": lambda: os.read(os.open(PP, os.O_RDONLY), 10),
    "lseek dir fd 0": lambda: os.lseek(os.open(PP, os.O_RDONLY), 0, os.SEEK_SET),
    "fsync dir fd": lambda: os.fsync(os.open(PP, os.O_RDONLY)),
    "truncate 0": lambda: os.truncate(_attribute(), 0),
    "truncate 10": lambda: os.truncate(_attribute(), 10),
    "stat size now": lambda: os.stat(_attribute()).st_size,
    "truncate 1<<40": lambda: os.truncate(_attribute(), 1 << 40),
    "stat size,blocks now": _size_and_blocks,
    "read while st_size=1<<40": _contents,
    "truncate -1": lambda: os.truncate(_attribute(), -1),
    "truncate dir": lambda: os.truncate(PP, 0),
    "utime": lambda: os.utime(_attribute(), (1, 2)),
    "mtime now": lambda: os.stat(_attribute()).st_mtime,
    "chmod 0": lambda: os.chmod(_attribute(), 0),
    "root reads mode 0": _contents,
    "access R_OK|W_OK|X_OK (root, mode 0)": lambda: [os.access(_attribute(), mode) for mode in ACCESSES],
    "chmod 0644": lambda: os.chmod(_attribute(), 0o644),
    "chmod 07777": lambda: os.chmod(_attribute(), 0o7777),
    "mode now": lambda: oct(os.stat(_attribute()).st_mode),
    "execve": lambda: os.execv(_attribute(), ["x"]),
    "listxattr path": lambda: os.listxattr(_attribute()),
    "setxattr security.x": lambda: os.setxattr(_attribute(), "security.x", b"1"),
    "setxattr system.posix_acl_access": lambda: os.setxattr(_attribute(), "system.posix_acl_access", ACL),
    "removexattr user.x": lambda: os.removexattr(_attribute(), "user.x"),
    "setxattr bogus.x": lambda: os.setxattr(_attribute(), "bogus.x", b"1"),
    "statvfs": lambda: str(os.statvfs(_attribute())),
    "name too long": lambda: os.open(f"{PP}/{'n' * 256}", os.O_RDONLY),
    "trailing slash": lambda: os.open(f"{_attribute()}/", os.O_RDONLY),
    "listdir order": lambda: os.listdir(PP),
    "chroot-ish chdir file": lambda: os.chdir(_attribute()),
}
