"""The error for a daemon that does not answer: it names the daemon's pid, and how to go on."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

import os
from collections.abc import Set
from contextlib import suppress
from typing import NamedTuple

from pinnerfs.errors import NO_ANSWER, PinnerfsError
from pinnerfs.mounts.table import FSTYPE, Proc, read_text
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["MAX_WAIT", "daemon_name", "leads_into_mount", "no_answer"]

MAX_WAIT = 5.0  # seconds
LONGEST_NAME = 15  # bytes of a process name
MAX_LINKS = 40  # as in the kernel


def daemon_name(device: bytes) -> str:
    """Return the process name of the daemon whose mount is this device, such as "0:45": `no_answer` looks for it."""
    return f"pinnerfs-{device.decode().rpartition(':')[2]}"[:LONGEST_NAME]


class _Daemon(NamedTuple):
    """A daemon that serves a mount; `state` is the letter in /proc/PID/stat."""

    start: int
    pid: int
    state: str


def leads_into_mount(path: str) -> bool:
    """Return whether the way along this path may lead into a pinnerfs mount. Sends no request to one."""
    if path.startswith("/proc/"):  # /proc/PID/root may lead to mounts of another namespace
        return True
    with Proc() as proc:
        roots = {mount.path for mount in proc.mounts() if mount.fstype == FSTYPE}
    try:
        return _first_mount(path, roots) in roots
    except FileNotFoundError:  # the working directory was deleted
        return True


def _find_daemon(path: str | os.PathLike[str]) -> _Daemon | None:
    """Return the daemon of the first pinnerfs mount on this path, without a request to it. None if none is visible."""
    with Proc() as proc:
        mounts = [mount for mount in proc.mounts() if mount.fstype == FSTYPE]
        # O_PATH on the root of a mount sends no request.
        descriptor = os.open(_first_mount(os.fspath(path), {mount.path for mount in mounts}), os.O_PATH)
        try:
            number = proc.mount_id(descriptor)
        finally:
            os.close(descriptor)
    mount = next((mount for mount in mounts if mount.id == number), None)
    return None if mount is None else _named(daemon_name(mount.device), mount.user)


def _first_mount(path: str, roots: Set[str]) -> str:
    """Return the first of these directories on the way along a path, or the whole path if there is none on it.

    Follows symbolic links, and accesses nothing below the directory that it returns.
    """
    at, names, links = "/", os.path.join(os.getcwd(), path).split("/")[::-1], 0
    while names and links <= MAX_LINKS:
        name = names.pop()
        if name == "..":
            at = os.path.dirname(at)
            continue
        step = os.path.normpath(os.path.join(at, name))
        if step in roots:
            return step
        try:
            link = os.readlink(step)
        except OSError:
            at = step
            continue
        links += 1
        names += link.split("/")[::-1]
        if link.startswith("/"):
            at = "/"
    return path


def _named(name: str, owner: int) -> _Daemon | None:
    """Return the newest process of this name and owner: a device number can be that of an earlier mount.

    The owner excludes processes that another user gave this name.
    """
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            with suppress(OSError):
                text = read_text(f"/proc/{pid}/stat")
                # The name is in brackets, and may have brackets in it.
                fields = text.rpartition(")")[2].split()
                if f" ({name}) " in text and fields[0] not in "ZX" and os.stat(f"/proc/{pid}").st_uid == owner:
                    found.append(_Daemon(int(fields[19]), int(pid), fields[0]))
    return max(found, default=None)


def no_answer(action: str, mountpoint: str | os.PathLike[str], max_wait: float) -> PinnerfsError:
    """Return the error of a call that waited too long: it names the daemon's pid and the remedy."""
    daemon = None
    # Only another file system on the way can block this. On a busy machine it can take longer than a short `max_wait`.
    with suppress(OSError, NoAnswerError):
        daemon = in_thread(lambda: _find_daemon(mountpoint), max(max_wait, MAX_WAIT))
    waited = f"did not answer within {max_wait:g} s"
    if daemon is None:
        reason = f"it {waited}; wanted its daemon to run, or a longer --max-wait"
    elif daemon.state == "t":
        reason = (
            f"its daemon (pid {daemon.pid}) is stopped by a debugger, and {waited}; "
            f"wanted the debugger to continue it; to end it: kill -KILL {daemon.pid}"
        )
    elif daemon.state == "T":
        reason = (
            f"its daemon (pid {daemon.pid}) is stopped, and {waited}; "
            f"to continue it: kill -CONT {daemon.pid}; to end it: kill -KILL {daemon.pid}"
        )
    else:
        reason = (
            f"its daemon (pid {daemon.pid}) {waited}; wanted a longer --max-wait; to end it: kill -KILL {daemon.pid}"
        )
    return PinnerfsError(f"cannot {action} {os.fspath(mountpoint)}: {reason}", NO_ANSWER)
