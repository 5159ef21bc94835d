"""What the tasks of an imported scenario do: one for each call site, and for each of its sizes and kinds of memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pinnerfs.importing.words import frames_of, name_of
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, ZONE_SHIFT
from pinnerfs.kernel.stacks import symbol
from pinnerfs.report.holds import Group, Places, groups
from pinnerfs.report.model import Capture, Report
from pinnerfs.report.naming import load_sites
from pinnerfs.scenario.schema import MAX_PAGES

__all__ = ["MOST_SITES", "TaskPlan", "pace", "plans"]

LENGTH_US = 60_000_000  # a guess: no file tells how long a dump took
MOST_SITES = 100
MOST_SIZES = 4  # tasks of one call site that differ in their pages
MOST_BLOCKS = 4096  # of one task
LONGEST_US = 100 * 3600 * 10**6
QUANTILES = 16


@dataclass
class TaskPlan:
    """A task of the scenario, and the region of its own that has its pages.

    site: the name that the report gives to the stack, owner: its driver. key: the site's key in the scenario's dump.
    cma: whether the region is CMA. blocks: its pageblocks. holds: how many the task makes, each of `pages` pages of
    `order`. stride: the pins, with those that are too short to be recorded, from one recorded pin to the next.
    """

    name: str
    site: str
    owner: str
    key: str
    frames: tuple[str, ...]
    foll: str
    cma: bool
    blocks: int
    flags: tuple[str, ...]
    zone: int
    of_file: bool
    pages: int
    order: int
    holds: int
    durations: list[int]
    first_block: int
    stride: int = 1
    period_us: int = 0

    @property
    def records(self) -> int:
        """Return the number of records that the task leaves."""
        return self.holds * self.pages << self.order

    @property
    def choice(self) -> tuple[list[int], list[int]]:
        """Return the times that a hold can last, and their weights: quantiles, and the longest."""
        values, count = sorted(self.durations), len(self.durations)
        if count <= QUANTILES:
            return values, [1] * count
        middles = [values[(2 * at + 1) * count // (2 * QUANTILES - 2)] for at in range(QUANTILES - 1)]
        return [*middles, values[-1]], [max(1, round(count / (QUANTILES - 1)))] * (QUANTILES - 1) + [1]


def plans(capture: Capture, report: Report, block_order: int, foll_pin: bool) -> Iterator[TaskPlan]:
    """Yield the tasks for the pins of a capture, in the order of the report's sites.

    foll_pin: whether the kernel records pins by pin_user_pages.
    """
    places = Places(capture.areas)
    by_site: dict[str, list[Group]] = {}
    for group in groups(capture.records, load_sites()):
        if group.records[0].kind == "PIN" and group.records[0].stack and _duration(group) > 0:
            by_site.setdefault(group.name.key, []).append(group)
    sites = [site for site in report.sites if site.key in by_site][:MOST_SITES]
    kept = [group for site in sites for group in by_site[site.key]]
    # The ring of the scenario has no room for the records of several dumps.
    share = min(1.0, RING_SIZE / max(1, sum(len(group.records) for group in kept)))
    used: set[str] = set()
    for site in sites:
        blocks: set[int] = set()
        for part in _parts(by_site[site.key], places):
            yield _plan(part, site.stack, site.site, site.owner, used, blocks, places, share, block_order, foll_pin)


def _parts(found: list[Group], places: Places) -> Iterator[list[Group]]:
    """Yield the holds of a site that one task can make: of one kind of memory, one order, and about one size."""
    kinds: dict[tuple[bool, int], list[Group]] = {}
    for group in found:
        kinds.setdefault((_in_cma([group], places), _order(group)), []).append(group)
    for alike in kinds.values():
        weights: Counter[int] = Counter()
        for group in alike:
            weights[_pages(group)] += _pages(group) * _duration(group)
        sizes = sorted(size for size, _ in weights.most_common(MOST_SIZES))
        for size in sizes:
            part = [group for group in alike if min(sizes, key=lambda one: abs(one - _pages(group))) == size]
            if part:
                yield part


def _plan(
    part: list[Group],
    stack: Sequence[str],
    site: str,
    owner: str,
    used: set[str],
    blocks: set[int],
    places: Places,
    share: float,
    block_order: int,
    foll_pin: bool,
) -> TaskPlan:
    """Return the task for holds. `used` has the names of other tasks, and `blocks` those of the site's other tasks."""
    sizes = sorted(map(_pages, part))
    order = min(_order(part[0]), block_order)
    pages = min(max(1, sizes[len(sizes) // 2]), MAX_PAGES >> order)
    frames = frames_of(stack)
    own = {record.block for group in part for record in group.records}
    least = -(-(pages << order) >> block_order)
    records = [record for group in part for record in group.records]
    flags = Counter(tuple(flag for flag in record.flag_names if flag != "head") for record in records)
    zones = Counter(record.flags >> ZONE_SHIFT & 3 for record in records)
    plan = TaskPlan(
        name=name_of(site, used),
        site=site,
        owner=owner,
        key=load_sites().name("PIN", frames).key,
        frames=frames,
        foll="FOLL_PIN" if foll_pin and any(map(_is_pin, frames)) else "FOLL_GET",
        cma=_in_cma(part, places),
        blocks=min(max(len(own - blocks), least, 1), MOST_BLOCKS),
        flags=tuple(flag for flag in flags.most_common(1)[0][0] if flag in PAGE_FLAG_BITS),
        zone=zones.most_common(1)[0][0],
        of_file=sum(bool(record.mapping) for record in records) * 2 > len(records),
        pages=pages,
        order=order,
        holds=max(1, round(len(part) * share)),
        durations=[min(_duration(group), LONGEST_US) for group in part],
        first_block=min(own),
    )
    blocks |= own
    return plan


def pace(tasks: Sequence[TaskPlan], block_order: int, threshold_us: int) -> int:
    """Choose when the tasks pin: so that the recorded pins touch all pageblocks, and no page is pinned twice at once.

    Return for how long they do.
    """
    for plan in tasks:
        _choose_stride(plan, block_order, threshold_us)
    length = max(LENGTH_US, *(plan.period_us * plan.holds for plan in tasks))
    length = -(-length // 10**6) * 10**6
    for plan in tasks:
        plan.period_us = -(-length // plan.holds)
    return length


def _choose_stride(plan: TaskPlan, block_order: int, threshold_us: int) -> None:
    frames = plan.pages << plan.order
    runs = (plan.blocks << block_order) // frames
    block = 1 << block_order
    strides = {1}
    if threshold_us >= 1:
        strides |= {min(max(1, stride), -(-block // frames)) for stride in (runs // plan.holds, -(-runs // plan.holds))}
    first = int.from_bytes(hashlib.sha256(plan.name.encode()).digest()[:8]) % runs

    def touched(stride: int) -> int:
        begins = (((first + stride * hold) % runs) * frames for hold in range(plan.holds))
        return len({at for begin in begins for at in range(begin // block, (begin + frames - 1) // block + 1)})

    plan.stride = min(sorted(strides, reverse=True), key=lambda stride: abs(touched(stride) - plan.blocks))
    # The walk comes back to a page after `runs` pins. The page must be free then.
    plan.period_us = -(-(max(plan.durations) + 1000) * plan.stride // runs)


def _in_cma(part: Iterable[Group], places: Places) -> bool:
    known = [places.in_cma(record) is True for group in part for record in group.records]
    return sum(known) * 2 > len(known)


def _is_pin(frame: str) -> bool:
    return symbol(frame).startswith(("pin_user_pages", "__pin_user_pages"))


def _pages(group: Group) -> int:
    return len({record.pfn for record in group.records})


def _order(group: Group) -> int:
    """Return the order of the pages: a compound page has a record for each of its frames, all with one PFN."""
    return (len(group.records) // _pages(group)).bit_length() - 1 if group.head else 0


def _duration(group: Group) -> int:
    return max(record.duration_us or 0 for record in group.records)
