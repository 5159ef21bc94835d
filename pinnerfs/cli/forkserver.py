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
from collections.abc import Sequence
from contextlib import suppress

from pinnerfs.cli import errors_of_memory, main
from pinnerfs.daemon.privileges import close_inherited
from pinnerfs.daemon.ready import is_ready, report_ready
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.directories import end_daemon, process_name, remove_left_directories
from pinnerfs.mounts.namespace import die_with_parent, live_without_parent

__all__ = ["serve"]

LONGEST_MOUNT = 60  # seconds


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
    children = _Children()
    sources = [requests.fileno(), owner]
    while owner not in select.select(sources, [], [])[0]:
        files: list[int] = []
        with suppress(ConnectionResetError):  # the owner was killed before it read an answer
            _, files, _, _ = socket.recv_fds(requests, 1, 2)
        if not files:  # the owner ends
            if not children.run_now():
                break
            with suppress(OSError):  # the owner was killed
                requests.send(b"daemons are left")
            sources = [owner]
            continue
        status = children.run(*files, unneeded=[requests.fileno(), owner])
        with suppress(OSError):
            requests.send(str(status).encode())
    tempfile.tempdir = directory
    remove_left_directories()
    children.end()


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


class _Children:
    """The processes of requests: daemons, and those that fail before."""

    def __init__(self) -> None:
        self._status: dict[int, int] = {}
        self._names: dict[int, str] = {}  # of those that run
        signal.signal(signal.SIGCHLD, lambda *_: self._wait())

    def _wait(self) -> None:
        """Note how children ended, so that they do not stay as zombies."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._status[ended[0]] = ended[1]
                self._names.pop(ended[0], None)

    def run_now(self) -> bool:
        """Tell whether one of them runs."""
        self._wait()
        return bool(self._names)

    def end(self) -> None:
        """End the daemons that are left: a process in another mount namespace may have a copy of their mount."""
        for name in [*self._names.values()]:
            end_daemon(name)

    def run(self, words: int, stderr: int, *, unneeded: Sequence[int]) -> int:
        """Run a request in a fork, which closes the unneeded descriptors.

        Return its exit status, or 0 when its mount answers.
        """
        self._status.clear()
        me = os.getpid()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                die_with_parent(signal.SIGKILL, me)
                os.dup2(stderr, 2)
                with open(words, "rb") as file:
                    text = file.read()
                for descriptor in *unneeded, stderr, reader:
                    os.close(descriptor)
                _become(text.split(b"\0"), writer)
            except Exception:
                logging.exception("the daemon failed")
            finally:
                os._exit(1)
        self._names[child] = process_name(child)
        for descriptor in words, stderr, writer:
            os.close(descriptor)
        with open(reader, "rb") as pipe:
            # The process that waits has ended it long before, or is gone.
            if not select.select([pipe], [], [], LONGEST_MOUNT)[0]:
                os.kill(child, signal.SIGKILL)
            if is_ready(pipe.read()):
                return 0
        with suppress(ChildProcessError):  # the handler was faster
            self._status[child] = os.waitpid(child, 0)[1]
        self._names.pop(child, None)
        return os.waitstatus_to_exitcode(self._status[child])


def _become(words: list[bytes], writer: int) -> None:
    """Do what `pinnerfs` does as a program, with the directory, the arguments and the environment of a request."""

    def ready() -> None:
        live_without_parent()
        report_ready(writer)

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
