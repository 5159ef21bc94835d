"""A table of holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s

__all__ = ["Holds"]


@dataclass(frozen=True)
class Holds:
    """A table of holds, one row for each hold. The rows of one instance are in order of their begin.

    begin, end, unmap: boot time in µs. pfn: the first frame of each run of pages, of shape (holds, runs); no columns if
    the pages are another task's. instance: the instance that holds the pages. release: the call (Event) at the end, or
    NO_RELEASE.
    """

    begin: Int64s
    end: Int64s
    pfn: Int64s
    instance: Int64s
    release: npt.NDArray[np.uint8]
    unmap: Int64s

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, rows: slice) -> Holds:
        return Holds(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the columns in their order above."""
        return self.begin, self.end, self.pfn, self.instance, self.release, self.unmap

    def take(self, rows: Int64s) -> Holds:
        """Return the rows with these numbers."""
        return Holds(*(column.take(rows, axis=0) for column in self.columns()))

    @classmethod
    def concatenate(cls, tables: list[Holds]) -> Holds:
        """Return one table of all rows, in the given order. At least one table is needed."""
        if len(tables) == 1:
            return tables[0]
        return cls(*map(np.concatenate, zip(*(table.columns() for table in tables), strict=True)))

    def by_instance(self) -> Holds:
        """Return the same holds, sorted by instance."""
        return self.take(stable_order(self.instance))
