"""New mounts that are not attached anywhere yet, by the system calls of Linux 5.2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pinnerfs.mounts.namespace import check, libc

__all__ = ["move_mount", "new_mount"]

# From <linux/mount.h> and <asm-generic/unistd.h>: these numbers are the same on all architectures that Python runs on.
SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 429, 430, 431, 432
CLOEXEC = 1
SET_FLAG, SET_STRING, CREATE = 0, 1, 6
NOSUID, NODEV = 0x2, 0x4
FROM_DESCRIPTOR, TO_DESCRIPTOR = 0x4, 0x40


def new_mount(fstype: str, values: Mapping[str, str], flags: Iterable[str] = ()) -> int:
    """Create a file system with these options, and return a descriptor of its mount. It has no devices or programs."""
    context = check(libc.syscall(SYS_FSOPEN, fstype.encode(), CLOEXEC))
    try:
        for key, value in values.items():
            check(libc.syscall(SYS_FSCONFIG, context, SET_STRING, key.encode(), value.encode(), 0))
        for flag in flags:
            check(libc.syscall(SYS_FSCONFIG, context, SET_FLAG, flag.encode(), None, 0))
        check(libc.syscall(SYS_FSCONFIG, context, CREATE, None, None, 0))
        return check(libc.syscall(SYS_FSMOUNT, context, CLOEXEC, NOSUID | NODEV))
    finally:
        os.close(context)


def move_mount(mount: int, place: int) -> None:
    """Attach a mount to the directory of a descriptor."""
    check(libc.syscall(SYS_MOVE_MOUNT, mount, b"", place, b"", FROM_DESCRIPTOR | TO_DESCRIPTOR))
