"""The stream of requests and answers, with a socket instead of /dev/fuse."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pinnerfs.debugfs.declaration import Later
from pinnerfs.fuse import connection as module
from pinnerfs.fuse.connection import MANY, Connection
from pinnerfs.fuse.messages import IN_HEADER, INTERRUPT_IN, OUT_HEADER
from tests.mount.support import DEADLINE

FAST, SLOW, BROKEN, REFUSED, CHAIN, SILENT, INTERRUPT = range(1, 8)
HOUR = 3_600_000  # ms


class Stream:
    """The daemon's end of the connection, which ends like /dev/fuse."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def readinto(self, buffer: bytearray) -> int | None:
        try:
            if size := self._end.recv_into(buffer):
                return size
        except BlockingIOError:
            return None
        raise OSError(errno.ENODEV, "unmounted")

    def write(self, data: bytes) -> int:
        return self._end.send(data)


class Kernel:
    """The other end of a connection. The number of the inode tells the handlers what to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cancelled: list[int] = []  # the inodes of requests
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end.settimeout(DEADLINE)
        self.theirs = theirs

        # The connection closes its descriptor at the end.
        self.connection = Connection(os.dup(theirs.fileno()), -1)
        monkeypatch.setattr(self.connection, "_file", Stream(theirs))
        handlers = {
            FAST: lambda ino: b"fast %d" % ino,
            SLOW: self._slow,
            BROKEN: self._broken,
            REFUSED: self._refused,
            CHAIN: self._chain,
            SILENT: lambda ino: None,
            INTERRUPT: self.connection.interrupt,
        }
        self._thread = threading.Thread(target=self.connection.serve, args=(handlers,))
        self._thread.start()

    def _slow(self, ino: int) -> bytes:
        """Answer after `ino` ms."""
        raise Later(ino / 1000, lambda: b"slow %d" % ino, lambda: self.cancelled.append(ino))

    @staticmethod
    def _broken(ino: int) -> bytes:
        raise ValueError("a bug")

    @staticmethod
    def _refused(ino: int) -> bytes:
        raise Later(0.001, Kernel._refusal)

    @staticmethod
    def _refusal() -> bytes:
        raise OSError(errno.EPERM, "refused")

    def _chain(self, ino: int) -> bytes:
        """Answer when `ino` requests have arrived during the delays."""
        if ino == 0:
            return b"chain"
        self.send(FAST, 100 + ino, ino)
        raise Later(0, lambda: self._chain(ino - 1))

    def send(self, opcode: int, unique: int, ino: int = 0, body: bytes = b"") -> None:
        """Send a request."""
        self._end.send(IN_HEADER.pack(IN_HEADER.size + len(body), opcode, unique, ino, 1, 2, 3, 0, 0) + body)

    def interrupt(self, unique: int) -> None:
        """Send an interrupt of a request."""
        self.send(INTERRUPT, 0, 0, INTERRUPT_IN.pack(unique))

    def answer(self) -> tuple[int, int, bytes]:
        """Return the next answer: the request, its errno and the data."""
        message = self._end.recv(4096)
        length, error, unique = OUT_HEADER.unpack_from(message)
        assert length == len(message)
        return unique, -error, message[OUT_HEADER.size :]

    def wait_until_blocking(self) -> None:
        """Wait until the daemon waits for a request without looking at the time."""
        until = time.monotonic() + DEADLINE
        while not os.get_blocking(self.theirs.fileno()):
            assert time.monotonic() < until

    def close(self) -> None:
        """End the connection."""
        self._end.close()
        self._thread.join(DEADLINE)
        self.theirs.close()
        assert not self._thread.is_alive()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Connect, and end the connection after the test."""
    kernel = Kernel(monkeypatch)
    try:
        yield kernel
    finally:
        kernel.close()


def test_answers_in_turn(kernel: Kernel) -> None:
    """Requests without a delay are answered in their order; some have no answer."""
    for unique in range(10):
        kernel.send(SILENT, 100)
        kernel.send(FAST, unique, 7)
    assert [kernel.answer() for _ in range(10)] == [(unique, 0, b"fast 7") for unique in range(10)]


def test_a_bug(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that is no OSError is EIO, and is logged with the operation."""
    kernel.send(BROKEN, 1)
    assert kernel.answer() == (1, errno.EIO, b"")
    kernel.send(FAST, 2)
    assert kernel.answer() == (2, 0, b"fast 0")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.messages == ["FUSE operation broken failed: returning EIO"]


def test_late_answers(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late answers come in the order of their moments, and others come before."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    for unique, delay in ((1, HOUR), (2, 300), (3, 200), (4, 100)):
        kernel.send(SLOW, unique, delay)
    kernel.send(FAST, 5)
    assert kernel.answer() == (5, 0, b"fast 0")
    now[0] = 1.0
    assert [kernel.answer()[2] for _ in range(3)] == [b"slow 100", b"slow 200", b"slow 300"]


def test_a_late_error(kernel: Kernel) -> None:
    """A late answer can be an error."""
    kernel.send(REFUSED, 1)
    assert kernel.answer() == (1, errno.EPERM, b"")
    kernel.wait_until_blocking()


def test_a_delay_after_a_delay(kernel: Kernel) -> None:
    """Between the attempts of a request that is delayed again and again, others are answered."""
    kernel.send(CHAIN, 1, 3)
    assert sorted(kernel.answer() for _ in range(4)) == [
        (1, 0, b"chain"),
        (101, 0, b"fast 1"),
        (102, 0, b"fast 2"),
        (103, 0, b"fast 3"),
    ]
    kernel.wait_until_blocking()


def test_no_delay_left(kernel: Kernel) -> None:
    """After the last late answer the daemon sleeps until the next request, even if one came meanwhile."""
    for unique in range(1, 100):
        kernel.send(SLOW, unique, 1)
        kernel.send(FAST, 1000 + unique)
        assert {kernel.answer()[0] for _ in range(2)} == {unique, 1000 + unique}
    kernel.wait_until_blocking()


def test_interrupts(kernel: Kernel) -> None:
    """An interrupt ends a request that waits, and no other."""
    kernel.send(SLOW, 1, HOUR)
    kernel.send(SLOW, 2, HOUR)
    kernel.interrupt(3)
    kernel.interrupt(2)
    assert kernel.answer() == (2, errno.EINTR, b"")
    kernel.interrupt(2)
    kernel.send(FAST, 4)
    assert kernel.answer() == (4, 0, b"fast 0")
    kernel.interrupt(1)
    assert kernel.answer() == (1, errno.EINTR, b"")
    kernel.wait_until_blocking()
    assert kernel.cancelled == [HOUR, HOUR]


def test_many_interrupts(kernel: Kernel) -> None:
    """Interrupted requests are forgotten while an older one still waits."""
    kernel.send(SLOW, 1, HOUR)
    for unique in range(2, 3 * MANY):
        kernel.send(SLOW, unique, HOUR)
        kernel.interrupt(unique)
        assert kernel.answer() == (unique, errno.EINTR, b"")
    kernel.send(FAST, 0)
    assert kernel.answer() == (0, 0, b"fast 0")
    assert len(kernel.connection._due) <= MANY + 3
