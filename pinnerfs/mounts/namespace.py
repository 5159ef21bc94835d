"""Private mount namespaces, and other system calls that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

from pinnerfs.errors import PinnerfsError

__all__ = [
    "bind",
    "check",
    "detach",
    "die_with_parent",
    "dump_no_core",
    "enter",
    "execute",
    "isolate",
    "libc",
    "live_without_parent",
    "name_process",
    "set_read_only",
]

# From <sched.h>, <sys/mount.h> and <sys/prctl.h>.
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 0x1, 0x2, 0x4, 0x20, 0x1000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 0x2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """Return the result of a system call. OSError if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def isolate() -> list[int]:
    """Unshare the mount namespace of this single-threaded process. Return descriptors of it for `enter`.

    Without CAP_SYS_ADMIN, also unshare a user namespace (uid 0 inside). PinnerfsError names the missing permission.
    """
    user, group = os.geteuid(), os.getegid()
    names = ["mnt"]
    try:
        if libc.unshare(CLONE_NEWNS) < 0:
            if ctypes.get_errno() != errno.EPERM:
                check(-1)
            names = ["user", "mnt"]
            check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
            for file, text in ("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"):
                with open(f"/proc/self/{file}", "w") as stream:
                    stream.write(text)
        _make_private()
    except OSError as error:
        raise PinnerfsError(
            f"cannot create a private mount namespace: {error.strerror}; wanted root (in a container: CAP_SYS_ADMIN) "
            "or unprivileged user namespaces (sysctl: user.max_user_namespaces above 0, "
            "kernel.unprivileged_userns_clone=1 on Debian, kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)"
        ) from None
    return [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in names]


def _make_private() -> None:
    """Make all mounts of this process's new namespace private: else new ones would propagate to other namespaces."""
    root, directory = (os.open(path, os.O_PATH | os.O_DIRECTORY) for path in ("/", "."))
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    # The root of a chroot need not be a mount point. setns(2) leads to the root of the namespace, which is one.
    check(libc.setns(own, CLONE_NEWNS))
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(directory)
    for descriptor in (root, directory, own):
        os.close(descriptor)


def enter(namespaces: Sequence[int], root: int) -> None:
    """Move this single-threaded process into the namespaces of another process, and into its root directory.

    `namespaces` are those that `isolate` returned there; `root` is a descriptor of "/" from after that.
    """
    try:
        for descriptor in namespaces:
            check(libc.setns(descriptor, 0))
        # The root directory now is that of the namespace, which is outside of the command's chroot.
        os.fchdir(root)
        os.chroot(".")
    except OSError as error:
        raise PinnerfsError(f"cannot enter the command's mount namespace: {error.strerror}") from None
    for descriptor in (*namespaces, root):
        os.close(descriptor)


def die_with_parent(number: int, parent: int) -> None:
    """Send this process a signal when its parent dies, or now if the parent has died already."""
    check(libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def live_without_parent() -> None:
    """Undo `die_with_parent`."""
    check(libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0))


def dump_no_core() -> None:
    """Disable core dumps of this process."""
    check(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def name_process(name: str) -> None:
    """Set the name that `ps` shows for this process. To be called in the main thread."""
    check(libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0))


def set_read_only(mountpoint: str, read_only: bool) -> None:
    """Make a mount read-only, or writable again."""
    # Such a remount sets all flags of the mount, and clears those that are not named.
    flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
    check(libc.mount(None, os.fsencode(mountpoint), None, flags, None))


def bind(source: str, target: str) -> None:
    """Make a directory with all mounts below it, or a file, visible on another one as well."""
    check(libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND | MS_REC, None))


def detach(link: str) -> None:
    """Detach the mount that a link in /proc/self/fd leads to, or a mount on top of it. Works for a busy mount."""
    check(libc.umount2(os.fsencode(link), MNT_DETACH))


def execute(command: Sequence[str]) -> None:
    """Replace this process by a command, found in PATH. Returns only by PinnerfsError, with a shell's exit status."""
    argv = [os.fsencode(argument) for argument in command]
    # Not os.execvp, which cannot run a script without a #! line.
    libc.execvp(argv[0], (ctypes.c_char_p * (len(argv) + 1))(*argv, None))
    number = ctypes.get_errno()
    reason = os.strerror(number) if command[0] else "the name of the command is empty"
    status = 127 if number == errno.ENOENT else 126
    raise PinnerfsError(f"cannot run {command[0] or repr('')}: {reason}", exit_status=status)
