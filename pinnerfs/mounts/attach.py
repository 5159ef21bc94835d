"""Mount a FUSE file system on a directory that a descriptor holds.

Root mounts by system calls that take the descriptor. An ordinary user's mount needs a path, and in a directory where
another user may rename, the path leads elsewhere a moment after the checks. So it is checked again after the mount.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.detached import move_mount, new_mount
from pinnerfs.mounts.namespace import detach
from pinnerfs.mounts.table import FSTYPE, Proc
from pinnerfs.mounts.unmount import is_dead, unmount_lazily

__all__ = ["MountByPath", "attach"]

# Mounts for an ordinary user. Returns a descriptor of /dev/fuse, or -1, and the lines that say why it failed.
MountByPath: TypeAlias = Callable[[str, Mapping[str, bool | str]], tuple[int, str]]

SOURCE = "debugfs"  # as /proc/mounts shows for a real one
SUBTYPE = FSTYPE.removeprefix("fuse.")

# Errors that mean that this machine does not let this user mount, wherever it is.
FORBIDDEN = (errno.EPERM, errno.EACCES, errno.ENODEV, errno.ENOSYS)


def attach(place: int, name: str, *, allow_other: bool, mount_by_path: MountByPath) -> tuple[int, bytes]:
    """Mount on the directory of an O_PATH descriptor. Return a descriptor of /dev/fuse, and the file system's device.

    The mount has no effect before a process answers on the descriptor. PinnerfsError names the mount point `name`; its
    exit status is NO_FUSE only if this user cannot mount anywhere on this machine.
    """
    with Proc() as proc:
        if os.geteuid() == 0:
            return _attach_as_root(proc, place, name, allow_other)
        return _attach_as_user(proc, place, name, allow_other, mount_by_path)


def _attach_as_root(proc: Proc, place: int, name: str, allow_other: bool) -> tuple[int, bytes]:
    try:
        connection = _open_device()
        try:
            device = _mount(proc, connection, place, allow_other)
            if device is None:
                raise _lost(name)
        except BaseException:
            os.close(connection)
            raise
        return connection, device
    except OSError as error:
        remedy = ""
        if error.errno in (errno.EPERM, errno.EACCES):
            remedy = " (for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
        elif error.errno == errno.ENOSYS:
            remedy = " (wanted Linux 5.2 or later)"
        status = NO_FUSE if error.errno in FORBIDDEN else 1
        raise PinnerfsError(f"cannot mount on {name}: {error.strerror}{remedy}", status) from None


def _open_device() -> int:
    return os.open("/dev/fuse", os.O_RDWR)


def _mount(proc: Proc, connection: int, place: int, allow_other: bool) -> bytes | None:
    """Mount, and return the device. None if another process has mounted there first."""
    mount = _new_mount(connection, allow_other)
    try:
        number = proc.mount_id(mount)
        move_mount(mount, place)
        mine = next((mount for mount in proc.mounts() if mount.id == number), None)
        # Of several processes that mount here at once, one gets the directory. The kernel mounts the others on top.
        if mine is not None and mine.parent == proc.mount_id(place):
            return mine.device
        while any(mount.id == number for mount in proc.mounts()):
            detach(proc.link(mount))
        return None
    finally:
        os.close(mount)  # an open descriptor would keep the mount busy


def _new_mount(connection: int, allow_other: bool) -> int:
    """Return a descriptor of a new mount that is not attached anywhere."""
    values = {
        "source": SOURCE,
        "subtype": SUBTYPE,
        "fd": str(connection),
        "rootmode": "40000",
        "user_id": str(os.geteuid()),
        "group_id": str(os.getegid()),
    }
    # The kernel enforces the modes, as it does on a debugfs.
    return new_mount("fuse", values, ("default_permissions", *(["allow_other"] if allow_other else [])))


def _attach_as_user(
    proc: Proc, place: int, name: str, allow_other: bool, mount_by_path: MountByPath
) -> tuple[int, bytes]:
    """Mount by path, and check that the mount is on the right directory."""
    before = {mount.id for mount in proc.mounts()}
    path = proc.path(place)
    connection, reason = mount_by_path(
        path,
        {
            "fsname": SOURCE,
            "subtype": SUBTYPE,
            "default_permissions": True,
            "allow_other": allow_other,
        },
    )
    if connection < 0:
        raise _refused(name, reason)
    new = [mount for mount in proc.mounts() if mount.id not in before and mount.fstype == FSTYPE]
    here = [mount for mount in new if mount.path == path]
    # With a second new mount here this one may be on top of it, or below.
    if len(here) == 1 and here[0].parent == proc.mount_id(place) and proc.path(place) == path:
        return connection, here[0].device
    os.close(connection)
    for mount in new:
        if is_dead(mount.path):
            unmount_lazily(proc, mount)
    raise _lost(name)


def _lost(name: str) -> PinnerfsError:
    return PinnerfsError(
        f"cannot mount on {name}: another process mounted there or moved the directory at the same moment"
    )


def _refused(name: str, reason: str) -> PinnerfsError:
    lines = (line.removeprefix("fuse: ") for line in reason.splitlines() if line)
    text = "; ".join(lines) or "libfuse gave no reason"
    forbidden = os.strerror(errno.EPERM) in text
    remedy = " (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)" if forbidden else ""
    return PinnerfsError(f"cannot mount on {name}: {text}{remedy}", NO_FUSE if forbidden else 1)
