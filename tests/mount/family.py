"""The processes that a round of a test has started: found by a mark in their environment, wherever they are."""

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
    """All processes with a mark of their own."""

    def __init__(self, name: str) -> None:
        self._mark = f"ROUND={os.getpid()}-{name}"

    def environment(self) -> dict[str, str]:
        """For whatever is to belong to it."""
        name, _, value = self._mark.partition("=")
        return environment() | {name: value}

    def members(self) -> list[int]:
        """The numbers of those that live, the oldest first."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    pass  # it has ended meanwhile
        return sorted(found)

    def left(self) -> list[int]:
        """Those that do not end in time."""
        return [number for number in self.members() if not ended(number, DEADLINE)]

    @contextmanager
    def cleared_away(self) -> Iterator[None]:
        """Whatever is left afterwards is killed."""
        try:
            yield
        finally:
            for number in self.members():
                if not ended(number, 0):
                    os.kill(number, signal.SIGKILL)
                    ended(number, DEADLINE)


def ended(number: int, seconds: float) -> bool:
    """Whether a process is gone, or is so in time."""
    try:
        process = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)
