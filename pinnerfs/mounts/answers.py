"""The error for a daemon that does not answer: it names the daemon's pid, and how to go on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pinnerfs.errors import NO_ANSWER, PinnerfsError
from pinnerfs.mounts.table import FSTYPE, Proc
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["MAX_WAIT", "daemon_name", "no_answer"]

MAX_WAIT = 5.0  # seconds
LONGEST_NAME = 15  # bytes of a process name


def daemon_name(device: bytes) -> str:
    """Return the process name of the daemon whose mount is this device, such as "0:45": `no_answer` looks for it."""
    return f"pinnerfs-{device.decode().rpartition(':')[2]}"[:LONGEST_NAME]


class _Daemon(NamedTuple):
    """A daemon that serves a mount; `state` is the letter in /proc/PID/stat."""

    start: int
    pid: int
    state: str


def _find_daemon(mountpoint: str | os.PathLike[str]) -> _Daemon | None:
    """Return the daemon of the mount at this path, without a request to it. None if none is visible."""
    # O_PATH on the root of a mount sends no request.
    descriptor = os.open(mountpoint, os.O_PATH)
    try:
        with Proc() as proc:
            number = proc.mount_id(descriptor)
            mount = next((mount for mount in proc.mounts() if mount.id == number), None)
    finally:
        os.close(descriptor)
    if mount is None or mount.fstype != FSTYPE:
        return None
    return _named(daemon_name(mount.device), mount.user)


def _named(name: str, owner: int) -> _Daemon | None:
    """Return the newest process of this name and owner: a device number can be that of an earlier mount.

    The owner excludes processes that another user gave this name.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                text = (entry / "stat").read_text(errors="replace")
                # The name is in brackets, and may have brackets in it.
                fields = text.rpartition(")")[2].split()
                if f" ({name}) " in text and fields[0] not in "ZX" and entry.stat().st_uid == owner:
                    found.append(_Daemon(int(fields[19]), int(entry.name), fields[0]))
    return max(found, default=None)


def no_answer(action: str, mountpoint: str | os.PathLike[str], max_wait: float) -> PinnerfsError:
    """Return the error of a call that waited too long: it names the daemon's pid and the remedy."""
    daemon = None
    # The path may lead through the mount of a stopped daemon.
    with suppress(OSError, NoAnswerError):
        daemon = in_thread(lambda: _find_daemon(mountpoint), max_wait)
    waited = f"did not answer within {max_wait:g} s"
    if daemon is None:
        reason = f"it {waited}; wanted its daemon to run, or a longer --max-wait"
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
