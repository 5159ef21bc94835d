"""Run as `sleep` and `timeout` inside of a world, where the time counts only from when a command waits.

A case sleeps to let another program start and read. How long that takes hangs on the machine, so these two look first:
a program that waits for time to pass, or for an event, has read what there was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

LATEST = 45  # seconds until a program has started and read, however busy the machine is
# Where the kernel lets a process sleep that waits for a time, a descriptor or a change of a file.
WAITS = re.compile(r"\w*nanosleep|\w*poll|\w*select|wait_woken|inotify\w*", re.ASCII)


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


def waits(process: int) -> bool:
    """Return whether a process waits, or has ended."""
    try:
        return WAITS.match(Path(f"/proc/{process}/wchan").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True


def settle(processes: list[int]) -> None:
    """Return when all of them wait."""
    deadline = time.monotonic() + LATEST
    while not all(map(waits, processes)):
        if time.monotonic() > deadline:
            sys.exit(f"processes {processes} do not come to wait")
        time.sleep(0.01)


def main() -> None:
    """Be the program of that name: `patient.py sleep SECONDS` or `patient.py timeout SECONDS COMMAND...`."""
    name, seconds, *command = sys.argv[1:]
    if name == "sleep":
        settle(children(os.getppid()))
        time.sleep(float(seconds))
        return
    with subprocess.Popen(command) as process:
        # Ended, but not yet waited for, it has no place to wait at; poll() waits for it.
        deadline = time.monotonic() + LATEST
        while process.poll() is None and not waits(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            status = process.wait(float(seconds))
        except subprocess.TimeoutExpired:
            process.terminate()
            status = 124
    sys.exit(status)


if __name__ == "__main__":
    main()
