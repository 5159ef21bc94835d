"""Replace `sleep` and `timeout` in a sandbox: start the clock only when the other processes wait.

A case sleeps to let another program start and read. How long that takes depends on the machine. So first wait until the
program itself waits for time to pass or for an event: then it has read everything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

DEADLINE = 45  # seconds for a program to start and read; large, because the machine may be busy
# Kernel functions (/proc/PID/wchan) in which a process waits for a time, a descriptor or a change of a file.
WAIT_CHANNELS = re.compile(r"\w*nanosleep|\w*poll|\w*select|wait_woken|inotify\w*", re.ASCII)


def children(parent: int) -> list[int]:
    """Return the children of a process, except this one."""
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
    """Return whether a process waits for time or an event, or has ended."""
    try:
        return WAIT_CHANNELS.match(Path(f"/proc/{process}/wchan").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_idle(processes: list[int]) -> None:
    """Wait until all processes wait or have ended."""
    deadline = time.monotonic() + DEADLINE
    while not all(map(is_waiting, processes)):
        if time.monotonic() > deadline:
            sys.exit(f"processes {processes} still run after {DEADLINE} s")
        time.sleep(0.01)


def main() -> None:
    """Run `sleep_timeout.py sleep SECONDS` or `sleep_timeout.py timeout SECONDS COMMAND...`."""
    name, seconds, *command = sys.argv[1:]
    if name == "sleep":
        wait_until_idle(children(os.getppid()))
        time.sleep(float(seconds))
        return
    with subprocess.Popen(command) as process:
        # A zombie has no wait channel, so poll() reaps it.
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
