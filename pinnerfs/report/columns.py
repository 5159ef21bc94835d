"""The columns of the table of call sites, for every output that has a table."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pinnerfs.report import units
from pinnerfs.report.model import Site

__all__ = ["COLUMNS", "SORT_KEYS", "Column", "shown_columns"]

Value = str | int | float | None


class Column(msgspec.Struct, frozen=True):
    """A column: its name for scripts, its title, the value of a site, and the value as text.

    rank: what the table is sorted by, if that is not the value.
    """

    name: str
    title: str
    value: Callable[[Site], Value]
    text: Callable[[Site], str]
    about: str
    rank: Callable[[Site], Value] | None = None

    def order(self, site: Site) -> Value:
        """Return what the table is sorted by."""
        return self.value(site) if self.rank is None else self.rank(site)

    @property
    def is_number(self) -> bool:
        return self.name not in ("key", "role", "owner", "site", "refused")


def _count(name: str, title: str, value: Callable[[Site], int], about: str) -> Column:
    return Column(name, title, value, lambda site: str(value(site)), about)


def _time(name: str, title: str, value: Callable[[Site], int | None], about: str) -> Column:
    return Column(name, title, value, lambda site: units.duration(value(site)), about)


def _words(name: str, value: Callable[[Site], str], about: str) -> Column:
    return Column(name, name, value, value, about)


COLUMNS = (
    _words("key", lambda site: site.key, "hash of the stack's symbols: the same in every dump"),
    _words("role", lambda site: site.role, "culprit, candidate or event"),
    _words("owner", lambda site: site.owner, "subsystem or driver"),
    _words("site", lambda site: site.site, "functions that name the stack"),
    _count("holds", "holds", lambda site: site.holds, "releases; all pages of one release are one hold"),
    _count("records", "recs", lambda site: site.records, "records in the dump"),
    _count("pages", "pages", lambda site: site.pages, "distinct pages"),
    _count("blocks", "blocks", lambda site: len(site.blocks), "distinct pageblocks"),
    Column(
        "cma_pages",
        "CMA",
        lambda site: site.cma_pages,
        lambda site: units.percent(site.cma_pages, site.pages),
        "share of the pages that are in CMA",
        lambda site: None if site.cma_pages is None else round(site.cma_pages / max(site.pages, 1), 6),
    ),
    Column(
        "page_us",
        "page.s",
        lambda site: site.page_us,
        lambda site: units.page_seconds(site.page_us),
        "pages times seconds, summed over the holds",
    ),
    _time("p50_us", "p50", lambda site: site.p50_us, "median duration of a hold"),
    _time("p99_us", "p99", lambda site: site.p99_us, "99th percentile of the durations"),
    _time("max_us", "max", lambda site: site.max_us, "longest hold"),
    _words("refused", lambda site: ", ".join(site.refused), "allocations that these pages made fail"),
)

# The values of --sort.
SORT_KEYS = {
    "holds": "holds",
    "records": "records",
    "pages": "pages",
    "blocks": "blocks",
    "cma": "cma_pages",
    "page-time": "page_us",
    "p50": "p50_us",
    "p99": "p99_us",
    "max": "max_us",
    "owner": "owner",
    "site": "site",
}


def shown_columns(sites: tuple[Site, ...]) -> list[Column]:
    """Return the columns for people: without the roles if all are culprits, and without `refused` if it is empty."""
    hidden = set()
    if all(site.role == "culprit" for site in sites):
        hidden.add("role")
    if not any(site.refused for site in sites):
        hidden.add("refused")
    return [column for column in COLUMNS if column.name not in hidden]
