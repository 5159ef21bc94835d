"""CMA allocations by the engine, by the plain model and in C (reference_cma.c), with the same results."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pinnerfs import Simulation, parse
from pinnerfs.kernel.calls import Event
from tests.bench.measure import build
from tests.kernel.cma.model import Area, Kernel, Model, Page, Record
from tests.oracle.scene_simulation import Calls, scenario_of

__all__ = ["BASE", "InC", "InEngine", "InPython", "Results", "in_c"]

BASE = 1 << 16
STEP = 1000  # µs from one allocation to the next
NEWEST = 4096

# The first PFN of each allocation or 0, and (kind, PFN, count, mapcount, time) of the records, newest first.
Results = tuple[list[int], list[tuple[int, ...]]]
KINDS = ("DETECT", "PUT", "FREE")


class InEngine:
    """The engine."""

    def __init__(self, pages: int, pinned: Sequence[int], *, file: bool) -> None:
        text = scenario_of(file=file, base=BASE, pages=pages)
        self._simulation = Simulation(parse(text), kernel="android14-6.1", mm="6.1.192")
        if pinned:
            Calls(self._simulation).make(Event.get_user_pages, pinned)

    def allocate(self, pages: Sequence[int]) -> list[int]:
        """Allocate, and give back at once."""
        simulation, got = self._simulation, []
        for number in pages:
            simulation.advance(STEP)
            allocation = simulation.start_alloc("reserved", number)
            got.append(allocation.first_pfn or 0)
            if allocation.first_pfn is not None:
                simulation.release_alloc(allocation)
        return got

    def records(self) -> list[tuple[int, ...]]:
        """Return the newest records."""
        found: list[tuple[int, ...]] = []
        for record in self._simulation.records():
            assert record.kind is not None
            time = record.moment if record.ts is None else record.ts
            found.append((KINDS.index(record.kind.name), record.pfn, record.count, record.mapcount or 0, time or 0))
        return found


class _EachBit(Area):
    """An area that looks at bit after bit, as the C program does."""

    def find(self, start: int, pages: int, align: int) -> int | None:
        """Return the first bit of enough clear ones; the alignment is 0 here."""
        clear = 0
        for bit in range(start, self.pages):
            clear = 0 if self.bits[bit] else clear + 1
            if clear == pages:
                return bit + 1 - pages
        return None


class _EachPage(Model):
    """A model that looks at page after page, as the C program does. The one for tests takes short cuts."""

    def _in_range(self, first: int, pages: int) -> Iterator[Page]:
        for pfn in range(first, first + pages):
            if pfn in self.pages:
                yield self.pages[pfn]


class InPython:
    """The plain model."""

    def __init__(self, pages: int, pinned: Sequence[int], *, file: bool) -> None:
        self._model = _EachPage(Kernel("android14-6.1"), {"reserved": _EachBit(BASE, pages)})
        self._model.pin(self._model.fault(pinned, file=file), "get")

    def allocate(self, pages: Sequence[int]) -> list[int]:
        """Allocate, and give back at once."""
        model, got = self._model, []
        for number in pages:
            model.now += STEP
            allocation = model.start_alloc("reserved", number)
            got.append(allocation.first_pfn or 0)
            model.release_alloc(allocation)
        return got

    def records(self) -> list[tuple[int, ...]]:
        """Return the newest records."""
        return [
            (
                KINDS.index(one.kind),
                one.pfn,
                one.references,
                one.mapcount,
                one.elapsed if one.kind == "PUT" else one.time,
            )
            for one in self._model.records()
        ]


def _shown_time(record: Record) -> int:
    return record.elapsed if record.kind == "PUT" else record.time


class InC:
    """The C program."""

    def __init__(self, code: Any, pages: int, pinned: Sequence[int], *, file: bool) -> None:
        self._code = code
        self._cma = ctypes.c_void_p(code.cma_new(ctypes.c_int64(BASE), ctypes.c_int64(pages)))
        pfns = np.array(pinned, dtype=np.int64)
        code.cma_pin(self._cma, ctypes.c_void_p(pfns.ctypes.data), ctypes.c_int64(len(pfns)), int(file))

    def allocate(self, pages: Sequence[int]) -> list[int]:
        """Allocate, and give back at once."""
        wanted, got = np.array(pages, dtype=np.int64), np.zeros(len(pages), dtype=np.int64)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (wanted, got)]
        self._code.cma_allocate(self._cma, *pointers, ctypes.c_int64(len(wanted)), ctypes.c_int64(STEP))
        found: list[int] = got.tolist()
        return found

    def records(self) -> list[tuple[int, ...]]:
        """Return the newest records."""
        found = np.zeros((NEWEST, 5), dtype=np.int64)
        total = self._code.cma_records(self._cma, ctypes.c_void_p(found.ctypes.data))
        return [tuple(row) for row in found[: min(total, NEWEST)].tolist()]

    def close(self) -> None:
        """Free the memory."""
        self._code.cma_free(self._cma)


@contextmanager
def in_c() -> Iterator[Any]:
    """Compile and load the C program."""
    with tempfile.TemporaryDirectory() as directory:
        code = ctypes.CDLL(str(build("reference_cma.c", Path(directory), "-shared", "-fPIC")))
        code.cma_new.restype = ctypes.c_void_p
        code.cma_records.restype = ctypes.c_int64
        yield code
