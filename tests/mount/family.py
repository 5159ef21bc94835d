"""Find and kill the processes that a test has started. A variable in their environment marks them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mount.support import DEADLINE, environment

__all__ = ["Family", "ended"]


class Family:
    """The processes that have the same mark in their environment."""

    def __init__(self, name: str) -> None:
        self._mark = f"ROUND={os.getpid()}-{name}"

    def environment(self) -> dict[str, str]:
        """Return the environment for a process that belongs to this family."""
        name, _, value = self._mark.partition("=")
        return environment() | {name: value}

    def members(self) -> list[int]:
        """Return the PIDs of the running members in ascending order."""
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdecimal():
                try:
                    if self._mark.encode() in (directory / "environ").read_bytes().split(b"\0"):
                        found.append(int(directory.name))
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    pass  # it has ended, or it is another user's
        return sorted(found)

    def left(self) -> list[int]:
        """Return the PIDs of the members that do not end before the deadline."""
        return [pid for pid in self.members() if not ended(pid, DEADLINE)]

    @contextmanager
    def cleared_away(self) -> Iterator[None]:
        """Kill all members at the end of the block."""
        try:
            yield
        finally:
            for pid in self.members():
                if not ended(pid, 0):
                    os.kill(pid, signal.SIGKILL)
                    ended(pid, DEADLINE)


def ended(pid: int, seconds: float) -> bool:
    """Return whether a process ends within this time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)
