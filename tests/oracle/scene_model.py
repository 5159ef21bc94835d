"""The plain model of CMA as a world for the recorded scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.kernel.cma.model import Allocation, Area, Kernel, Model, Page
from tests.oracle.cases import Case
from tests.oracle.cma import mm_of
from tests.oracle.scene import Row, area_of

__all__ = ["ModelWorld"]

# The first frames of the records of each site.
FRAMES: dict[str, tuple[str, ...]] = {
    "mark": ("__alloc_contig_migrate_range", "alloc_contig_range"),
    "busy": ("test_pages_isolated", "alloc_contig_range"),
    "look": ("isolate_migratepages_block", "isolate_migratepages_range"),
    "try": ("try_to_migrate_one",),
    "moved": ("migrate_folio_done", "migrate_pages_batch"),
    "putback": ("folio_putback_lru", "putback_lru_page", "putback_movable_pages"),
    "overflow": ("release_pages", "folio_batch_move_lru", "folio_add_lru"),
    "drain": ("release_pages", "folio_batch_move_lru", "lru_add_drain_cpu"),
    "release": ("release",),
    "unmap": ("release_pages", "tlb_batch_pages_flush"),
    "truncate": ("release_pages", "__pagevec_release"),
    "free": ("free_pcp_prepare",),
}


class ModelWorld:
    """The plain model, with the areas of the recorded machine."""

    limits_log = False

    def __init__(self, case: Case) -> None:
        self._base, pages = area_of(case)
        self._areas = {"reserved": Area(self._base, pages)}
        if case.family == "cma2":
            self._areas["camera"] = Area(self._base + 16384, 4096, 2)
        self.model = Model(Kernel(case.generation, mm_of(case), one_cpu=case.family != "acf"), self._areas)
        self._pages: list[Page] = []
        self._held: list[Allocation] = []
        self._last: Allocation | None = None
        self._log: list[str] = []
        self._v3 = case.generation == "android12-5.10"
        self._total = 0

    def lay(self, offsets: list[int], *, file: bool, how: str | None) -> None:
        if how == "pin_longterm":
            return  # the pages leave the area first
        self._pages = self.model.fault([self._base + offset for offset in offsets], file=file)
        if how:
            self.pin(how)

    def pin(self, how: str) -> None:
        self.model.pin(self._pages, how)

    def release(self, how: str) -> None:
        self.model.release(self._pages, "unpin" if how == "unpin_user_page" else how)

    def _ordered(self, order: list[int]) -> list[Page]:
        places = {offset: place for place, offset in enumerate(order)}
        return sorted(self._pages, key=lambda page: places.get(page.pfn - self._base, -1))

    def unmap(self, order: list[int]) -> None:
        self.model.unmap(self._ordered(order))

    def truncate(self, order: list[int]) -> None:
        self.model.truncate(self._ordered(order))

    def drain(self) -> None:
        self.model.drain()

    def alloc(
        self, area: str, pages: int, *, release_after: tuple[int, str] | None = None, kept: bool, **options: Any
    ) -> int | None:
        model, began = self.model, self.model.now
        alloc = model.start_alloc(area, pages, kept=kept, **options)
        while alloc.next_round is not None:
            if release_after is not None and began + release_after[0] < alloc.next_round:
                model.now = began + release_after[0]
                self.release(release_after[1])
                model.drain()
                release_after = None
            model.now = alloc.next_round
            model.round(alloc)
        if release_after is not None:
            model.now = max(model.now, began + release_after[0])
            self.release(release_after[1])
            model.drain()
        if alloc.log is not None and not alloc.no_warn:
            name = "__cma_alloc" if self.model.kernel.mm == "android14-6.1" else "cma_alloc"
            self._log.append(f"cma: {name}: {area}: alloc failed, req-size: {pages} pages, ret: {alloc.log}")
        if not kept:
            self._held.append(alloc)
        self._last = alloc
        return None if alloc.first_pfn is None else alloc.first_pfn - self._areas[area].base

    def release_allocs(self) -> None:
        for alloc in self._held:
            self.model.release_alloc(alloc)
        self._held = []

    def free(self, area: str, pages: int) -> None:
        self._areas[area].give_back(pages)

    def pause(self, us: int) -> None:
        self.model.now += us

    def set_tracking(self, on: bool) -> None:
        self.model.tracking = on

    def set_buffer_size(self, size: int) -> None:
        self.model.clear(size)

    def set_threshold(self, us: int) -> None:
        self.model.threshold = us
        self.model.longterm.clear()

    def state(self, area: str) -> dict[str, Any]:
        one = self._areas[area]
        return {"used": one.used, "maxchunk": one.maxchunk, "bitmap_set_bits": one.runs(), "count": one.pages}

    def calls(self) -> tuple[int, int]:
        return self.model.calls["got"], self.model.calls["failed"]

    def new_log(self) -> list[str]:
        log, self._log = self._log, []
        return log

    def tries(self) -> int:
        assert self._last is not None
        return self._last.tries

    def rows(self) -> list[Row] | None:
        if not self.model.tracking:
            return None
        return [
            Row(one.kind, one.pfn - self._base, one.references, one.mapcount, one.mapping, self._frames(one.site))
            for one in self.model.records()
        ]

    def _frames(self, site: str) -> tuple[str, ...]:
        if not self._v3:
            return FRAMES[site]
        extra = {"mark": ("__page_pinner_mark_migration_failed_pages",), "free": ("__reset_page_pinner",)}
        return extra.get(site, ()) + FRAMES[site]

    def texts(self) -> list[str] | None:
        return None

    def total(self) -> int:
        return self.model.total

    def longterm(self) -> list[str]:
        found: Iterable[tuple[int, int, bool]] = reversed(self.model.longterm)
        lines = []
        for _, elapsed, stack in found:
            if not stack:
                break  # a record without a stack ends the file
            lines.append(f"Page pinned for {elapsed} us")
        return lines

    def longterm_at(self, position: int) -> str:
        _, elapsed, stack = self.model.longterm[-1 - position]
        return f"Page pinned for {elapsed} us" if stack else ""
