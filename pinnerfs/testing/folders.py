"""Where the mounts of a test run lie, and taking away what a killed run has left.

Each process that runs tests has one folder, named after itself; whose process no longer lives, is swept. In it each
mount has a place: `mnt`, the daemon's `log`, and in `daemon` which process that is.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from pinnerfs.errors import PinnerfsError

__all__ = ["DEADLINE", "end_daemon", "end_mount", "is_alive", "make_folder", "process_name", "remove_folder", "sweep"]

PREFIX = "pinnerfs-pytest"
DEADLINE = 30  # seconds for anything; far more than it takes
PATIENCE = 2  # seconds that a daemon has to end by itself

_NAME = re.compile(PREFIX + r"-(?P<namespace>[0-9]+)-(?P<process>[0-9]+-[0-9]+)-\w+")


def _start_of(pid: int) -> str | None:
    """When a process was started, in clock ticks; None where it is gone."""
    try:
        # The name before it is in brackets, and may have brackets in it.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _namespace() -> str:
    """The number of the PID namespace: processes of another one, such as a container's, cannot be seen."""
    return str(os.stat("/proc/self/ns/pid").st_ino)


def process_name(pid: int) -> str:
    """A name that no other process ever has, until the machine starts anew."""
    return f"{pid}-{_start_of(pid)}"


def is_alive(name: str) -> bool:
    """Whether the process of this name lives."""
    pid, _, start = name.partition("-")
    return pid.isdecimal() and _start_of(int(pid)) == start


def make_folder() -> Path:
    """A new folder of this process, for nobody else to look into."""
    prefix = f"{PREFIX}-{_namespace()}-{process_name(os.getpid())}-"
    return Path(tempfile.mkdtemp(prefix=prefix)).resolve()


def sweep() -> None:
    """Take down what dead test runs of this user have left; nobody else's, and nothing that a living one owns."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or match["namespace"] != _namespace() or is_alive(match["process"]):
                continue
            # Another run may be sweeping the same, or a mount may be stuck: the next run will try again.
            with suppress(OSError, PinnerfsError):
                if entry.stat(follow_symlinks=False).st_uid == os.geteuid() and entry.is_dir(follow_symlinks=False):
                    remove_folder(Path(entry.path))


def remove_folder(folder: Path) -> None:
    """Take down the mounts in a process's folder, and the folder."""
    for place in folder.iterdir():
        end_mount(place)
    folder.rmdir()


def end_mount(place: Path) -> None:
    """Unmount what is mounted in a place, be it busy or dead; see its daemon off, and remove the place."""
    root = place / "mnt"
    try:
        root.rmdir()
    except FileNotFoundError:
        pass  # the run was killed before it had made one
    except OSError:
        from pinnerfs.mounts.table import unmount_lazily  # not needed, nor paid for, by most runs of pytest

        unmount_lazily(str(root))
        # Not rmtree from the start: it would go into a mount that could not be taken down.
        root.rmdir()
    note = place / "daemon"
    if note.exists():
        end_daemon(note.read_text())
    shutil.rmtree(place)


def end_daemon(process: str) -> None:
    """Wait for a daemon to end, which it does without its mount, unless somebody has a file of it open; then end it."""
    if not is_alive(process):
        return
    try:
        descriptor = os.pidfd_open(int(process.partition("-")[0]))
    except ProcessLookupError:
        return
    try:
        # Looked at again: only now is it sure to be the same process.
        for last_word in (signal.SIGTERM, signal.SIGKILL):
            if not is_alive(process) or select.select([descriptor], [], [], PATIENCE)[0]:
                return
            signal.pidfd_send_signal(descriptor, last_word)
        select.select([descriptor], [], [], DEADLINE)
    finally:
        os.close(descriptor)
