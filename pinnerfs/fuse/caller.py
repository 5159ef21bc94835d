"""The process that makes a request."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Caller"]


@dataclass(frozen=True)
class Caller:
    """A thread that makes a request; `proc` is a descriptor of /proc from before the mount, which may cover it.

    /proc is read at most once for a request, however many rules have a filter.
    """

    uid: int
    thread: int
    proc: int

    @cached_property
    def comm(self) -> str:
        """The name of the thread, as /proc/PID/comm shows it; "" if the thread is not visible from here."""
        return self._read("comm").removesuffix(b"\n").decode(errors="surrogateescape")

    @cached_property
    def pid(self) -> int:
        """The process that the thread belongs to; 0 if the thread is not visible from here."""
        found = re.search(rb"^Tgid:\s*(\d+)$", self._read("status"), re.MULTILINE)
        return int(found[1]) if found else 0

    def _read(self, name: str) -> bytes:
        """Return the text of a file in /proc/THREAD/, or b"" if the thread is not visible from here."""
        with suppress(OSError):
            descriptor = os.open(f"{self.thread}/{name}", os.O_RDONLY, dir_fd=self.proc)
            try:
                return os.read(descriptor, 4096)
            finally:
                os.close(descriptor)
        return b""
