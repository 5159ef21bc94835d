"""What a process that reads many dumps holds in memory: exact, so that a leak of one object for many dumps shows."""

from __future__ import annotations

import ctypes
import functools
import gc
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Memory", "memory"]

_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class Memory(NamedTuple):
    """What a process holds, apart from the caches of functions, which are emptied before.

    objects: small blocks of Python's allocator. bytes: what malloc() gave out for larger ones; 0 where the C library
    cannot tell. unlimited: entries of those of our caches that have no limit. resident: bytes, with what the
    allocators keep for later.
    """

    objects: int
    bytes: int
    unlimited: int
    resident: int


class _Mallinfo(ctypes.Structure):
    """What mallinfo2() of glibc returns."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS)


def _mallinfo() -> Callable[[], Any]:
    try:
        found = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return _Mallinfo
    found.restype = _Mallinfo
    return found


_MALLINFO = _mallinfo()


def memory() -> Memory:
    """Empty the caches, and return what this process holds."""
    unlimited = 0
    for cache in [found for found in gc.get_objects() if isinstance(found, functools._lru_cache_wrapper)]:
        if cache.cache_parameters()["maxsize"] is None and cache.__module__.startswith("pinnerfs."):
            unlimited += cache.cache_info().currsize
        cache.cache_clear()
    re.purge()
    gc.collect()
    blocks = _MALLINFO()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return Memory(sys.getallocatedblocks(), blocks.uordblks + blocks.hblkhd, unlimited, resident)
