"""The daemon's log: lines to a file, or to stderr."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress

from pinnerfs.errors import PinnerfsError

__all__ = ["open_log"]

NO_MEMORY = b"ERROR: MemoryError: log line lost: out of memory\n"

_UNDECODABLE = re.compile("[\udc80-\udcff]")  # a byte of a name that is no UTF-8: see os.fsdecode


class _DescriptorHandler(logging.Handler):
    """A handler that writes each line at once, and drops a line that it cannot write (full disk, closed terminal)."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = _UNDECODABLE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", self.format(record))
            line = f"{text}\n".encode(errors="backslashreplace")
        except MemoryError:
            line = NO_MEMORY
        with suppress(OSError):
            os.write(self._descriptor, line)


def open_log(path: str | None) -> None:
    """Send the log to the end of a file, or to stderr. PinnerfsError if the file cannot be opened."""
    descriptor = 2
    if path is not None:
        try:
            # O_NONBLOCK: a pipe without a reader must not block the mount.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise PinnerfsError(f"cannot open log file {path}: {error.strerror}") from None
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, handlers=[_DescriptorHandler(descriptor)]
    )
