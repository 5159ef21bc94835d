"""The daemon's log: lines to a file, or to stderr."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TypeAlias

from pinnerfs.daemon.logfile import open_log_file
from pinnerfs.errors import in_a_line
from pinnerfs.threads import start_thread

__all__ = ["close_log", "open_log", "write_in_background"]

MAX_QUEUED = 1 << 20  # bytes of lines that wait to be written
WRITE_TIMEOUT = 0.1  # seconds that a line may hold up the daemon
FLUSH_TIMEOUT = 1.0  # seconds for the lines that are left at the end

NO_MEMORY = b"ERROR: MemoryError: log line lost: out of memory\n"

_ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(logging.Formatter):
    """A formatter that escapes control characters and indents tracebacks: no text in a line can forge another line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = in_a_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExceptionInfo) -> str:
        return "\n".join(f"  {in_a_line(line)}" for line in super().formatException(ei).split("\n"))


class _DescriptorHandler(logging.Handler):
    """A handler that writes each line at once, and counts those that it cannot write (full disk, closed terminal).

    After `start` a thread writes, so that a file that blocks does not block the daemon.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._descriptor = descriptor
        self._unwritten = 0  # lines since the last one that was written
        self._changed = threading.Condition()
        # With `_changed` held:
        self._started = False
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes, with those of the line that is being written
        self._dropped = 0  # lines that came after those in the queue, and found no room
        self._blocked = False
        self._ended = False

    def start(self) -> None:
        """Let a thread write the lines from now on."""
        start_thread(self._write_queue)
        self._started = True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
            if not self._started:
                self._write(line)
                return
            with self._changed:
                # Dropping goes on until the queue is empty: then the number of lost lines stands in their place.
                if self._queued and (self._dropped or self._queued + len(line) > MAX_QUEUED):
                    self._dropped += 1
                    return
                self._queue.append(line)
                self._queued += len(line)
                self._changed.notify_all()
                # Usually the line is in the file before the caller gets its answer, and survives a crash after that.
                if not self._blocked:
                    self._blocked = not self._changed.wait_for(lambda: not self._queued, WRITE_TIMEOUT)
        except MemoryError:
            self._dropped += 1

    def flush(self) -> None:
        """Wait for the lines in the queue, but not longer than FLUSH_TIMEOUT."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queued, FLUSH_TIMEOUT)

    def end(self) -> None:
        """Let the thread end, and close the file. Lines that it has not written are lost."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _write_queue(self) -> None:
        while not self._ended:
            with suppress(MemoryError):
                self._write_next()
        if self._descriptor > 2:
            os.close(self._descriptor)  # here, as no other file may get its number during a write

    def _write_next(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._dropped or self._ended)
            if self._ended:
                return
            line = self._queue.popleft() if self._queue else b""
            if not line:
                self._unwritten += self._dropped
                self._dropped = 0
        try:
            self._write(line)
        finally:
            with self._changed:
                self._queued -= len(line)
                if not self._queued:
                    self._blocked = False
                    self._changed.notify_all()

    def _write(self, line: bytes) -> None:
        """Write a line, after the number of lines that were lost before it."""
        text = line
        if self._unwritten:
            lost = "%d log lines could not be written here, and are lost"
            text = (
                self._line(logging.LogRecord(__name__, logging.WARNING, "", 0, lost, (self._unwritten,), None)) + line
            )
        try:
            os.write(self._descriptor, text)
            self._unwritten = 0
        except OSError:
            self._unwritten += bool(line)

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            return f"{self.format(record)}\n".encode(errors="backslashreplace")
        except MemoryError:
            return NO_MEMORY


def open_log(path: str | None) -> None:
    """Send the log to the end of a file, or to stderr. PinnerfsError if the file cannot be opened."""
    descriptor = 2 if path is None else open_log_file(path)
    logging.basicConfig(level=logging.INFO, handlers=[_DescriptorHandler(descriptor)])


def write_in_background() -> None:
    """Let a thread write the log from now on. A fork after this loses the thread."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _DescriptorHandler):
            handler.start()


def close_log() -> None:
    """Undo `open_log` and `write_in_background`."""
    for handler in [*logging.getLogger().handlers]:
        logging.getLogger().removeHandler(handler)
        if isinstance(handler, _DescriptorHandler):
            handler.end()
