"""The books in C (reference_books.c), and what they and the engine say, to be compared."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.longterm import Pinner
from pinnerfs.kernel.pages import MemoryMap
from tests.bench.measure import build

__all__ = ["Books", "books_in_c", "told_by"]


class Books:
    """The books of reference_books.c."""

    def __init__(self, library: Path, device: MemoryMap, threshold: int) -> None:
        self._code = ctypes.CDLL(str(library))
        self._code.books_new.restype = ctypes.c_void_p
        regions = [(one.start, one.frames, int(one.migratetype), one.flags) for one in device.regions.values()]
        self._regions = np.array(regions, dtype=np.int64)
        whole = ctypes.c_int64
        self._books = ctypes.c_void_p(
            self._code.books_new(
                whole(device.base_pfn),
                whole(device.frames),
                whole(threshold),
                ctypes.c_void_p(self._regions.ctypes.data),
                whole(len(regions)),
            )
        )

    def apply(self, batch: EventBatch) -> None:
        """Each event in its turn."""
        arrays = [np.ascontiguousarray(column) for column in batch.columns()]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        self._code.books_apply(self._books, *pointers, ctypes.c_int64(len(batch)))

    def told(self) -> tuple[list[int], list[list[int]]]:
        """Counters and records, newest first."""
        counters, records = np.zeros(6, np.int64), np.zeros((4096, 6), np.int64)
        self._code.books_counters(self._books, ctypes.c_void_p(counters.ctypes.data))
        filled = self._code.books_records(self._books, ctypes.c_void_p(records.ctypes.data))
        return counters.tolist(), records[:filled].tolist()

    def close(self) -> None:
        """Give the memory back."""
        self._code.books_free(self._books)


def told_by(pinner: Pinner) -> tuple[list[int], list[list[int]]]:
    """The same of the engine."""
    counted = pinner.counters.totals()
    counters = [counted["pins"], counted["releases"], counted["longterm_records"], pinner.ring.overwritten]
    names = ("elapsed", "count", "handle", "pfn", "flags", "migratetype")
    rows = [pinner.ring.newest(position) for position in range(pinner.ring.filled)]
    records = [[int(row[name]) for name in names] for row in rows if row is not None]
    return [*counters, counted["pinned_now"], pinner.counters.pinned_now_in_cma], records


@contextmanager
def books_in_c() -> Iterator[Callable[[MemoryMap, int], Books]]:
    """What makes books in C, compiled for the time being."""
    made: list[Books] = []

    def make(device: MemoryMap, threshold: int) -> Books:
        made.append(Books(library, device, threshold))
        return made[-1]

    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as folder:
        library = build("reference_books.c", Path(folder), "-shared", "-fPIC")
        try:
            yield make
        finally:
            for books in made:
                books.close()
