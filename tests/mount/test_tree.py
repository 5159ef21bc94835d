"""The tree answers as a debugfs does: compared with recorded answers, and with a real debugfs where there is one."""

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

Answers = dict[str, Any]
MS_RDONLY, MS_REMOUNT = 0x1, 0x20

# What a real kernel answered (the recorded cases rawfs.root, ro.*.sys, fs.stat); a negative number is an errno.
RECORDED: Answers = {
    "mkdir": -errno.EPERM,
    "mkdir of what is there": -errno.EEXIST,
    "rmdir": -errno.EPERM,
    "rmdir of a file": -errno.ENOTDIR,
    "unlink": -errno.EPERM,
    "unlink of a folder": -errno.EISDIR,
    "unlink of nothing": -errno.ENOENT,
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
    "open to create what is there": -errno.EEXIST,
    "open with O_CREAT what is there": "open",
    "open of nothing": -errno.ENOENT,
    "open with O_TMPFILE": -errno.EOPNOTSUPP,
    "open with O_DIRECT": -errno.EINVAL,
    "open with O_DIRECTORY": -errno.ENOTDIR,
    "open with O_PATH": "open",
    "open with O_TRUNC": "open",
    "open with O_NONBLOCK": "open",
    "open with O_APPEND": "open",
    "open with O_SYNC": "open",
    "open of the folder for writing": -errno.EISDIR,
    "read of the folder": -errno.EISDIR,
    "lseek of the folder": 0,
    "fsync of the folder": None,
    "fsync": -errno.EINVAL,
    "fdatasync": -errno.EINVAL,
    "truncate": (0, 10, 0),
    "truncate far": -errno.EFBIG,
    "truncate to 2 GiB": -errno.EFBIG,
    "truncate to below 2 GiB": 0x7FFFFFFF,
    "truncate below 0": -errno.EINVAL,
    "truncate of the folder": -errno.EISDIR,
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


def _truncates(file: Path) -> tuple[int, ...]:
    os.truncate(file, 0)
    empty = file.stat().st_size
    os.truncate(file, 10)
    longer = file.stat()
    os.truncate(file, 0)
    return empty, longer.st_size, longer.st_blocks


def _short_of_2_gib(file: Path) -> int:
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


def _statvfs(folder: Path) -> tuple[int, ...]:
    s = os.statvfs(folder)
    return s.f_bsize, s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namemax


def _statx(file: Path) -> tuple[int, ...]:
    """What statx tells beyond mode and times: basic mask, block size, attributes, links, owner, group, size, blocks."""
    libc = ctypes.CDLL(None, use_errno=True)
    seen = ctypes.create_string_buffer(256)
    assert libc.statx(-100, os.fsencode(file), 0, 0x7FF, seen) == 0
    mask, block, attributes, links, uid, gid, _, _, size, blocks = struct.unpack_from("IIQIIIIQQQ", seen)
    return mask & 0x7FF, block, attributes, links, uid, gid, size, blocks


def _answers(root: Path, folder: Path, file: Path, elsewhere: Path) -> Answers:
    """Every call of the table, on one file system: `folder` and `file` lie in it, `elsewhere` does not."""
    new, mode = file.parent / "new", stat.S_IMODE(file.stat().st_mode)
    acl = "system.posix_acl_access"
    calls: dict[str, Callable[[], Any]] = {
        "mkdir": lambda: os.mkdir(new),
        "mkdir of what is there": lambda: os.mkdir(file),
        "rmdir": lambda: os.rmdir(folder),
        "rmdir of a file": lambda: os.rmdir(file),
        "unlink": lambda: os.unlink(file),
        "unlink of a folder": lambda: os.unlink(folder),
        "unlink of nothing": lambda: os.unlink(new),
        "rename": lambda: os.rename(file, new),
        "rename over": lambda: os.rename(file, file.parent / _another(file)),
        "rename to another file system": lambda: os.rename(file, elsewhere / "new"),
        "link": lambda: os.link(file, new),
        "link from another file system": lambda: os.link(elsewhere / "here", new),
        "symlink": lambda: os.symlink("target", new),
        "mknod of a file": lambda: os.mknod(new, stat.S_IFREG | 0o644),
        "mkfifo": lambda: os.mkfifo(new),
        "open to create": lambda: _open(new, os.O_WRONLY | os.O_CREAT),
        "open to create exclusively": lambda: _open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "open to create what is there": lambda: _open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "open with O_CREAT what is there": lambda: _open(file, os.O_WRONLY | os.O_CREAT),
        "open of nothing": lambda: _open(new, os.O_RDONLY),
        "open with O_TMPFILE": lambda: _open(folder, os.O_RDWR | os.O_TMPFILE),
        "open with O_DIRECT": lambda: _open(file, os.O_RDONLY | os.O_DIRECT),
        "open with O_DIRECTORY": lambda: _open(file, os.O_RDONLY | os.O_DIRECTORY),
        "open with O_PATH": lambda: _open(file, os.O_PATH),
        "open with O_TRUNC": lambda: _open(file, os.O_WRONLY | os.O_TRUNC),
        "open with O_NONBLOCK": lambda: _open(file, os.O_WRONLY | os.O_NONBLOCK),
        "open with O_APPEND": lambda: _open(file, os.O_WRONLY | os.O_APPEND),
        "open with O_SYNC": lambda: _open(file, os.O_WRONLY | os.O_SYNC),
        "open of the folder for writing": lambda: _open(folder, os.O_RDWR),
        "read of the folder": lambda: _with(folder, os.O_RDONLY, lambda fd: os.read(fd, 100)),
        "lseek of the folder": lambda: _with(folder, os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_SET)),
        "fsync of the folder": lambda: _with(folder, os.O_RDONLY, os.fsync),
        "fsync": lambda: _with(file, os.O_WRONLY, os.fsync),
        "fdatasync": lambda: _with(file, os.O_WRONLY, os.fdatasync),
        "truncate": lambda: _truncates(file),
        "truncate far": lambda: os.truncate(file, 1 << 40),
        "truncate to 2 GiB": lambda: os.truncate(file, 1 << 31),
        "truncate to below 2 GiB": lambda: _short_of_2_gib(file),
        "truncate below 0": lambda: _truncate_below_0(file),
        "truncate of the folder": lambda: os.truncate(folder, 0),
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


def _another(file: Path) -> str:
    return next(path.name for path in file.parent.iterdir() if path.is_file() and path != file)


def _live(permissions: int, mountpoint: Path, elsewhere: Path) -> Answers | str:
    """The same from a real debugfs, mounted for this alone; a word instead where there is none."""

    def work() -> Answers | str:
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
        folders = [path for path in sorted(mountpoint.iterdir()) if path.is_dir() and not os.path.ismount(path)]
        if not fitting or not folders or len(files) < 2:
            return f"no file of mode {permissions:o} at the root of the debugfs"
        file = fitting[0]
        before = file.stat()
        try:
            return _answers(mountpoint, folders[0], file, elsewhere)
        finally:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    answers = in_namespace(work)
    return os.strerror(-answers) if isinstance(answers, int) else answers


@pytest.mark.skipif(os.geteuid() != 0, reason="the answers are those that root gets")
@pytest.mark.parametrize(("name", "permissions"), [("threshold", 0o644), ("longterm_pinner", 0o444)])
def test_every_call_answers_as_recorded_and_as_live(
    mount: Mounts, name: str, permissions: int, record_property: Callable[[str, object], None]
) -> None:
    """Each call on the tree has the recorded answer, and that of a live debugfs, unless its lockdown says EPERM."""
    device = mount()
    here, live_mountpoint = mount.folder / "elsewhere", mount.folder / "debugfs"
    here.mkdir()
    (here / "here").write_text("")
    live_mountpoint.mkdir()
    answers = _answers(device.path, device.path / "page_pinner", device.path / "page_pinner" / name, here)
    assert answers == RECORDED
    device.expected += [
        f"unsupported operation {call}: returning ENOSYS" for call in ("setxattr", "removexattr", "fallocate")
    ]
    # Nothing of all this went into the books.
    assert device.threshold.read_bytes() == b"300000\n"
    live = _live(permissions, live_mountpoint, here)
    if isinstance(live, str):
        record_property("live", f"no real debugfs here: {live.strip()}")
        return
    locked = [call for call in RECORDED if live[call] != RECORDED[call] and live[call] == -errno.EPERM]
    record_property("live", f"{len(live) - len(locked)} calls compared, {len(locked)} locked down: {', '.join(locked)}")
    differing = {call: (answers[call], live[call]) for call in RECORDED if call not in locked}
    assert {call: pair for call, pair in differing.items() if pair[0] != pair[1]} == {}


def test_the_order_of_a_listing(mount: Mounts) -> None:
    """The newest file comes first, and the hidden folder never."""
    device = mount(None, "--kernel", "android12-5.10-early")
    assert os.listdir(device.path) == ["page_pinner"]
    expected = ["failure_tracking", "alloc_contig_failed", "threshold", "longterm_pinner"]
    assert os.listdir(device.path / "page_pinner") == expected
    with os.scandir(device.path / "page_pinner") as entries:
        assert [(entry.name, entry.inode()) for entry in entries] == [
            (name, (device.path / "page_pinner" / name).stat().st_ino) for name in expected
        ]
    assert device.shell("ls -a ..").stdout.split() == [".", "..", "page_pinner"]
    assert device.shell("echo .*", "dash").stdout.split() in (["..", "."], [".", ".."], [".*"])


def test_the_hidden_folder(mount: Mounts) -> None:
    """.pinnerfs is reached by name, is 0700, is never listed, and refuses changes as the rest does."""
    device = mount()
    hidden = device.path / ".pinnerfs"
    assert stat.filemode(hidden.stat().st_mode) == "drwx------"
    modes = {path.name: stat.filemode(path.stat().st_mode) for path in hidden.iterdir()}
    assert modes == {
        "advance": "--w-------",
        "clock": "-r--------",
        "do": "--w-------",
        "error": "-r--------",
        "pid": "-r--------",
        "stats": "-r--------",
    }
    assert outcome(lambda: os.unlink(hidden / "pid")) == -errno.EPERM
    assert outcome(lambda: os.mkdir(hidden / "new")) == -errno.EPERM
    assert outcome(lambda: os.mkdir(hidden)) == -errno.EEXIST
    assert outcome(lambda: (hidden / "new").write_text("")) == -errno.EACCES
    assert outcome(lambda: (hidden / "clock").write_text("5")) == -errno.EINVAL
    assert outcome(lambda: (hidden / "advance").read_text()) == -errno.EINVAL
    # Only at the root.
    assert outcome(lambda: os.stat(device.path / "page_pinner" / ".pinnerfs")) == -errno.ENOENT


def test_what_find_and_ls_show(mount: Mounts) -> None:
    """ls, find, stat and du show a debugfs: sizes of 0, root's files, link counts, no blocks."""
    device = mount()
    assert device.shell("stat -c '%A %h %U %G %s %b %n' .. . *").stdout.splitlines() == [
        "drwx------ 3 root root 0 0 ..",
        "drwxr-xr-x 2 root root 0 0 .",
        "-r--r--r-- 1 root root 0 0 longterm_pinner",
        "-rw-r--r-- 1 root root 0 0 threshold",
    ]
    assert device.shell("find .. -type f | sort").stdout.split() == [
        "../page_pinner/longterm_pinner",
        "../page_pinner/threshold",
    ]
    assert device.shell("du -sk ..").stdout == "0\t..\n"


def test_times_stand_still(mount: Mounts) -> None:
    """Neither reads nor writes move a file's times, as recorded; an advance of the clock does not either."""
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


def test_size_kept_by_truncate_changes_no_reads(mount: Mounts) -> None:
    """truncate sets what stat shows and nothing else: reads go on as before, shorter or longer than that."""
    device = mount()
    device.advance("2s")
    for size in (3, 1 << 20):
        os.truncate(device.threshold, size)
        os.truncate(device.records, size)
        assert device.threshold.stat().st_size == device.records.stat().st_size == size
        with device.opened(file="threshold") as file:
            assert os.read(file, 100) == b"300000\n"
        assert device.read_all() == newest_first(2)


def test_locks_work(mount: Mounts) -> None:
    """flock and fcntl locks are the kernel's own affair, and are taken."""
    device = mount()
    with device.opened(os.O_RDWR, "threshold") as one, device.opened(os.O_RDWR, "threshold") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert outcome(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)) == -errno.EWOULDBLOCK
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.read(one, 1)


def test_remounted_read_only(mount: Mounts) -> None:
    """remount,ro refuses writes as on a real one, and remount,rw lets them again."""
    device: Mount = mount()
    # Not by mount(8): a newer one asks in a way that a FUSE of that kernel refuses.
    libc = ctypes.CDLL(None, use_errno=True)
    for flags, written, shown in ((MS_RDONLY, 1, "300000\n"), (0, 0, "5\n")):
        done = libc.mount(None, os.fsencode(device.path), None, ctypes.c_ulong(MS_REMOUNT | flags), None)
        assert done == 0, os.strerror(ctypes.get_errno())
        assert device.shell("echo 5 > threshold").returncode == written
        assert device.threshold.read_text() == shown
