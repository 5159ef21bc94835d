"""What the tasks of an imported scenario do: one for each call site, and for each of its sizes and kinds of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pinnerfs.importing.words import frames_of, name_of
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, ZONE_SHIFT
from pinnerfs.kernel.stacks import symbol
from pinnerfs.report.holds import Group, Places, groups
from pinnerfs.report.model import Capture, Report, Site
from pinnerfs.report.naming import function_of, load_sites
from pinnerfs.scenario.schema import MAX_PAGES

__all__ = ["GUESSED_US", "MOST_SITES", "TaskPlan", "plans"]

GUESSED_US = 1_000_000  # how long a hold lasts where the records do not tell it
MOST_SITES = 32
MOST_SIZES = 4  # tasks of one call site that differ in their pages
MOST_BLOCKS = 4096  # of one task
LONGEST_US = 100 * 3600 * 10**6  # of a hold
LONGEST_LENGTH_US = 30 * 24 * 3600 * 10**6  # of holds that come one after the other
MOST_ALLOCS = 300  # each looks at all pages of an area
QUANTILES = 16
_RELEASES = ("put_user_page", "unpin_user_page")


@dataclass
class TaskPlan:
    """A task of the scenario, and the region of its own that has its pages.

    site: the name that the report gives to the stack, owner: its driver. key: the site's key in the scenario's dump.
    cma: whether the region is CMA. blocks: its pageblocks. holds: how many the task makes, each of `pages` pages of
    `order`. stride: the pins, with those that are too short to be recorded, from one recorded pin to the next.

    refused: the frames that call the allocation which the pages made fail; () for a site of pins. release: the call
    that ends a hold. lead_us: how long a hold lasts before that allocation.
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
    release: str = ""
    refused: tuple[str, ...] = ()
    lead_us: int = 0
    stride: int = 1
    period_us: int = 0

    @property
    def records(self) -> int:
        """Return the number of records that the task leaves."""
        return self.holds * self.pages << self.order

    @property
    def start_us(self) -> int:
        """Return when the first hold begins.

        pixel-5.10 forgets the time of some pins, and then shows the uptime. The holds come so late that none of them
        lasts as long as the uptime.
        """
        return self.longest + GUESSED_US if self.refused else 0

    @property
    def alloc_us(self) -> int:
        """Return when the allocation comes that meets the pages of the first hold."""
        return self.start_us + (self.lead_us or max(1, min(self.durations) // 2))

    @property
    def longest(self) -> int:
        """Return how long the longest hold lasts."""
        return self.lead_us + max(self.durations)

    @property
    def choice(self) -> tuple[list[int], list[int]]:
        """Return the times that records can show, and their weights: quantiles, and the longest."""
        values, count = sorted(self.durations), len(self.durations)
        weights = Counter(values)
        if len(weights) > QUANTILES:
            weights = Counter()
            for at in range(QUANTILES - 1):
                weights[values[(2 * at + 1) * count // (2 * QUANTILES - 2)]] += max(1, round(count / (QUANTILES - 1)))
            weights[values[-1]] += 1
        return [*weights], [*weights.values()]


class _Hold(NamedTuple):
    """A hold of the capture, and how long it lasted."""

    group: Group
    us: int


class _Site(NamedTuple):
    """What all tasks of a call site have in common. used_blocks: those of the tasks that are made already."""

    site: Site
    release: str
    foll: str
    frames: tuple[str, ...]
    refused: tuple[str, ...]
    used_blocks: set[int]


def plans(
    capture: Capture, report: Report, role: Literal["culprit", "candidate"], block_order: int, foll_pin: bool
) -> Iterator[TaskPlan]:
    """Yield the tasks for the sites of a role, in the order of the report's sites.

    foll_pin: whether the kernel records pins by pin_user_pages.
    """
    places = Places(capture.areas)
    by_site: dict[str, list[_Hold]] = {}
    for group, hold in zip(groups(capture.records, load_sites()), report.holds, strict=True):
        us = hold.duration_us if role == "culprit" or hold.duration_us else GUESSED_US
        if group.name.role == role and not group.name.ordinary and group.records[0].stack and us and us > 0:
            by_site.setdefault(group.name.key, []).append(_Hold(group, min(us, LONGEST_US)))
    sites = [site for site in report.sites if site.key in by_site][:MOST_SITES]
    kept = [hold for site in sites for hold in by_site[site.key]]
    # The ring of the scenario has no room for the records of several dumps.
    share = min(1.0, RING_SIZE / max(1, sum(len(hold.group.records) for hold in kept)))
    if role == "candidate":
        share = min(share, MOST_ALLOCS / max(1, len(kept)))
    used: set[str] = set()
    for site in sites:
        about = _about(site, report, role, foll_pin)
        for part in _parts(by_site[site.key], places):
            yield _plan(part, about, name_of(site.site, used), places, share, block_order)


def _about(site: Site, report: Report, role: str, foll_pin: bool) -> _Site:
    frames = frames_of(site.stack)
    if role == "culprit":
        pins = any(symbol(frame).startswith(("pin_user_pages", "__pin_user_pages")) for frame in frames)
        return _Site(site, "", "FOLL_PIN" if foll_pin and pins else "FOLL_GET", frames, (), set())
    release = symbol(frames[0]) if len(frames) > 1 and symbol(frames[0]) in _RELEASES else ""
    foll = "FOLL_PIN" if release == "unpin_user_page" else "FOLL_GET"
    return _Site(site, release or "put_page", foll, frames[bool(release) :], _refused_by(site, report), set())


def _refused_by(site: Site, report: Report) -> tuple[str, ...]:
    """Return the frames that called an allocation which met pages of a site, or else a usual caller."""
    for victim in sorted((one for one in report.sites if one.role == "victim"), key=lambda one: -one.records):
        calls = [at for at, frame in enumerate(victim.stack) if function_of(frame) in ("cma_alloc", "__cma_alloc")]
        if calls and victim.stack[calls[-1] + 1 :] and victim.site in (site.refused or (victim.site,)):
            return frames_of(victim.stack[calls[-1] + 1 :])
    return ("cma_heap_allocate", "dma_heap_ioctl")


def _parts(found: list[_Hold], places: Places) -> Iterator[list[_Hold]]:
    """Yield the holds of a site that one task can make: of one kind of memory, one order, and about one size."""
    kinds: dict[tuple[bool, int], list[_Hold]] = {}
    for hold in found:
        kinds.setdefault((_in_cma([hold], places), _order(hold.group)), []).append(hold)
    for alike in kinds.values():
        weights: Counter[int] = Counter()
        for hold in alike:
            weights[_pages(hold.group)] += _pages(hold.group) * hold.us
        sizes = sorted(size for size, _ in weights.most_common(MOST_SIZES))
        for size in sizes:
            part = [hold for hold in alike if min(sizes, key=lambda one: abs(one - _pages(hold.group))) == size]
            if part:
                yield part


def _plan(part: list[_Hold], about: _Site, name: str, places: Places, share: float, block_order: int) -> TaskPlan:
    sizes = sorted(_pages(hold.group) for hold in part)
    order = min(_order(part[0].group), block_order)
    pages = min(max(1, sizes[len(sizes) // 2]), MAX_PAGES >> order)
    records = [record for hold in part for record in hold.group.records]
    own = {record.block for record in records}
    least = -(-(pages << order) >> block_order)
    flags = Counter(tuple(flag for flag in record.flag_names if flag != "head") for record in records)
    zones = Counter(record.flags >> ZONE_SHIFT & 3 for record in records)
    plan = TaskPlan(
        name=name,
        site=about.site.site,
        owner=about.site.owner,
        key=load_sites().name("PUT" if about.refused else "PIN", about.frames).key,
        frames=about.frames,
        foll=about.foll,
        cma=bool(about.refused) or _in_cma(part, places),
        blocks=min(max(len(own - about.used_blocks), least, 1), MOST_BLOCKS),
        flags=tuple(flag for flag in flags.most_common(1)[0][0] if flag in PAGE_FLAG_BITS),
        zone=zones.most_common(1)[0][0],
        # early android12-5.10 prints no mapping, and its pages of a file are those that make allocations fail.
        of_file=sum(bool(about.refused) if record.mapping is None else record.mapping > 0 for record in records) * 2
        > len(records),
        pages=pages,
        order=order,
        holds=max(1, round(len(part) * share)),
        durations=[min(hold.us, LONGEST_LENGTH_US // len(part)) if about.refused else hold.us for hold in part],
        first_block=min(own),
        release=about.release,
        refused=about.refused,
    )
    about.used_blocks.update(own)
    return plan


def _in_cma(part: Iterable[_Hold], places: Places) -> bool:
    known = [places.in_cma(record) is True for hold in part for record in hold.group.records]
    return sum(known) * 2 > len(known)


def _pages(group: Group) -> int:
    return len({record.pfn for record in group.records})


def _order(group: Group) -> int:
    """Return the order of the pages: a compound page has a record for each of its frames, all with one PFN."""
    return (len(group.records) // _pages(group)).bit_length() - 1 if group.head else 0
