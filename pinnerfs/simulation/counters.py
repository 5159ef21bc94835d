"""The counters of a simulation: of all together, and of each task."""

from __future__ import annotations

from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.ring import Ring
from pinnerfs.kernel.stacks import StackDepot

__all__ = ["by_task", "totals"]


def totals(pinner: Pinner, ring: Ring, allocator: Allocator, shares_empty: int) -> dict[str, int]:
    """Return the counters since the start, by name: see `Simulation.stats`. `ring` is the main record file's."""
    counters = pinner.counters
    counted = counters.totals()
    first = {name: counted.pop(name) for name in ("pins", "releases", "longterm_records")}
    return {
        **first,
        "records_overwritten": ring.overwritten,
        "records_now": ring.filled,
        "pinned_now": counted.pop("pinned_now"),
        "pinned_now_in_cma": counters.pinned_now_in_cma,
        "held_now": counted.pop("held_now"),
        **counted,
        "shares_empty": shares_empty,
        "allocs_ok": allocator.succeeded,
        "allocs_failed": allocator.failed,
        "cma_pages_now": sum(area.used for area in allocator.areas.values()),
    }


def by_task(
    pinner: Pinner, depot: StackDepot, tasks: list[str], shares_empty: dict[str, int]
) -> dict[str, dict[str, int]]:
    """Return the counters of each task, by its name: see `Simulation.explain`."""
    counted = {name: pinner.counters.of(depot.handles(name)) for name in tasks}
    return {name: counters | {"shares_empty": shares_empty.get(name, 0)} for name, counters in counted.items()}
