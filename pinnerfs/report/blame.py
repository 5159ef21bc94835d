"""Sum holds up by call site, join them by page frame, and choose the site to blame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pinnerfs.report.extents import union
from pinnerfs.report.holds import Group, Places
from pinnerfs.report.model import DumpRecord, Hold, Role, Site
from pinnerfs.report.naming import Name

__all__ = ["Blame", "blame"]

_ROLES: tuple[Role, ...] = ("culprit", "candidate", "event", "victim", "allocator", "end")


class Blame:
    """The sites of a capture in the default order, and the one to blame.

    put_page: keys of the sites whose pins may have ended by put_page before the release that was recorded.
    """

    def __init__(self, sites: tuple[Site, ...], put_page: frozenset[str], culprit: Site | None) -> None:
        self.sites, self.put_page, self.culprit = sites, put_page, culprit


class _Sum:
    """What the holds of one site add up to."""

    def __init__(self, name: Name) -> None:
        self.name = name
        self.holds: list[Hold] = []
        self.cma: list[tuple[int, int]] = []  # ranges of pages
        self.cma_blocks: set[int] = set()
        self.stacks: Counter[tuple[str, ...]] = Counter()
        self.last_puts = 0
        self.put_page = False

    def add(self, group: Group, hold: Hold, places: Places) -> None:
        """Add a hold."""
        self.holds.append(hold)
        self.stacks[group.records[0].stack] += len(group.records)
        self.put_page = self.put_page or (group.name.put_page and any(map(_may_be_stale, group.records)))
        if hold.cma_pages == hold.pages:
            self.cma.append((hold.pfn, hold.pfn + hold.pages))
            self.cma_blocks.update(hold.blocks)
        elif hold.cma_pages:
            inside = [record for record in group.records if places.in_cma(record)]
            self.cma += [(record.pfn, record.pfn + 1) for record in inside]
            self.cma_blocks.update([record.block for record in inside])

    def site(self, refused: Iterable[str]) -> Site:
        """Return the site."""
        holds = self.holds
        durations = sorted(hold.duration_us for hold in holds if hold.duration_us is not None)
        unknown = any(hold.cma_pages is None for hold in holds)
        return Site(
            key=self.name.key,
            owner=self.name.owner,
            site=self.name.site,
            frame=self.name.frame,
            stack=max(self.stacks, key=self.stacks.__getitem__),
            role=self.name.role,
            holds=len(holds),
            records=sum(hold.records for hold in holds),
            pages=union((hold.pfn, hold.pfn + hold.pages) for hold in holds),
            blocks=tuple(sorted({block for hold in holds for block in hold.blocks})),
            cma_pages=None if unknown else union(self.cma),
            cma_blocks=None if unknown else tuple(sorted(self.cma_blocks)),
            page_us=sum(hold.pages * (hold.duration_us or 0) for hold in holds),
            p50_us=_rank(durations, 50),
            p99_us=_rank(durations, 99),
            max_us=_rank(durations, 100),
            refused=tuple(sorted(refused)),
        )


def _rank(values: Sequence[int], percent: int) -> int | None:
    """Return the nearest rank: the smallest value that `percent` of 100 do not exceed."""
    return values[(percent * len(values) + 99) // 100 - 1] if values else None


def blame(groups: Sequence[Group], holds: Sequence[Hold], places: Places) -> Blame:
    """Return the sites of a capture."""
    sums: dict[str, _Sum] = {}
    for group, hold in zip(groups, holds, strict=True):
        name = group.name
        if name.key not in sums:
            sums[name.key] = _Sum(name)
        sums[name.key].add(group, hold, places)
    _count_last_puts(groups, sums)
    victims = _victims(groups) if any(group.name.refused for group in groups) else {}
    sites = [found.site(victims.get(key, ())) for key, found in sums.items()]
    sites.sort(key=lambda site: (_ROLES.index(site.role), *_worst_first(site, sums[site.key])))
    put_page = frozenset(key for key, found in sums.items() if found.put_page)
    return Blame(tuple(sites), put_page, _culprit(sites, sums))


def _victims(groups: Sequence[Group]) -> dict[str, set[str]]:
    """Return for each site the allocations of others that met one of its pages.

    A page ends with its free, but another dump, as of another file, does not tell which page it is about.
    """
    here: dict[_Life, set[str]] = {}
    dumps: dict[int, dict[str, int]] = {}  # for each page frame the allocations, and their dump; -1 for several
    for name, life in _lives(groups):
        if name.refused:
            dump, pfn, _ = life
            here.setdefault(life, set()).add(name.refused)
            known = dumps.setdefault(pfn, {})
            known[name.refused] = dump if known.get(name.refused, dump) == dump else -1
    met: dict[str, set[str]] = {}
    for name, life in _lives(groups):
        dump, pfn, _ = life
        others = here.get(life, set()).union(who for who, where in dumps.get(pfn, {}).items() if where != dump)
        met.setdefault(name.key, set()).update(others - {name.site} if name.role == "victim" else others)
    return met


_Life = tuple[int, int, int]


def _lives(groups: Sequence[Group]) -> Iterator[tuple[Name, _Life]]:
    """Yield for each record its name and its page: the dump, the page frame, and how many of its frees are newer."""
    frees: dict[tuple[int, int], int] = {}
    for name, records, _ in groups:
        for record in records:
            page = record.dump, record.pfn
            if name.role == "end":
                frees[page] = frees.get(page, 0) + 1
            yield name, (*page, frees.get(page, 0))


def _may_be_stale(record: DumpRecord) -> bool:
    """Tell whether the mark may be of a pin that ended before. Where `count` counts pins, 1 is only the pin itself."""
    return record.type is None or record.count != 1


def _count_last_puts(groups: Sequence[Group], sums: dict[str, _Sum]) -> None:
    """Count for each site the pages whose last blocking reference it dropped.

    Records are newest first, so that is the first one of a page that is neither of the allocation nor ordinary. Behind
    a free, the page frame was another page.
    """
    seen: set[tuple[int, int]] = set()
    for group in groups:
        if group.name.role == "end":
            seen.difference_update((record.dump, record.pfn) for record in group.records)
        if group.name.role != "candidate" or group.name.ordinary:
            continue
        for record in group.records:
            place = (record.dump, record.pfn)
            if place not in seen:
                seen.add(place)
                sums[group.name.key].last_puts += 1


def _worst_first(site: Site, found: _Sum) -> tuple[int | bool | str, ...]:
    """Return a sort key: pageblocks in CMA, or all of them where CMA is unknown; then page seconds, then the maximum.

    A compound page counts as one page, because the kernel moves it as one, and it spoils no more blocks than one.
    A reference that every page loses in the end comes behind all others.
    """
    blocks = site.blocks if site.cma_blocks is None else site.cma_blocks
    page_us = sum((1 if hold.compound else hold.pages) * (hold.duration_us or 0) for hold in found.holds)
    return found.name.ordinary, -len(blocks), -page_us, -(site.max_us or 0), site.key


def _culprit(sites: Sequence[Site], sums: dict[str, _Sum]) -> Site | None:
    """Return the site to blame: the first that pinned, or else the one that dropped the last reference most often."""
    pinned = next((site for site in sites if site.role == "culprit"), None)
    if pinned is not None:
        return pinned
    candidates = [site for site in sites if sums[site.key].last_puts]
    return max(candidates, key=lambda site: sums[site.key].last_puts, default=None)
