"""The accounting in C (reference_accounting.c), and its results and the engine's, to compare them."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.pages import MemoryMap
from tests.bench.measure import build

__all__ = ["Reference", "reference_in_c", "results_of"]


class Reference:
    """The accounting of reference_accounting.c."""

    def __init__(self, library: Path, device: MemoryMap, threshold: int) -> None:
        self._code = ctypes.CDLL(str(library))
        self._code.accounting_new.restype = ctypes.c_void_p
        regions = [(one.start, one.frames, int(one.migratetype), one.flags) for one in device.regions.values()]
        self._regions = np.array(regions, dtype=np.int64)
        whole = ctypes.c_int64
        self._accounting = ctypes.c_void_p(
            self._code.accounting_new(
                whole(device.base_pfn),
                whole(device.frames),
                whole(threshold),
                ctypes.c_void_p(self._regions.ctypes.data),
                whole(len(regions)),
            )
        )

    def apply(self, batch: EventBatch) -> None:
        """Account for the events, one after the other."""
        arrays = [np.ascontiguousarray(column) for column in batch.columns()]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        self._code.accounting_apply(self._accounting, *pointers, ctypes.c_int64(len(batch)))

    def results(self) -> tuple[list[int], list[list[int]]]:
        """Return counters, and records newest first."""
        counters, records = np.zeros(9, np.int64), np.zeros((4096, 10), np.int64)
        self._code.accounting_counters(self._accounting, ctypes.c_void_p(counters.ctypes.data))
        filled = self._code.accounting_records(self._accounting, ctypes.c_void_p(records.ctypes.data))
        return counters.tolist(), records[:filled].tolist()

    def close(self) -> None:
        """Free the memory."""
        self._code.accounting_free(self._accounting)


def results_of(pinner: Pinner) -> tuple[list[int], list[list[int]]]:
    """Return the engine's counters and sums of its pages' state, and records newest first."""
    counted, state, ring = pinner.counters.totals(), pinner.state, pinner.rings["longterm_pinner"]
    counters = [counted["pins"], counted["releases"], counted["longterm_records"], ring.overwritten]
    counters += [counted["pinned_now"], pinner.counters.pinned_now_in_cma]
    counters += [int(array.sum(dtype=np.int64)) for array in (state.references, state.mapcount, state.bits)]
    records = [list(row.item()) for row in map(ring.newest, range(ring.filled)) if row is not None]
    return counters, records


@contextmanager
def reference_in_c() -> Iterator[Callable[[MemoryMap, int], Reference]]:
    """Compile the C code, and yield a function that makes an accounting of a device with a threshold."""
    made: list[Reference] = []

    def make(device: MemoryMap, threshold: int) -> Reference:
        made.append(Reference(library, device, threshold))
        return made[-1]

    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as directory:
        library = build("reference_accounting.c", Path(directory), "-shared", "-fPIC")
        try:
            yield make
        finally:
            for reference in made:
                reference.close()
