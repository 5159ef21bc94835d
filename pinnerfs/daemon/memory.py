"""Settings of the process that keep a daemon small."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

__all__ = ["save_memory"]

M_ARENA_MAX = -8  # from <malloc.h>


def save_memory() -> None:
    """Let all threads share one heap, and exempt what exists now from garbage collection.

    Threads take turns at Python, so a heap for each would only multiply the room for the arrays of a batch.
    """
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    gc.freeze()
