"""The connection to the kernel: requests come in, and answers go out, at once or after a delay."""

from __future__ import annotations

import errno
import heapq
import logging
import math
import os
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic

from pinnerfs.debugfs.declaration import Later
from pinnerfs.fuse.caller import Caller
from pinnerfs.fuse.messages import BODY, DATA, IN_HEADER, INTERRUPT_IN, OUT_HEADER, REQUEST

__all__ = ["MAX_WRITE", "Connection"]

MAX_WRITE = 1 << 17  # bytes of data in one request

MANY = 1000  # interrupted requests among those that are due

_pack_header, _HEADER = OUT_HEADER.pack, OUT_HEADER.size

log = logging.getLogger(__name__)


class Connection:
    """The stream of a mount's requests, from its descriptor of /dev/fuse. `processes` is a descriptor of /proc.

    One thread serves all requests, so handlers run one after the other. A request whose handler raises Later waits
    here. The kernel reports the signals of its caller as an interrupt: the request then fails with EINTR.
    """

    def __init__(self, descriptor: int, processes: int) -> None:
        self._proc = processes
        self.descriptor = descriptor
        self._file = open(self.descriptor, "r+b", buffering=0, closefd=False)  # noqa: SIM115
        self.buffer = bytearray(DATA + MAX_WRITE)
        self._due: list[tuple[float, int]] = []  # a heap of moments and requests, some of them interrupted since
        # By request: its handler, what to call if it is interrupted, and its inode.
        self._postponed: dict[int, tuple[Callable[[int], bytes | None], Callable[[], None], int]] = {}
        self._blocking = True
        self._arrivals = select.poll()
        self._arrivals.register(self.descriptor, select.POLLIN)

    def caller(self) -> Caller:
        """Return the caller of the request that is being handled."""
        _, _, _, _, uid, _, thread, _, _ = self._header()
        return Caller(uid, thread, self._proc)

    def body(self, offset: int = 0) -> bytes:
        """Return the request that is being handled, without its header and so many more bytes."""
        return bytes(self.buffer[BODY + offset : self._header()[0]])

    def _header(self) -> tuple[int, ...]:
        return IN_HEADER.unpack_from(self.buffer)

    def serve(self, handlers: Mapping[int, Callable[[int], bytes | None]]) -> None:
        """Answer requests until the unmount. A handler gets the number of the inode; None is no answer."""
        receive, send, buffer, unpack = self._file.readinto, self._file.write, self.buffer, REQUEST.unpack_from
        due = None
        try:
            while True:
                due = None if self._blocking else self._next_due(due is not None)
                if due is None:
                    try:
                        if receive(buffer) is None:
                            continue  # a request that had arrived was withdrawn
                    except OSError as error:
                        if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                            return  # unmounted, or aborted
                        if error.errno != errno.ENOENT:  # of a request that was withdrawn
                            raise
                        continue
                    opcode, unique, ino = unpack(buffer)
                    work = handlers[opcode]
                else:
                    unique, work, ino = due
                try:
                    data = work(ino)
                    if data is None:
                        continue
                    message = _pack_header(_HEADER + len(data), 0, unique) + data
                except Later as later:
                    self._postpone(unique, later, ino)
                    continue
                except BaseException as error:
                    message = _pack_header(_HEADER, -_errno(work, error), unique)
                try:
                    send(message)
                except OSError as error:
                    _undelivered(error)
        finally:
            os.close(self.descriptor)

    def _send(self, message: bytes) -> None:
        try:
            self._file.write(message)
        except OSError as error:
            _undelivered(error)

    def notify(self, number: int, data: bytes) -> None:
        """Send a message that answers no request."""
        self._send(_pack_header(_HEADER + len(data), number, 0) + data)

    # Answers after a delay.

    def _postpone(self, unique: int, later: Later, ino: int) -> None:
        def delayed(ino: int) -> bytes | None:
            answer: bytes | None = later.then()
            return answer

        # Without blocking: a request may be withdrawn between its arrival and the read.
        self._set_blocking(False)
        heapq.heappush(self._due, (monotonic() + later.seconds, unique))
        self._postponed[unique] = delayed, later.cancel, ino

    def _next_due(self, again: bool) -> tuple[int, Callable[[int], bytes | None], int] | None:
        """Wait for a postponed request that is due, and return it with its handler and inode.

        Return None if a new request comes first, or none is postponed. With `again`, a new request takes its turn.
        """
        if again and self._arrivals.poll(0):
            return None
        while self._due:
            moment, unique = self._due[0]
            if unique in self._postponed and (wait := moment - monotonic()) > 0:
                if self._arrivals.poll(math.ceil(wait * 1000)):
                    return None
                continue
            heapq.heappop(self._due)
            if postponed := self._postponed.pop(unique, None):
                return unique, postponed[0], postponed[2]
        self._set_blocking(True)
        return None

    def _set_blocking(self, blocking: bool) -> None:
        """Let a read wait for a request, or not."""
        self._blocking = blocking
        os.set_blocking(self.descriptor, blocking)

    def interrupt(self, ino: int) -> None:
        """Handle INTERRUPT: the caller of another request got a signal. Only one that waits can still be ended."""
        (unique,) = INTERRUPT_IN.unpack_from(self.buffer, BODY)
        if postponed := self._postponed.pop(unique, None):
            postponed[1]()
            self._send(_pack_header(_HEADER, -errno.EINTR, unique))
            if len(self._due) > 2 * len(self._postponed) + MANY:
                self._due = [entry for entry in self._due if entry[1] in self._postponed]
                heapq.heapify(self._due)


def _undelivered(error: OSError) -> None:
    # ENOENT: there is no such request or inode any more. ENODEV: nor a mount.
    if error.errno not in (errno.ENOENT, errno.ENODEV):
        log.error("cannot write to /dev/fuse: %s", error)


def _errno(work: Callable[..., object], error: BaseException) -> int:
    """Return the errno of an error, or EIO for any other exception, which is a bug to log."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    with suppress(MemoryError):
        name = getattr(work, "__name__", str(work)).removeprefix("_")
        log.error("FUSE operation %s failed: returning EIO", name, exc_info=error)
    return errno.EIO
