"""Run as `sleep` and `timeout` inside of a sandbox, where the time counts only from when a command is_waiting.

A case sleeps to let another program start and read. How long that takes hangs on the machine, so these two look first:
a program that is_waiting for time to pass, or for an event, has read what there was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

DEADLINE = 45  # seconds until a program has started and read, however busy the machine is
# Where the kernel lets a process sleep that is_waiting for a time, a descriptor or a change of a file.
WAIT_CHANNELS = re.compile(r"\w*nanosleep|\w*poll|\w*select|wait_woken|inotify\w*", re.ASCII)


def children(parent: int) -> list[int]:
    """Return the children of a process but this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def is_waiting(process: int) -> bool:
    """Return whether a process is_waiting, or has ended."""
    try:
        return WAIT_CHANNELS.match(Path(f"/proc/{process}/wchan").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_idle(processes: list[int]) -> None:
    """Return when all of them wait."""
    deadline = time.monotonic() + DEADLINE
    while not all(map(is_waiting, processes)):
        if time.monotonic() > deadline:
            sys.exit(f"processes {processes} do not come to wait")
        time.sleep(0.01)


def main() -> None:
    """Be the program of that name: `patient.py sleep SECONDS` or `patient.py timeout SECONDS COMMAND...`."""
    name, seconds, *command = sys.argv[1:]
    if name == "sleep":
        wait_until_idle(children(os.getppid()))
        time.sleep(float(seconds))
        return
    with subprocess.Popen(command) as process:
        # Ended, but not yet waited for, it has no place to wait at; poll() is_waiting for it.
        deadline = time.monotonic() + DEADLINE
        while process.poll() is None and not is_waiting(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            status = process.wait(float(seconds))
        except subprocess.TimeoutExpired:
            process.terminate()
            status = 124
    sys.exit(status)


if __name__ == "__main__":
    main()
