"""Directories of temporary mounts, and cleaning up what killed processes left.

Each mount has a directory, named after the process that made it. It contains the mount point `mnt`, the daemon's `log`,
and `daemon`, which names the daemon's process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from pinnerfs.errors import PinnerfsError
from pinnerfs.polling import wait_readable

__all__ = [
    "END_TIMEOUT",
    "end_daemon",
    "is_alive",
    "make_directory",
    "process_name",
    "remove_directory",
    "remove_left_directories",
]

PREFIX = "pinnerfs-mount"
END_TIMEOUT = 2  # seconds for a daemon to end by itself, and then again after SIGTERM
KILL_TIMEOUT = 30  # seconds for a killed daemon to disappear

_NAME = re.compile(PREFIX + r"-(?P<namespace>[0-9]+)-(?P<process>[0-9]+-[0-9]+)-\w+")


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """Return the state of a process and its start time in clock ticks, or None if it is gone."""
    try:
        # The name of the program comes before, in brackets, and may have brackets in it.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def _pid_namespace() -> str:
    """Return the number of the PID namespace: the processes of another one, such as a container's, are invisible."""
    return str(os.stat("/proc/self/ns/pid").st_ino)


def process_name(pid: int) -> str:
    """Return a name for a process that no other process gets until the machine restarts."""
    found = _state_and_start(pid)
    return f"{pid}-{found[1] if found else None}"


def _pidfd(name: str) -> int | None:
    """Return a descriptor of the process of this name, or None if it is gone."""
    pid, _, start = name.partition("-")
    try:
        descriptor = os.pidfd_open(int(pid))
    except (ValueError, ProcessLookupError):
        return None
    # Only now is it sure that the number still belongs to the same process.
    found = _state_and_start(int(pid))
    if found is None or found[1] != start:
        os.close(descriptor)
        return None
    return descriptor


def is_alive(name: str) -> bool:
    """Return whether the process of this name still runs; a zombie does not."""
    pid, _, start = name.partition("-")
    found = _state_and_start(int(pid)) if pid.isdecimal() else None
    return found is not None and found[1] == start and found[0] not in "ZX"


def make_directory() -> Path:
    """Make a private directory for one mount of this process."""
    prefix = f"{PREFIX}-{_pid_namespace()}-{process_name(os.getpid())}-"
    return Path(tempfile.mkdtemp(prefix=prefix)).resolve()


def remove_left_directories() -> None:
    """Unmount and remove what processes of this user left that no longer run."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX):
                continue  # fast, as this directory may have thousands of entries
            match = _NAME.fullmatch(entry.name)
            if match is None or match["namespace"] != _pid_namespace() or is_alive(match["process"]):
                continue
            # Another process may be removing the same, or a mount may be stuck: the next call tries again.
            with suppress(OSError, PinnerfsError):
                if entry.stat(follow_symlinks=False).st_uid == os.geteuid() and entry.is_dir(follow_symlinks=False):
                    remove_directory(Path(entry.path))


def remove_directory(directory: Path, serving: int | None = None) -> None:
    """Unmount what is mounted in the directory, even if busy or dead, end its daemon, and remove the directory.

    For `serving` see `end_daemon`.
    """
    root = directory / "mnt"
    try:
        root.rmdir()
    except FileNotFoundError:
        pass  # the process was killed before it had made one
    except OSError:
        from pinnerfs.mounts.unmount import unmount_below  # most runs of pytest do not need it

        unmount_below(str(root))
        # Not rmtree alone: it would remove files of a mount that could not be unmounted.
        root.rmdir()
    daemon = directory / "daemon"
    if daemon.exists():
        end_daemon(daemon.read_text(), serving)
    shutil.rmtree(directory)


def end_daemon(process: str, serving: int | None = None) -> None:
    """Wait for an unmounted daemon to end. If a file is still open there, it does not end by itself: kill it.

    serving: a pipe that ends when the process no longer serves the mount.
    """
    if (descriptor := _pidfd(process)) is None:
        return
    ends = [descriptor] if serving is None else [descriptor, serving]
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if wait_readable(END_TIMEOUT, *ends):
                return
            signal.pidfd_send_signal(descriptor, number)
        wait_readable(KILL_TIMEOUT, descriptor)
    finally:
        os.close(descriptor)
