"""Choose and sort the records and call sites that a report is about."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec.structs import replace

from pinnerfs.report.columns import COLUMNS, SORT_KEYS
from pinnerfs.report.extents import compound_pages, union
from pinnerfs.report.holds import groups
from pinnerfs.report.model import Capture, DumpRecord, Hold, Report, Role, Site
from pinnerfs.report.naming import load_sites
from pinnerfs.words import count_of

__all__ = ["HOLDERS", "Totals", "holds_shown", "only_records", "only_sites", "sorted_by", "top", "totals"]

# The roles that the table shows and that totals count. Victims have a table of their own.
HOLDERS: tuple[Role, ...] = ("culprit", "candidate", "event")


class Totals(msgspec.Struct, frozen=True):
    """Sums over the call sites that held pages. Pages and blocks of several sites count once.

    Times are µs; None if no record has a duration. refused: records of allocations that were refused; None if the
    records name no functions that would tell.
    """

    records: int
    holds: int
    pages: int
    blocks: int
    max: int | None
    p99: int | None
    refused: int | None


def only_records(capture: Capture, kinds: Collection[str], first_pfn: int | None, last_pfn: int | None) -> Capture:
    """Return the capture with only the records of these kinds (all if there are none) and page frames.

    Records of a compound page have the PFN of its head. They are of all its page frames.
    """
    chosen: list[DumpRecord] = []
    for group in groups(capture.records, load_sites()):
        first = group.records[0]
        if kinds and first.kind not in kinds:
            continue
        behind = compound_pages(first, len(group.records)) - 1 if group.head else 0
        chosen += [
            record
            for record in group.records
            if (first_pfn is None or first_pfn <= record.pfn + behind) and (last_pfn is None or record.pfn <= last_pfn)
        ]
    return replace(capture, records=tuple(chosen))


def only_sites(report: Report, wanted: Collection[str]) -> Report:
    """Return the report with only the sites whose key, owner or part of whose name is wanted; all if none is.

    Its headline says whether the culprit is one of them.
    """
    if not wanted:
        return report
    sites = tuple(
        site for site in report.sites if any(word in (site.key, site.owner) or word in site.site for word in wanted)
    )
    chosen = _with_sites(report, sites)
    if report.sites and not sites:
        # An empty choice is no empty dump, and proves nothing.
        none = f"none of {count_of(len(report.sites), 'site')} has the chosen key, owner or name"
        return replace(chosen, culprit=None, headline=none, proves="", findings=())
    if report.culprit is not None and all(site.key != report.culprit for site in sites):
        return replace(chosen, headline=f"not among the chosen sites: {report.headline}")
    return chosen


def sorted_by(report: Report, key: str | None) -> Report:
    """Return the report with its sites in this order: numbers from large to small, names from A to Z."""
    if key is None:
        return report
    column = next(column for column in COLUMNS if column.name == SORT_KEYS[key])
    if not column.is_number:
        return replace(report, sites=tuple(sorted(report.sites, key=lambda site: str(column.order(site)))))

    def number(site: Site) -> float:
        value = column.order(site)
        return -1 if value is None else float(value)

    return replace(report, sites=tuple(sorted(report.sites, key=number, reverse=True)))


def top(report: Report, count: int | None) -> Report:
    """Return the report with only its first sites that held pages, and all others."""
    if count is None:
        return report
    first = {site.key for site in [site for site in report.sites if site.role in HOLDERS][:count]}
    return replace(report, sites=tuple(site for site in report.sites if site.role not in HOLDERS or site.key in first))


def totals(report: Report) -> Totals:
    """Return the sums over the holds of a report."""
    holds = holds_shown(report)
    durations = sorted(hold.duration_us for hold in holds if hold.duration_us is not None)
    refused = sum(site.records for site in report.sites if site.role == "victim")
    unclear = any(site.role == "event" for site in report.sites)
    return Totals(
        records=sum(hold.records for hold in holds),
        holds=len(holds),
        pages=union((hold.pfn, hold.pfn + hold.pages) for hold in holds),
        blocks=len({block for hold in holds for block in hold.blocks}),
        max=durations[-1] if durations else None,
        # The nearest rank: the smallest duration that 99 of 100 do not exceed.
        p99=durations[(99 * len(durations) + 99) // 100 - 1] if durations else None,
        refused=None if unclear and not refused else refused,
    )


def holds_shown(report: Report) -> list[Hold]:
    """Return the holds of the sites that held pages, also of those that --top left out."""
    others = {site.key for site in report.sites if site.role not in HOLDERS}
    return [hold for hold in report.holds if hold.key not in others]


def _with_sites(report: Report, sites: tuple[Site, ...]) -> Report:
    keys = {site.key for site in sites}
    holds = tuple(hold for hold in report.holds if hold.key in keys)
    victims = tuple(site.site for site in sites if site.role == "victim")
    return replace(report, sites=sites, holds=holds, records=sum(site.records for site in sites), victims=victims)
