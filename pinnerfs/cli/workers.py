"""The forks of the process in `forkserver`: each serves one mount after the other.

The kernel copies each page of memory that a new fork uses, and clears them all up at its end. Together that takes as
long as all the rest of a short test. So a fork goes on after a clean unmount. It ends after anything else: an error, a
signal, or a file that stays open.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from pinnerfs.cli import main
from pinnerfs.daemon.log import close_log
from pinnerfs.mounts.directories import end_daemon, process_name
from pinnerfs.mounts.namespace import die_with_parent, live_without_parent, name_process
from pinnerfs.polling import wait_readable

__all__ = ["Workers"]

LONGEST_MOUNT = 60  # seconds

# The messages of a worker: its mount answers, and it has ended a mount and waits for the next request.
READY, IDLE = b"ready", b"idle"


class _Worker:
    """A fork that serves one mount after the other, and the socket to it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.name = process_name(pid)
        self.connection = connection
        self.is_idle = True

    def message(self, timeout: float) -> bytes:
        """Return its next message: READY or IDLE. Return b"" if it has ended, or none came in time."""
        if not wait_readable(timeout, self.connection.fileno()):
            return b""
        try:
            return self.connection.recv(100)
        except ConnectionResetError:
            return b""


class Workers:
    """The workers. They close the unneeded descriptors of this process."""

    def __init__(self, unneeded: Sequence[int]) -> None:
        self._unneeded = unneeded
        self._workers: list[_Worker] = []

    def connections(self) -> list[int]:
        """Return the descriptors where the workers tell that they are idle, or have ended."""
        return [worker.connection.fileno() for worker in self._workers]

    def look(self) -> None:
        """Find out which workers are idle, and forget those that have ended, so that they do not stay as zombies."""
        for worker in [*self._workers]:
            while wait_readable(0, worker.connection.fileno()):
                worker.is_idle = worker.message(0) == IDLE
                if not worker.is_idle:
                    self._forget(worker)
                    break

    def _forget(self, worker: _Worker) -> int:
        """Wait for the end of a worker, and return its exit status."""
        self._workers.remove(worker)
        worker.connection.close()
        return os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])

    def any_serves(self) -> bool:
        """Tell whether one of them serves a mount."""
        return not all(worker.is_idle for worker in self._workers)

    def release(self) -> None:
        """Let each of them end after its mount, and the idle ones now."""
        for worker in self._workers:
            worker.connection.close()

    def end(self) -> None:
        """End those that are left: a process in another mount namespace may have a copy of their mount."""
        for worker in self._workers:
            end_daemon(worker.name)

    def run(self, files: Sequence[int]) -> int:
        """Give a request to a worker. Return the worker's exit status, or 0 when its mount answers."""
        worker = next((worker for worker in self._workers if worker.is_idle), None) or self._fork()
        worker.is_idle = False
        with suppress(BrokenPipeError):  # it was killed
            socket.send_fds(worker.connection, [b" "], files)
        for descriptor in files:
            os.close(descriptor)
        message = worker.message(LONGEST_MOUNT)
        if message == READY:
            return 0
        if not message:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)  # the process that waits has ended it long before, or is gone
        return self._forget(worker)

    def _fork(self) -> _Worker:
        me = os.getpid()
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                for descriptor in *self._unneeded, ours.detach():
                    os.close(descriptor)
                for other in self._workers:
                    other.connection.close()
                _work(theirs, me)
            except Exception:
                logging.exception("the daemon failed")
            finally:
                os._exit(1)
        theirs.close()
        worker = _Worker(pid, ours)
        self._workers.append(worker)
        return worker


def _work(connection: socket.socket, server: int) -> None:
    """Do requests until the server ends, each with a mount that is unmounted at its end."""
    while True:
        die_with_parent(signal.SIGKILL, server)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        if not files:
            return
        words, stderr, serving = files
        os.set_inheritable(serving, False)  # so that `close_inherited` keeps it
        os.dup2(stderr, 2)
        os.close(stderr)
        with open(words, "rb") as file:
            text = file.read()
        answered = False

        def ready() -> None:
            nonlocal answered
            answered = True
            live_without_parent()
            connection.send(READY)

        _become(text.split(b"\0"), ready)
        if not answered:
            os._exit(0)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        close_log()
        name_process("pinnerfs-idle")  # another mount may get the number of this one
        with suppress(BrokenPipeError):  # the server was killed
            connection.send(IDLE)
        os.close(serving)
        gc.collect()


def _become(words: list[bytes], ready: Callable[[], None]) -> None:
    """Do what `pinnerfs` does as a program, with the directory, the arguments and the environment of a request."""
    directory, count, *others = words
    os.chdir(directory)
    arguments, variables = others[: int(count)], others[int(count) :]
    os.environ.clear()
    for variable in variables:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    sys.argv[1:] = map(os.fsdecode, arguments)
    main(ready)
