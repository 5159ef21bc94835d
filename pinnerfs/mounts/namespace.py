"""Private mount namespaces, and other system calls that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

from pinnerfs.errors import PinnerfsError

__all__ = ["detach", "die_with_parent", "dump_no_core", "enter", "execute", "isolate", "name_process", "set_read_only"]

# From <sched.h>, <sys/mount.h> and <sys/prctl.h>.
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 0x1, 0x2, 0x4, 0x20, 0x1000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def isolate() -> list[int]:
    """Unshare the mount namespace of this single-threaded process. Return descriptors of it for `enter`.

    Without CAP_SYS_ADMIN, also unshare a user namespace (uid 0 inside). PinnerfsError names the missing permission.
    """
    user, group = os.geteuid(), os.getegid()
    names = ["mnt"]
    try:
        if _libc.unshare(CLONE_NEWNS) < 0:
            if ctypes.get_errno() != errno.EPERM:
                _check(-1)
            names = ["user", "mnt"]
            _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
            for file, text in ("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"):
                with open(f"/proc/self/{file}", "w") as stream:
                    stream.write(text)
        # Before any mount: else it would propagate to the namespaces that share the old mounts.
        _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    except OSError as error:
        raise PinnerfsError(
            f"cannot create a private mount namespace: {error.strerror}; wanted root (in a container: CAP_SYS_ADMIN) "
            "or unprivileged user namespaces (sysctl: user.max_user_namespaces above 0, "
            "kernel.unprivileged_userns_clone=1 on Debian, kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)"
        ) from None
    return [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in names]


def enter(namespaces: Sequence[int]) -> None:
    """Move this single-threaded process into the namespaces of another process, which `isolate` returned."""
    for descriptor in namespaces:
        try:
            _check(_libc.setns(descriptor, 0))
        except OSError as error:
            raise PinnerfsError(f"cannot enter the command's mount namespace: {error.strerror}") from None
        os.close(descriptor)


def die_with_parent(number: int, parent: int) -> None:
    """Send this process a signal when its parent dies, or now if the parent has died already."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def dump_no_core() -> None:
    """Disable core dumps of this process."""
    _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def name_process(name: str) -> None:
    """Set the name that `ps` shows for this process. To be called in the main thread."""
    _check(_libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0))


def set_read_only(mountpoint: str, read_only: bool) -> None:
    """Make a mount read-only, or writable again."""
    # Such a remount sets all flags of the mount, and clears those that are not named.
    flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
    _check(_libc.mount(None, os.fsencode(mountpoint), None, flags, None))


def detach(mountpoint: str) -> None:
    """Detach a mount at once, even a busy one."""
    _check(_libc.umount2(os.fsencode(mountpoint), MNT_DETACH | UMOUNT_NOFOLLOW))


def execute(command: Sequence[str]) -> None:
    """Replace this process by a command, found in PATH. Returns only by PinnerfsError, with a shell's exit status."""
    argv = [os.fsencode(argument) for argument in command]
    # Not os.execvp, which cannot run a script without a #! line.
    _libc.execvp(argv[0], (ctypes.c_char_p * (len(argv) + 1))(*argv, None))
    number = ctypes.get_errno()
    reason = os.strerror(number) if command[0] else "the name of the command is empty"
    status = 127 if number == errno.ENOENT else 126
    raise PinnerfsError(f"cannot run {command[0] or repr('')}: {reason}", exit_status=status)
