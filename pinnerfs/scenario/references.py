"""Check what the tables of a scenario say about each other: names that must exist, pages that must fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from pinnerfs.kernel.cma.mm import MMS
from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.expectations import AllocCounts
from pinnerfs.scenario.faults import CMA
from pinnerfs.scenario.longterm import in_cma, leaves_cma, moved_to
from pinnerfs.scenario.memory import Memory
from pinnerfs.scenario.messages import nearest, unknown_name
from pinnerfs.scenario.schema import LONGTERM, Scenario, Task
from pinnerfs.scenario.tables import KeyPath, TableError, check_text
from pinnerfs.words import count_of

__all__ = ["check_references"]


def check_references(scenario: Scenario) -> None:
    """Raise TableError if a region, a task or an expectation does not fit the rest of the scenario."""
    _check_names(scenario)
    for number, region in enumerate(scenario.memory.region):
        try:
            scenario.memory.check_multiple(region.size)
        except ValueError as error:
            raise TableError(str(error), ("memory", "region", number), "size") from None
    tasks = {task.name: task for task in scenario.task}
    for number, task in enumerate(scenario.task):
        path = ("task", number)
        if task.stack not in scenario.stack:
            raise TableError(unknown_name("stack", task.stack, scenario.stack, "stack"), path, "stack")
        if task.release_stack is not None:
            _check_own_frames(scenario, "release_stack", task.release_stack, path)
        if task.share is None:
            _check_pages(scenario, task, path)
            continue
        others = [name for name in tasks if name != task.name]
        if task.share == task.name:
            raise TableError(f"share = {task.share!r} is the task itself: it must be another task", path, "share")
        if task.share not in others:
            raise TableError(unknown_name("share", task.share, others, "other task"), path, "share")
        if tasks[task.share].share is not None:
            message = f"share = {task.share!r} must be a task with pages of its own, but that task shares, too"
            raise TableError(message, path, "share")
        owner = tasks[task.share]
        if task.foll == LONGTERM and owner.foll != LONGTERM and in_cma(owner, scenario.memory):
            message = (
                f"share = {task.share!r} holds its pages in CMA, and {LONGTERM} cannot move pages out of CMA while "
                f"they are pinned: share a task outside of CMA"
            )
            raise TableError(message, path, "share")
    _check_allocs(scenario)
    _check_faults(scenario)
    if scenario.culprit is not None and scenario.culprit not in ("none", *tasks):
        raise TableError(unknown_name("culprit", scenario.culprit, [*tasks, "none"], "task"), (), "culprit")
    # A misspelt symbol is never found, and then an expectation of no records always holds.
    known = {symbol(frame) for stack in scenario.stack.values() for frame in stack.frames}
    if any(region.cma is not None for region in scenario.memory.region):
        known |= {frame for mm in MMS.values() for frame in (mm.log_name, *chain.from_iterable(mm.frames))}
    for number, expectation in enumerate(scenario.expect):
        if expectation.allocs is not None:
            _check_alloc_counts(scenario, expectation.allocs, ("expect", number))
        if expectation.call_site is not None and expectation.call_site not in known:
            message = (
                f"call_site = {expectation.call_site!r} must be a symbol of the stacks' frames, "
                f"without offset and module{nearest(expectation.call_site, known)}"
            )
            raise TableError(message, ("expect", number), "call_site")


def _check_names(scenario: Scenario) -> None:
    for name in scenario.stack:
        try:
            check_text("a stack's name", name)
        except ValueError as error:
            raise TableError(str(error), ("stack", name), complete=True) from None
    _check_unique("region", [region.name for region in scenario.memory.region], ("memory", "region"))
    _check_unique("CMA area", [region.cma for region in scenario.memory.region], ("memory", "region"), "cma")
    _check_unique("task", [task.name for task in scenario.task], ("task",))
    _check_unique("alloc", [alloc.name for alloc in scenario.alloc], ("alloc",))


def _check_unique(kind: str, names: Sequence[str | None], path: KeyPath, key: str = "name") -> None:
    """Raise TableError at the second of two equal names. None is no name."""
    known: set[str] = set()
    for number, name in enumerate(names):
        if name in known:
            raise TableError(f"two {kind}s have the name {name!r}", (*path, number), key, complete=True)
        if name is not None:
            known.add(name)


def _check_alloc_counts(scenario: Scenario, counts: AllocCounts, path: KeyPath) -> None:
    names = [alloc.name for alloc in scenario.alloc]
    if counts.name is not None and counts.name not in names:
        raise TableError(f"allocs.{unknown_name('name', counts.name, names, 'alloc')}", path, "allocs")
    if not names:
        raise TableError("allocs: this scenario has no alloc", path, "allocs")


def _check_allocs(scenario: Scenario) -> None:
    areas = {region.cma: region for region in scenario.memory.region if region.cma is not None}
    for number, alloc in enumerate(scenario.alloc):
        path = ("alloc", number)
        if alloc.area not in areas:
            raise TableError(unknown_name("area", alloc.area, areas, "CMA area"), path, "area")
        _check_own_frames(scenario, "stack", alloc.stack, path)
        if alloc.pages > (room := areas[alloc.area].frames):
            message = f"pages = {alloc.pages} is more than area {alloc.area!r} has: {room}"
            raise TableError(message, path, "pages")


def _check_faults(scenario: Scenario) -> None:
    """Check that the areas exist whose files rules are about. Their directories depend on the kernel."""
    areas = [region.cma for region in scenario.memory.region if region.cma is not None]
    names = dict.fromkeys(mm.directory(area) for area in areas for mm in MMS.values())
    for number, fault in enumerate(scenario.fault):
        if fault.file is not None and fault.file.startswith(f"{CMA}/"):
            directory = fault.file.split("/")[1]
            if directory not in names:
                message = unknown_name("file", fault.file, [f"{CMA}/{name}/FILE" for name in names], "CMA area")
                raise TableError(message, ("fault", number), "file")


def _check_own_frames(scenario: Scenario, key: str, name: str, path: KeyPath) -> None:
    """Check that a stack of something other than a pin exists, and has no frames of the path of a pin."""
    if name not in scenario.stack:
        raise TableError(unknown_name(key, name, scenario.stack, "stack"), path, key)
    if scenario.stack[name].via is not None:
        raise TableError(f"{key} = {name!r} has `via`, the path of a pin: wanted a stack without it", path, key)


def _check_move(task: Task, memory: Memory, path: KeyPath) -> None:
    """Check that there is a place for pages that FOLL_LONGTERM moves out of CMA."""
    target, needed = moved_to(memory), (task.pages or 1) << (task.order or 0)
    moves = f"{task.foll} moves the pages out of region {task.region!r}, which is CMA"
    if target is None:
        raise TableError(f"{moves}, and no region is Movable: add one", path, "foll")
    if task.pfn is not None:
        raise TableError(f"pfn = {task.pfn}: {moves}: leave out pfn", path, "pfn")
    if needed > target.frames:
        message = f"{moves}: one hold takes {count_of(needed, 'frame')}, and region {target.name!r} has {target.frames}"
        raise TableError(message, path, "pages")


def _check_pages(scenario: Scenario, task: Task, path: KeyPath) -> None:
    memory = scenario.memory
    regions = {region.name: region for region in memory.region}
    assert task.region is not None
    if task.region not in regions:
        raise TableError(unknown_name("region", task.region, regions, "region"), path, "region")
    if leaves_cma(task, memory):
        _check_move(task, memory, path)
    order = task.order or 0
    if order > memory.pageblock_order:
        message = f"order = {order} must be at most the pageblock_order, {memory.pageblock_order}"
        raise TableError(message, path, "order")
    needed, room = (task.pages or 1) << order, regions[task.region].frames
    if needed > room:
        message = f"one hold takes {count_of(needed, 'frame')}, and region {task.region!r} has {room}"
        raise TableError(message, path, "pages")
    if task.pfn is None:
        return
    first = memory.first_frame(task.region)
    last, end = first + room - 1, task.pfn + task.instances * needed - 1
    if task.pfn < first or end > last:
        message = (
            f"pfn = {task.pfn} places its pages at frames {task.pfn} to {end}, "
            f"outside of region {task.region!r} ({first} to {last})"
        )
        raise TableError(message, path, "pfn")
