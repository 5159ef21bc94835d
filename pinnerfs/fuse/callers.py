"""The process that makes a FUSE request."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["Caller", "Proc"]


class Proc:
    """The directory /proc, opened before the mount: a mount over /proc would wait for itself."""

    def __init__(self) -> None:
        self._directory = -1
        with suppress(OSError):
            self._directory = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, path: str) -> bytes:
        """Return the start of a file. OSError if it is not there."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        """Return whether a path exists."""
        try:
            os.stat(path, dir_fd=self._directory)
        except OSError:
            return False
        return True


class Caller:
    """The caller of a request: its user and its thread."""

    def __init__(self, uid: int, thread: int, proc: Proc) -> None:
        self.uid = uid
        self._thread = thread
        self._proc = proc

    def __repr__(self) -> str:
        return f"uid {self.uid} thread {self._thread}"

    def comm(self) -> str:
        """Return the name of the thread; "" if it has ended, or is in another PID namespace."""
        try:
            return self._proc.read(f"{self._thread}/comm").decode(errors="surrogateescape").removesuffix("\n")
        except OSError:
            return ""

    def is_of(self, pid: int) -> bool:
        """Return whether the thread belongs to this process."""
        return self._thread == pid or self._proc.exists(f"{pid}/task/{self._thread}")
