"""The command line: one module per command, imported when it is needed.

This module imports nothing slow: SIGINT has to be handled before the slow imports begin.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["errors_of_memory", "exit_on_interrupt", "limits_memory", "main", "without_collections"]

INTERRUPTED = 128 + signal.SIGINT  # the exit status of a command that Ctrl-C ends, as shells report it
NO_MEMORY = b"Error: out of memory; wanted a higher limit on this process (ulimit -v)\n"


def exit_on_interrupt() -> None:
    """Exit with status 130 on SIGINT, at once and without a traceback; a SIGINT that is ignored stays ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def limits_memory() -> bool:
    """Return whether this process may only get some of the machine's memory."""
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)


@contextmanager
def errors_of_memory() -> Iterator[None]:
    """Exit with status 1 and one line if memory runs out.

    A library that cannot be mapped is an ImportError, and Python itself raises SystemError at times.
    """
    try:
        yield
    except (MemoryError, ImportError, SystemError) as error:
        if not isinstance(error, MemoryError) and not limits_memory():
            raise
        os.write(2, NO_MEMORY)
        os._exit(1)


@contextmanager
def without_collections() -> Iterator[None]:
    """Import in the `with` block without garbage collections: imports make many objects and hardly any garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def main(ready: Callable[[], None] | None = None) -> None:
    """Run the program `pinnerfs`. For `ready` see `launch`."""
    exit_on_interrupt()
    with errors_of_memory():
        with without_collections():
            from pinnerfs.cli.commands import commands
            from pinnerfs.cli.launch import launch

            gc.freeze()  # later collections do not look at what was imported
        launch(lambda: commands, "pinnerfs", ready)
