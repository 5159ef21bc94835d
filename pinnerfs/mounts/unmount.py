"""Unmounting."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pinnerfs.debugfs import CONTROL_DIRECTORY
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.namespace import detach
from pinnerfs.mounts.table import FSTYPE, Mount, Proc, open_directory, read_text
from pinnerfs.polling import wait_readable

if TYPE_CHECKING:
    import subprocess

__all__ = ["fusermount", "is_dead", "unmount", "unmount_below", "unmount_lazily"]

DAEMON_EXIT_TIMEOUT = 30  # seconds from the unmount


@functools.cache  # so that a process that has mounted can unmount although PATH has changed
def fusermount() -> str:
    """Return the program that mounts and unmounts for users. PinnerfsError if PATH has none."""
    import shutil

    program = shutil.which("fusermount") or shutil.which("fusermount3")
    if program is None:
        raise PinnerfsError("cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)", NO_FUSE)
    return program


def is_dead(directory: int | str) -> bool:
    """Return whether a path or an O_PATH descriptor is on a mount whose daemon is gone."""
    try:
        # Not stat: the kernel may still have the attributes of the root cached.
        os.statvfs(directory)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount_lazily(proc: Proc, mount: Mount) -> None:
    """Detach a mount at once, even a dead or busy one. Does nothing if its path no longer leads to it.

    Does nothing either if another mount is on it: umount2(2) would detach that one.
    """
    try:
        descriptor = os.open(mount.path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if proc.mount_id(descriptor) != mount.id or any(other.parent == mount.id for other in proc.mounts()):
            return
        if os.geteuid() == 0:
            # Without a program: fusermount does not work in a user namespace.
            with suppress(OSError):
                detach(proc.link(descriptor))
            return
    finally:
        os.close(descriptor)
    _run_fusermount("-u", "-z", "--", mount.path)


def _run_fusermount(*arguments: str) -> subprocess.CompletedProcess[str]:
    import subprocess  # root unmounts without a program

    command = ["fusermount", *arguments]
    return subprocess.run(command, executable=fusermount(), check=False, capture_output=True, text=True)


def unmount_below(path: str) -> None:
    """Detach all mounts on a directory and below it, even dead or busy ones."""
    with Proc() as proc:
        # The last mount of the table first: others may be below it.
        for mount in reversed(proc.mounts()):
            if mount.path == path or mount.path.startswith(f"{path}/"):
                unmount_lazily(proc, mount)


def _open_daemon(directory: str) -> int | None:
    """Return a pidfd of the daemon of a mount, or None if the mount does not tell its pid."""
    try:
        return os.pidfd_open(int(read_text(f"{directory}/{CONTROL_DIRECTORY}/pid")))
    except (OSError, ValueError):
        return None


def unmount(mountpoint: str) -> str | None:
    """Unmount, and wait until the daemon has exited. PinnerfsError if this is no pinnerfs mount, or it is busy.

    Does not wait if there is another mount of the same device: returns a notice that the daemon goes on.
    """
    daemon = None
    try:
        with Proc() as proc:
            descriptor = open_directory(mountpoint, "unmount", f"; wanted a {FSTYPE} mount")
            try:
                mount = _checked(proc, descriptor, mountpoint)
                daemon = _open_daemon(proc.link(descriptor))
                if os.geteuid() == 0:
                    _unmount_as_root(proc, descriptor, mount, mountpoint)
            finally:
                os.close(descriptor)  # an open descriptor keeps the mount busy
            if os.geteuid() != 0:
                _unmount_as_user(mount, mountpoint)
            copies = [other.path for other in proc.mounts() if other.device == mount.device]
        if copies:
            return f"{mountpoint}: unmounted; its daemon continues, because the device is also mounted on {copies[0]}"
        if daemon is not None and not wait_readable(DAEMON_EXIT_TIMEOUT, daemon):
            raise PinnerfsError(
                f"unmounted {mountpoint}, but its daemon is still running after {DAEMON_EXIT_TIMEOUT} s: another mount "
                "namespace (unshare -m) may have a copy of the mount"
            )
    finally:
        if daemon is not None:
            os.close(daemon)
    return None


def _checked(proc: Proc, descriptor: int, mountpoint: str) -> Mount:
    mount = proc.mount_at(descriptor)
    if mount is not None and mount.fstype == FSTYPE:
        return mount
    found = f"{'nothing' if mount is None else mount.fstype} is mounted there"
    mounts, path = proc.mounts(), proc.path(descriptor)
    if any(other.path == path and other.fstype == FSTYPE for other in mounts):
        number = proc.mount_id(descriptor)
        found += "".join(f"; {cover.fstype} on {cover.path} covers one" for cover in mounts if cover.id == number)
    raise PinnerfsError(f"cannot unmount {mountpoint}: wanted a {FSTYPE} mount, but {found}")


def _unmount_as_root(proc: Proc, descriptor: int, mount: Mount, mountpoint: str) -> None:
    # Not by path: while another user renames directories, that would unmount another file system. By descriptor the
    # kernel detaches even a busy mount, because the descriptor itself keeps it busy.
    busy = next(_uses(proc, descriptor, mount), None)
    if busy is not None:
        raise PinnerfsError(f"cannot unmount {mountpoint}: it is busy: {busy}")
    try:
        detach(proc.link(descriptor))
    except OSError as error:
        raise PinnerfsError(f"cannot unmount {mountpoint}: {error.strerror}") from None


def _uses(proc: Proc, descriptor: int, mount: Mount) -> Iterator[str]:
    """Yield what keeps a mount busy: mounts on it, open files, working and root directories of visible processes."""
    yield from (f"{other.fstype} is mounted on {other.path}" for other in proc.mounts() if other.parent == mount.id)
    me = str(os.getpid())
    for process in filter(str.isdecimal, os.listdir("/proc")):
        places = {"cwd": "its working directory", "root": "its root directory"}
        with suppress(OSError):
            places |= {f"fd/{number}": "a file open" for number in os.listdir(f"/proc/{process}/fd")}
        if process == me:
            places.pop(f"fd/{descriptor}", None)
        for place, what in places.items():
            with suppress(OSError):  # the process has ended, or closed the file
                link = f"/proc/{process}/{place}"
                # A path of another mount namespace can look the same, so compare the mounts as well.
                if os.readlink(link).startswith(mount.path) and _mount_id(proc, link) == mount.id:
                    name = read_text(f"/proc/{process}/comm").strip()
                    yield f"process {process} ({name}) has {what} there"


def _mount_id(proc: Proc, path: str) -> int:
    descriptor = os.open(path, os.O_PATH)
    try:
        return proc.mount_id(descriptor)
    finally:
        os.close(descriptor)


def _unmount_as_user(mount: Mount, mountpoint: str) -> None:
    done = _run_fusermount("-u", "--", mount.path)
    if done.returncode:
        reason = done.stderr.strip() or f"fusermount exited with status {done.returncode}"
        if "busy" in reason:
            reason = "it is busy: a process has a file open or its working directory there"
        raise PinnerfsError(f"cannot unmount {mountpoint}: {reason}")
