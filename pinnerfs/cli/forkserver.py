"""The process that `pinnerfs.forkserver` starts: it imports everything, and forks the daemons for the requests.

Descriptor 0 is a socket for the requests, and 1 a pidfd of the process that makes them. Each request comes with three
files: its words, one for stderr, and a pipe that is closed when the mount is no longer served. The answer is the exit
status; it is 0 when the mount answers.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import tempfile
from contextlib import suppress

from pinnerfs.cli import errors_of_memory, without_collections
from pinnerfs.cli.launch import say
from pinnerfs.cli.workers import Workers
from pinnerfs.daemon.privileges import close_inherited
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.directories import remove_left_directories

__all__ = ["serve"]


def serve(directory: str) -> None:
    """Serve requests until the process that makes them ends. Then end its mounts, whose directories are in this one."""
    requests, owner = socket.socket(fileno=os.dup(0)), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in 0, 1:
        os.dup2(null, descriptor)
    os.close(null)
    close_inherited()
    with errors_of_memory(), without_collections():
        _load()
        gc.freeze()  # otherwise a collection in a fork would copy nearly all pages
    workers = Workers([requests.fileno(), owner])
    sources = [requests.fileno(), owner]
    while owner not in (came := select.select([*sources, *workers.connections()], [], [])[0]):
        workers.look()
        if requests.fileno() not in came:
            continue
        files: list[int] = []
        with suppress(ConnectionResetError):  # the owner was killed before it read an answer
            _, files, _, _ = socket.recv_fds(requests, 1, 3)
        if not files:  # the owner ends
            if not workers.any_serves():
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


if __name__ == "__main__":
    status = 0
    try:
        serve(sys.argv[1])
    except PinnerfsError as error:
        say(f"Error: {error}")
        status = error.exit_status
    # At once: taking apart all that was imported takes longer, and the owner waits.
    os._exit(status)
