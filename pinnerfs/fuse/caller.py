"""The process that makes a request."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Caller"]


@dataclass(frozen=True)
class Caller:
    """A thread that makes a request; `proc` is a descriptor of /proc from before the mount, which may cover it."""

    uid: int
    thread: int
    proc: int

    def comm(self) -> str:
        """Return the name of the thread, as /proc/PID/comm shows it; "" if the thread is not visible from here."""
        with suppress(OSError):
            descriptor = os.open(f"{self.thread}/comm", os.O_RDONLY, dir_fd=self.proc)
            try:
                return os.read(descriptor, 64).removesuffix(b"\n").decode(errors="surrogateescape")
            finally:
                os.close(descriptor)
        return ""

    def is_of(self, pid: int) -> bool:
        """Return whether the thread belongs to a process."""
        try:
            os.stat(f"{pid}/task/{self.thread}", dir_fd=self.proc)
        except OSError:
            return False
        return True
