"""Import numpy, whose libraries end a process that has too little memory or too few threads."""

from __future__ import annotations

import os
import sys

from pinnerfs.cli import limits_memory
from pinnerfs.errors import PinnerfsError, in_a_line

__all__ = ["find_numpy", "load_numpy"]

THREADS = "OPENBLAS_NUM_THREADS"


def find_numpy() -> None:
    """Raise PinnerfsError if numpy is not installed. Does not import it, which takes longer than a mount."""
    if "numpy" in sys.modules:
        return
    from importlib.util import find_spec

    found = find_spec("numpy")
    if found is None or found.origin is None:  # an empty directory has no origin
        raise PinnerfsError("cannot find numpy; wanted it to be installed (python3 -m pip install numpy)")
    if found.submodule_search_locations is None:
        raise PinnerfsError(in_a_line(f"Python finds {found.origin} in place of numpy; wanted another name for it"))


def load_numpy() -> None:
    """Import numpy. PinnerfsError if that fails, MemoryError if the limits on this process do not allow it.

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

    try:
        import numpy as np  # noqa: F401
    except Exception as error:
        if isinstance(error, MemoryError) or limits_memory():
            raise  # `errors_of_memory` handles it
        # numpy's own message has many lines. The first exception says more.
        reason = in_a_line(f"cannot import numpy: {error.__cause__ or error}")
        remedy = "wanted it installed anew (python3 -m pip install --force-reinstall numpy)"
        raise PinnerfsError(f"{reason}; {remedy}") from None


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
