"""System calls on the tree have the results of a debugfs, recorded and, if this machine has one, live."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, in_namespace, newest_first, outcome

Results = dict[str, Any]
MS_RDONLY, MS_REMOUNT = 0x1, 0x20

# Results of a real kernel (the recorded cases rawfs.root, ro.*.sys, fs.stat). A negative number is an errno.
RECORDED: Results = {
    "mkdir": -errno.EPERM,
    "mkdir of an existing name": -errno.EEXIST,
    "rmdir": -errno.EPERM,
    "rmdir of a file": -errno.ENOTDIR,
    "unlink": -errno.EPERM,
    "unlink of a directory": -errno.EISDIR,
    "unlink of a missing file": -errno.ENOENT,
    "rename": -errno.EPERM,
    "rename over": -errno.EPERM,
    "rename to another file system": -errno.EXDEV,
    "link": -errno.EPERM,
    "link from another file system": -errno.EXDEV,
    "symlink": -errno.EPERM,
    "mknod of a file": -errno.EACCES,
    "mkfifo": -errno.EPERM,
    "open to create": -errno.EACCES,
    "open to create exclusively": -errno.EACCES,
    "open to create an existing file": -errno.EEXIST,
    "open with O_CREAT of an existing file": "open",
    "open of a missing file": -errno.ENOENT,
    "open with O_TMPFILE": -errno.EOPNOTSUPP,
    "open with O_DIRECT": -errno.EINVAL,
    "open with O_DIRECTORY": -errno.ENOTDIR,
    "open with O_PATH": "open",
    "open with O_TRUNC": "open",
    "open with O_NONBLOCK": "open",
    "open with O_APPEND": "open",
    "open with O_SYNC": "open",
    "open of the directory for writing": -errno.EISDIR,
    "read of the directory": -errno.EISDIR,
    "lseek of the directory": 0,
    "fsync of the directory": None,
    "fsync": -errno.EINVAL,
    "fdatasync": -errno.EINVAL,
    "truncate": (0, 10, 0),
    "truncate far": -errno.EFBIG,
    "truncate to 2 GiB": -errno.EFBIG,
    "truncate to below 2 GiB": 0x7FFFFFFF,
    "truncate below 0": -errno.EINVAL,
    "truncate of the directory": -errno.EISDIR,
    "utime": (1, 2),
    "chmod to 0": 0o100000,
    "chmod to 07777": 0o107777,
    "chmod back": None,
    "access": (True, True, False),
    "chown": (12, 34),
    "chown of the group": (12, 56),
    "chown back": (0, 0),
    "execve": -errno.EACCES,
    "listxattr": [],
    "setxattr user": -errno.EOPNOTSUPP,
    "setxattr security": -errno.EOPNOTSUPP,
    "setxattr trusted": -errno.EOPNOTSUPP,
    "setxattr acl": -errno.EOPNOTSUPP,
    "getxattr user": -errno.EOPNOTSUPP,
    "removexattr user": -errno.EOPNOTSUPP,
    "fallocate": -errno.EOPNOTSUPP,
    "name too long": -errno.ENAMETOOLONG,
    "a name of bytes": -errno.ENOENT,
    "trailing slash": -errno.ENOTDIR,
    "below a file": -errno.ENOTDIR,
    "chdir into a file": -errno.ENOTDIR,
    "statvfs": (4096, 4096, 0, 0, 0, 0, 0, 255),
    "stat": (1, 0, 0, 4096),
    "statx": (0x7FF, 4096, 0, 1, 0, 0, 0, 0),
}


def _open(path: Path, flags: int, mode: int = 0o644) -> str:
    os.close(os.open(path, flags, mode))
    return "open"


def _with(path: Path, flags: int, work: Callable[[int], Any]) -> Any:
    descriptor = os.open(path, flags)
    try:
        return outcome(lambda: work(descriptor))
    finally:
        os.close(descriptor)


def _then(work: Callable[[], object], show: Callable[[os.stat_result], Any], path: Path) -> Any:
    work()
    return show(path.stat())


def _truncate(file: Path) -> tuple[int, ...]:
    os.truncate(file, 0)
    empty = file.stat().st_size
    os.truncate(file, 10)
    longer = file.stat()
    os.truncate(file, 0)
    return empty, longer.st_size, longer.st_blocks


def _truncate_to_below_2_gib(file: Path) -> int:
    os.truncate(file, 0x7FFFFFFF)
    size = file.stat().st_size
    os.truncate(file, 0)
    return size


def _truncate_below_0(file: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.truncate(os.fsencode(file), ctypes.c_long(-1)) == 0 else -ctypes.get_errno()


def _fallocate(file: Path, flags: int) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)

    def work(descriptor: int) -> int:
        done = libc.fallocate(descriptor, 0, ctypes.c_long(0), ctypes.c_long(1))
        return 0 if done == 0 else -ctypes.get_errno()

    return _with(file, flags, work)


def _statvfs(directory: Path) -> tuple[int, ...]:
    s = os.statvfs(directory)
    return s.f_bsize, s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namemax


def _statx(file: Path) -> tuple[int, ...]:
    """Return mask, block size, attributes, links, owner, group, size and blocks from statx."""
    libc = ctypes.CDLL(None, use_errno=True)
    seen = ctypes.create_string_buffer(256)
    assert libc.statx(-100, os.fsencode(file), 0, 0x7FF, seen) == 0
    mask, block, attributes, links, uid, gid, _, _, size, blocks = struct.unpack_from("IIQIIIIQQQ", seen)
    return mask & 0x7FF, block, attributes, links, uid, gid, size, blocks


def _results(root: Path, directory: Path, file: Path, elsewhere: Path) -> Results:
    """Return the result of each call of RECORDED. `elsewhere` is on another file system than the other paths."""
    new, mode = file.parent / "new", stat.S_IMODE(file.stat().st_mode)
    acl = "system.posix_acl_access"
    calls: dict[str, Callable[[], Any]] = {
        "mkdir": lambda: os.mkdir(new),
        "mkdir of an existing name": lambda: os.mkdir(file),
        "rmdir": lambda: os.rmdir(directory),
        "rmdir of a file": lambda: os.rmdir(file),
        "unlink": lambda: os.unlink(file),
        "unlink of a directory": lambda: os.unlink(directory),
        "unlink of a missing file": lambda: os.unlink(new),
        "rename": lambda: os.rename(file, new),
        "rename over": lambda: os.rename(file, file.parent / _sibling(file)),
        "rename to another file system": lambda: os.rename(file, elsewhere / "new"),
        "link": lambda: os.link(file, new),
        "link from another file system": lambda: os.link(elsewhere / "here", new),
        "symlink": lambda: os.symlink("target", new),
        "mknod of a file": lambda: os.mknod(new, stat.S_IFREG | 0o644),
        "mkfifo": lambda: os.mkfifo(new),
        "open to create": lambda: _open(new, os.O_WRONLY | os.O_CREAT),
        "open to create exclusively": lambda: _open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "open to create an existing file": lambda: _open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "open with O_CREAT of an existing file": lambda: _open(file, os.O_WRONLY | os.O_CREAT),
        "open of a missing file": lambda: _open(new, os.O_RDONLY),
        "open with O_TMPFILE": lambda: _open(directory, os.O_RDWR | os.O_TMPFILE),
        "open with O_DIRECT": lambda: _open(file, os.O_RDONLY | os.O_DIRECT),
        "open with O_DIRECTORY": lambda: _open(file, os.O_RDONLY | os.O_DIRECTORY),
        "open with O_PATH": lambda: _open(file, os.O_PATH),
        "open with O_TRUNC": lambda: _open(file, os.O_WRONLY | os.O_TRUNC),
        "open with O_NONBLOCK": lambda: _open(file, os.O_WRONLY | os.O_NONBLOCK),
        "open with O_APPEND": lambda: _open(file, os.O_WRONLY | os.O_APPEND),
        "open with O_SYNC": lambda: _open(file, os.O_WRONLY | os.O_SYNC),
        "open of the directory for writing": lambda: _open(directory, os.O_RDWR),
        "read of the directory": lambda: _with(directory, os.O_RDONLY, lambda fd: os.read(fd, 100)),
        "lseek of the directory": lambda: _with(directory, os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_SET)),
        "fsync of the directory": lambda: _with(directory, os.O_RDONLY, os.fsync),
        "fsync": lambda: _with(file, os.O_WRONLY, os.fsync),
        "fdatasync": lambda: _with(file, os.O_WRONLY, os.fdatasync),
        "truncate": lambda: _truncate(file),
        "truncate far": lambda: os.truncate(file, 1 << 40),
        "truncate to 2 GiB": lambda: os.truncate(file, 1 << 31),
        "truncate to below 2 GiB": lambda: _truncate_to_below_2_gib(file),
        "truncate below 0": lambda: _truncate_below_0(file),
        "truncate of the directory": lambda: os.truncate(directory, 0),
        "utime": lambda: _then(lambda: os.utime(file, (1, 2)), lambda s: (s.st_atime, s.st_mtime), file),
        "chmod to 0": lambda: _then(lambda: file.chmod(0), lambda s: s.st_mode, file),
        "chmod to 07777": lambda: _then(lambda: file.chmod(0o7777), lambda s: s.st_mode, file),
        "chmod back": lambda: file.chmod(mode),
        "access": lambda: tuple(os.access(file, way) for way in (os.R_OK, os.W_OK, os.X_OK)),
        "chown": lambda: _then(lambda: os.chown(file, 12, 34), lambda s: (s.st_uid, s.st_gid), file),
        "chown of the group": lambda: _then(lambda: os.chown(file, -1, 56), lambda s: (s.st_uid, s.st_gid), file),
        "chown back": lambda: _then(lambda: os.chown(file, 0, 0), lambda s: (s.st_uid, s.st_gid), file),
        "execve": lambda: os.execv(file, ["x"]),
        "listxattr": lambda: os.listxattr(file),
        "setxattr user": lambda: os.setxattr(file, "user.x", b"y"),
        "setxattr security": lambda: os.setxattr(file, "security.x", b"y"),
        "setxattr trusted": lambda: os.setxattr(file, "trusted.x", b"y"),
        "setxattr acl": lambda: os.setxattr(
            file, acl, bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")
        ),
        "getxattr user": lambda: os.getxattr(file, "user.x"),
        "removexattr user": lambda: os.removexattr(file, "user.x"),
        "fallocate": lambda: _fallocate(file, os.O_WRONLY),
        "name too long": lambda: os.stat(file.parent / ("x" * 256)),
        "a name of bytes": lambda: os.stat(os.fsencode(file.parent) + b"/caf\xe9"),
        "trailing slash": lambda: os.stat(f"{file}/"),
        "below a file": lambda: os.stat(file / "x"),
        "chdir into a file": lambda: os.chdir(file),
        "statvfs": lambda: _statvfs(root),
        "stat": lambda: _then(lambda: None, lambda s: (s.st_nlink, s.st_size, s.st_blocks, s.st_blksize), file),
        "statx": lambda: _statx(file),
    }
    assert calls.keys() == RECORDED.keys()
    return {name: outcome(call) for name, call in calls.items()}


def _sibling(file: Path) -> str:
    return next(path.name for path in file.parent.iterdir() if path.is_file() and path != file)


def _live_results(permissions: int, mountpoint: Path, elsewhere: Path) -> Results | str:
    """Mount a real debugfs and return its results, or a reason why that is not possible."""

    def work() -> Results | str:
        done = subprocess.run(
            ["mount", "-t", "debugfs", "debugfs", mountpoint],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        if done.returncode:
            return done.stderr
        files = [path for path in sorted(mountpoint.iterdir()) if path.is_file() and not path.is_symlink()]
        fitting = [path for path in files if stat.S_IMODE(path.stat().st_mode) == permissions]
        directories = [path for path in sorted(mountpoint.iterdir()) if path.is_dir() and not os.path.ismount(path)]
        if not fitting or not directories or len(files) < 2:
            return f"no file of mode {permissions:o} at the root of the debugfs"
        file = fitting[0]
        before = file.stat()
        try:
            return _results(mountpoint, directories[0], file, elsewhere)
        finally:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    results = in_namespace(work)
    return os.strerror(-results) if isinstance(results, int) else results


@pytest.mark.skipif(os.geteuid() != 0, reason="the results were recorded as root")
@pytest.mark.parametrize(("name", "permissions"), [("threshold", 0o644), ("longterm_pinner", 0o444)])
def test_every_call_has_the_recorded_and_the_live_result(
    mount: Mounts, name: str, permissions: int, record_property: Callable[[str, object], None]
) -> None:
    """Each call has the recorded result, and that of a live debugfs unless its lockdown makes it EPERM."""
    device = mount()
    here, live_mountpoint = mount.directory / "elsewhere", mount.directory / "debugfs"
    here.mkdir()
    (here / "here").write_text("")
    live_mountpoint.mkdir()
    results = _results(device.path, device.path / "page_pinner", device.path / "page_pinner" / name, here)
    assert results == RECORDED
    device.expected += [
        f"unsupported operation {call}: returning ENOSYS" for call in ("setxattr", "removexattr", "fallocate")
    ]
    # None of these calls changed the threshold.
    assert device.threshold.read_bytes() == b"300000\n"
    live = _live_results(permissions, live_mountpoint, here)
    if isinstance(live, str):
        record_property("live", f"this machine has no usable debugfs: {live.strip()}")
        return
    locked = [call for call in RECORDED if live[call] != RECORDED[call] and live[call] == -errno.EPERM]
    record_property("live", f"{len(live) - len(locked)} calls compared, {len(locked)} locked down: {', '.join(locked)}")
    differing = {call: (results[call], live[call]) for call in RECORDED if call not in locked}
    assert {call: pair for call, pair in differing.items() if pair[0] != pair[1]} == {}


def test_the_order_of_a_listing(mount: Mounts) -> None:
    """The newest file is listed first, and .pinnerfs is not listed."""
    device = mount(None, "--kernel", "android12-5.10-early")
    assert os.listdir(device.path) == ["cma", "page_pinner"]
    expected = ["failure_tracking", "alloc_contig_failed", "threshold", "longterm_pinner"]
    assert os.listdir(device.path / "page_pinner") == expected
    with os.scandir(device.path / "page_pinner") as entries:
        assert [(entry.name, entry.inode()) for entry in entries] == [
            (name, (device.path / "page_pinner" / name).stat().st_ino) for name in expected
        ]
    assert device.shell("ls -a ..").stdout.split() == [".", "..", "cma", "page_pinner"]
    assert device.shell("echo .*", "dash").stdout.split() in (["..", "."], [".", ".."], [".*"])


def test_pinnerfs_is_hidden(mount: Mounts) -> None:
    """.pinnerfs can be opened by name, is 0700, and refuses changes as other directories do."""
    device = mount()
    hidden = device.path / ".pinnerfs"
    assert stat.filemode(hidden.stat().st_mode) == "drwx------"
    modes = {path.name: stat.filemode(path.stat().st_mode) for path in hidden.iterdir()}
    assert modes == {
        "advance": "--w-------",
        "clock": "-r--------",
        "do": "--w-------",
        "error": "-r--------",
        "inject": "-rw-------",
        "pid": "-r--------",
        "stats": "-r--------",
        "cma": "drwxr-xr-x",
        "dmesg": "-r--------",
        "vmstat": "-r--------",
    }
    assert outcome(lambda: os.unlink(hidden / "pid")) == -errno.EPERM
    assert outcome(lambda: os.mkdir(hidden / "new")) == -errno.EPERM
    assert outcome(lambda: os.mkdir(hidden)) == -errno.EEXIST
    assert outcome(lambda: (hidden / "new").write_text("")) == -errno.EACCES
    # Root may open them, and finds that the one has no write and the other no read.
    refused = -(errno.EINVAL if os.geteuid() == 0 else errno.EACCES)
    assert outcome(lambda: (hidden / "clock").write_text("5")) == refused
    assert outcome(lambda: (hidden / "advance").read_text()) == refused
    # Only the root directory has it.
    assert outcome(lambda: os.stat(device.path / "page_pinner" / ".pinnerfs")) == -errno.ENOENT


def test_what_find_and_ls_show(mount: Mounts) -> None:
    """stat, find and du show sizes of 0, no blocks and the link counts of a debugfs."""
    device = mount()
    owner = f"{os.geteuid()} {os.getegid()}"
    assert device.shell("stat -c '%A %h %u %g %s %b %n' .. . *").stdout.splitlines() == [
        f"drwx------ 4 {owner} 0 0 ..",
        f"drwxr-xr-x 2 {owner} 0 0 .",
        f"-r--r--r-- 1 {owner} 0 0 longterm_pinner",
        f"-rw-r--r-- 1 {owner} 0 0 threshold",
    ]
    assert device.shell("find .. -type f | sort").stdout.split() == [
        "../page_pinner/longterm_pinner",
        "../page_pinner/threshold",
    ]
    assert device.shell("du -sk ..").stdout == "0\t..\n"


def test_times_do_not_change(mount: Mounts) -> None:
    """Reads, writes and clock advances do not change a file's times, as recorded."""
    device = mount()

    def times() -> list[tuple[int, int, int]]:
        files = (device.threshold, device.records, device.path, device.path / "page_pinner")
        return [(s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for s in map(os.stat, files)]

    before = times()
    device.advance("3s")
    device.read_all()
    device.threshold.read_text()
    with device.opened(os.O_WRONLY, "threshold") as file:
        os.write(file, b"5")
    device.shell("ls -la .. .; cat *")
    assert times() == before


def test_truncate_changes_no_reads(mount: Mounts) -> None:
    """truncate changes only the size that stat shows; reads do not change."""
    device = mount()
    device.advance("2s")
    for size in (3, 1 << 20):
        os.truncate(device.threshold, size)
        assert device.threshold.stat().st_size == size
        if os.geteuid() == 0:  # others may not change a read-only file
            os.truncate(device.records, size)
            assert device.records.stat().st_size == size
        with device.opened(file="threshold") as file:
            assert os.read(file, 100) == b"300000\n"
        assert device.read_all() == newest_first(2)


def test_locks(mount: Mounts) -> None:
    """flock and fcntl locks work; the kernel implements them."""
    device = mount()
    with device.opened(os.O_RDWR, "threshold") as one, device.opened(os.O_RDWR, "threshold") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert outcome(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)) == -errno.EWOULDBLOCK
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.read(one, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can remount")
def test_remounted_read_only(mount: Mounts) -> None:
    """remount,ro refuses writes, and remount,rw allows them again."""
    device: Mount = mount()
    # By mount(2): newer versions of mount(8) use calls that FUSE refuses on some kernels.
    libc = ctypes.CDLL(None, use_errno=True)
    for flags, status, shown in ((MS_RDONLY, 1, "300000\n"), (0, 0, "5\n")):
        done = libc.mount(None, os.fsencode(device.path), None, ctypes.c_ulong(MS_REMOUNT | flags), None)
        assert done == 0, os.strerror(ctypes.get_errno())
        assert device.shell("echo 5 > threshold").returncode == status
        assert device.threshold.read_text() == shown
