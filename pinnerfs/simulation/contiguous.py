"""What a simulation shows of CMA: its areas, the counters and the kernel log."""

from __future__ import annotations

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.cma.mm import Mm

__all__ = ["CmaFiles"]


class CmaFiles:
    """The files of CMA as they are now. A simulation sets these attributes."""

    _mm: Mm
    _allocator: Allocator

    @property
    def mm(self) -> Mm:
        """Return the memory management around page_pinner."""
        return self._mm

    @property
    def areas(self) -> dict[str, Area]:
        """Return the CMA areas by name, in the order of the scenario's regions."""
        return self._allocator.areas

    def dmesg(self) -> str:
        """Return the newest lines of the kernel log."""
        return self._allocator.log.text()

    def cma_counters(self, area: str) -> dict[str, int]:
        """Return the pages asked for, as /sys/kernel/mm/cma/NAME counts them."""
        counted = self._area(area)
        return {"alloc_pages_success": counted.alloc_pages_success, "alloc_pages_fail": counted.alloc_pages_fail}

    def vmstat(self) -> dict[str, int]:
        """Return the calls of cma_alloc, as /proc/vmstat counts them."""
        return {"cma_alloc_success": self._allocator.succeeded, "cma_alloc_fail": self._allocator.failed}

    def _area(self, name: str) -> Area:
        area = self._allocator.areas.get(name)
        if area is None:
            known = ", ".join(self.areas) or "none"
            raise PinnerfsError(f"no CMA area {name!r}: the scenario has {known}", BAD_INPUT)
        return area
