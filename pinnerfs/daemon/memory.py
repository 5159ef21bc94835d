"""Settings of the process that keep a daemon small."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["save_memory"]

# From <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

ARRAY = 4 << 20  # bytes: larger than most arrays of a batch
FREE = 8 << 20  # bytes


def save_memory() -> None:
    """Let all threads share one heap. To be called before they start.

    Threads take turns at Python, so a heap for each would only multiply the room for the arrays of a batch. Each batch
    needs that room again, so up to FREE bytes of it are kept: else the kernel clears thousands of pages a second.
    """
    with suppress(AttributeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, ARRAY)
        mallopt(M_TRIM_THRESHOLD, FREE)
