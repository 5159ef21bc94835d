"""The daemon's log: lines to a file, or to stderr while there is one."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from pinnerfs.errors import PinnerfsError

__all__ = ["open_log"]

NO_MEMORY = b"ERROR: MemoryError: a line of the log is lost, as there is no memory for it\n"


class _Lines(logging.Handler):
    """Writes each line at once. What cannot be written (a full disk, a terminal that is gone) is lost in silence."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except MemoryError:
            line = NO_MEMORY
        with suppress(OSError):
            os.write(self._descriptor, line)


def open_log(path: str | None) -> None:
    """Let all that is logged go to the end of a file, or to stderr. PinnerfsError where the file cannot be opened."""
    descriptor = 2
    if path is not None:
        try:
            # Nor may a pipe that nobody reads keep the mount waiting.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise PinnerfsError(f"cannot open log file {path}: {error.strerror}") from None
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, handlers=[_Lines(descriptor)]
    )
