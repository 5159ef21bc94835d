"""Import numpy, whose libraries end a process that has too little memory or too few threads."""

from __future__ import annotations

import os
import sys

from pinnerfs.cli import limits_memory
from pinnerfs.errors import PinnerfsError

__all__ = ["find_numpy", "load_numpy"]

THREADS = "OPENBLAS_NUM_THREADS"


def find_numpy() -> None:
    """Raise PinnerfsError if numpy is not installed. Does not import it, which takes longer than a mount."""
    from importlib.util import find_spec

    if "numpy" not in sys.modules and find_spec("numpy") is None:
        raise PinnerfsError("cannot find numpy; wanted it to be installed (python3 -m pip install numpy)")


def load_numpy() -> None:
    """Import numpy. PinnerfsError if it is not installed, MemoryError if the limits on this process do not allow it.

    OpenBLAS, a part of numpy that pinnerfs does not use, starts a thread for each processor. If it cannot, it sends
    this process SIGINT.
    """
    if "numpy" in sys.modules:
        return
    find_numpy()
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        if limits_memory() and not _loads():
            raise MemoryError
        _load()
    finally:
        # The environment is also that of the command of `run`.
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def _load() -> None:
    # A simulation needs both. hashlib's import prints lines of its own where memory runs out.
    import hashlib  # noqa: F401

    import numpy as np  # noqa: F401


def _loads() -> bool:
    """Try it in a child process: where memory runs out, OpenBLAS prints lines of its own and exits."""
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            _load()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0
