"""Where pages are while FOLL_LONGTERM pins hold them: never in CMA."""

from __future__ import annotations

import msgspec

from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.scenario.memory import Memory, Region
from pinnerfs.scenario.schema import LONGTERM, Scenario, Task

__all__ = ["in_cma", "leaves_cma", "moved_to", "settled"]


def leaves_cma(task: Task, memory: Memory) -> bool:
    """Tell whether a task's pages are moved out of CMA before it pins them."""
    return task.foll == LONGTERM and in_cma(task, memory)


def in_cma(task: Task, memory: Memory) -> bool:
    """Tell whether the region of a task is CMA."""
    return any(region.name == task.region and region.migratetype == Migratetype.CMA.name for region in memory.region)


def moved_to(memory: Memory) -> Region | None:
    """Return the region to which FOLL_LONGTERM moves pages: the first movable one. None if there is none.

    check_and_migrate_cma_pages() of 5.10 and migrate_longterm_unpinnable_pages() of 6.1 allocate the new pages as
    movable ones outside of CMA.
    """
    movable = (region for region in memory.region if region.migratetype == Migratetype.Movable.name)
    return next(movable, None)


def settled(scenario: Scenario) -> Scenario:
    """Return the scenario with the regions that the tasks' pages are in while they are pinned."""
    target = moved_to(scenario.memory)
    if target is None or not any(leaves_cma(task, scenario.memory) for task in scenario.task):
        return scenario
    tasks = [
        msgspec.structs.replace(task, region=target.name) if leaves_cma(task, scenario.memory) else task
        for task in scenario.task
    ]
    return msgspec.structs.replace(scenario, task=tasks)
