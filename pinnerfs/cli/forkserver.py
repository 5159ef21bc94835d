"""The process that `pinnerfs.forkserver` starts: it imports everything, and forks a daemon for each request.

Descriptor 0 is a socket for the requests, and 1 a pidfd of the process that makes them. Each request comes with two
files: its words, and one for stderr. The answer is the exit status; it is 0 when the mount answers.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress

from pinnerfs.cli import errors_of_memory, main
from pinnerfs.daemon.log import close_log
from pinnerfs.daemon.privileges import close_inherited
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.directories import end_daemon, process_name, remove_left_directories
from pinnerfs.mounts.namespace import die_with_parent, live_without_parent, name_process

__all__ = ["serve"]

LONGEST_MOUNT = 60  # seconds

# The messages of a worker: its mount answers, and it has ended a mount and waits for the next request.
READY, IDLE = b"ready", b"idle"


def serve(directory: str) -> None:
    """Serve requests until the process that makes them ends. Then end its mounts, whose directories are in this one."""
    requests, owner = socket.socket(fileno=os.dup(0)), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in 0, 1:
        os.dup2(null, descriptor)
    os.close(null)
    close_inherited()
    with errors_of_memory():
        _load()
    # Else a collection in a fork would copy nearly all pages.
    gc.collect()
    gc.freeze()
    workers = _Workers([requests.fileno(), owner])
    sources = [requests.fileno(), owner]
    while owner not in (came := select.select([*sources, *workers.connections()], [], [])[0]):
        workers.look()
        if requests.fileno() not in came:
            continue
        files: list[int] = []
        with suppress(ConnectionResetError):  # the owner was killed before it read an answer
            _, files, _, _ = socket.recv_fds(requests, 1, 3)
        if not files:  # the owner ends
            if not workers.serve():
                break
            with suppress(OSError):  # the owner was killed
                requests.send(b"daemons are left")
            sources = [owner]
            continue
        status = workers.run(files)
        with suppress(OSError):
            requests.send(str(status).encode())
    workers.release()
    tempfile.tempdir = directory
    remove_left_directories()
    workers.end()


def _load() -> None:
    """Import all that a mount needs, and use it once: much is made at its first use."""
    from pinnerfs.cli.load_numpy import load_numpy

    load_numpy()
    from pinnerfs import pace  # noqa: F401
    from pinnerfs.cli import commands, mount  # noqa: F401
    from pinnerfs.daemon import daemon  # noqa: F401
    from pinnerfs.fuse.libfuse import check_libfuse
    from pinnerfs.replay import replay  # noqa: F401
    from pinnerfs.scenario.gallery import load
    from pinnerfs.simulation import Simulation

    if os.geteuid() != 0:
        with suppress(PinnerfsError):  # the mount tells it
            check_libfuse()
    Simulation(load("camera-stall")).advance("1s")


class _Worker:
    """A fork that serves one mount after the other, and the socket to it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.name = process_name(pid)
        self.connection = connection
        self.is_idle = True

    def message(self, timeout: float) -> bytes:
        """Return its next message: READY or IDLE. Return b"" if it has ended, or none came in time."""
        if not select.select([self.connection], [], [], timeout)[0]:
            return b""
        try:
            return self.connection.recv(100)
        except ConnectionResetError:
            return b""


class _Workers:
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
            if select.select([worker.connection], [], [], 0)[0]:
                worker.is_idle = worker.message(0) == IDLE
                if not worker.is_idle:
                    self._forget(worker)

    def _forget(self, worker: _Worker) -> int:
        """Wait for the end of a worker, and return its exit status."""
        self._workers.remove(worker)
        worker.connection.close()
        return os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])

    def serve(self) -> bool:
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


if __name__ == "__main__":
    serve(sys.argv[1])
