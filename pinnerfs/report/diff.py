"""Compare two reports, call site by call site."""

from __future__ import annotations

from typing import Literal

import msgspec

from pinnerfs.report import units
from pinnerfs.report.kernels import UNKNOWN
from pinnerfs.report.lines import Line, paragraph, text
from pinnerfs.report.model import Report, Site
from pinnerfs.report.selection import HOLDERS
from pinnerfs.report.table import table
from pinnerfs.report.text import facts

__all__ = ["Change", "Diff", "compare", "diff_lines", "diff_rows"]

State = Literal["new", "worse", "same", "better", "gone"]
_STYLES = {"new": "bad", "worse": "bad", "same": "dim", "better": "good", "gone": "good"}


class Change(msgspec.Struct, frozen=True):
    """A call site before and after; None where it has no record."""

    key: str
    owner: str
    site: str
    state: State
    before: Site | None
    after: Site | None


class Diff(msgspec.Struct, frozen=True):
    """The difference between two reports. changes: the worst first.

    not_comparable: why the counts (holds, pages, blocks, page time) of the two cannot be compared. If it is not empty,
    only the durations decide what is worse.
    """

    before: Report
    after: Report
    changes: tuple[Change, ...]
    not_comparable: tuple[str, ...]

    @property
    def new(self) -> tuple[str, ...]:
        """Return the keys of the sites that only the second report has."""
        return tuple(change.key for change in self.changes if change.state == "new")


def compare(before: Report, after: Report) -> Diff:
    """Return the difference between two reports, the earlier one first."""
    reasons = tuple(_not_comparable(before, after))
    old = {site.key: site for site in before.sites if site.role in HOLDERS}
    new = {site.key: site for site in after.sites if site.role in HOLDERS}
    rated = []
    for key in old | new:
        was, is_now = old.get(key), new.get(key)
        known = is_now or was
        assert known is not None
        rating = _weight(is_now, counts=not reasons) - _weight(was, counts=not reasons)
        state: State = "worse" if rating > 0 else "better" if rating < 0 else "same"
        if was is None:
            state = "new"
        elif is_now is None:
            state = "gone"
        rated.append((rating, Change(key, known.owner, known.site, state, was, is_now)))
    # A site without durations has no weight. It is still new.
    rated.sort(key=lambda pair: (-pair[0], pair[1].state != "new", pair[1].key))
    return Diff(before, after, tuple(change for _, change in rated), reasons)


def _not_comparable(before: Report, after: Report) -> list[str]:
    reasons = [f"the ring of {name} was full" for name, one in _named(before, after) if one.ring_full]
    kernels = [{*one.generation.split("|")} for one in (before, after)]
    if kernels[0].isdisjoint(kernels[1]) and {UNKNOWN} not in kernels:
        reasons.append(
            f"the kernels differ ({' and '.join(one.generation.replace('|', ' or ') for one in (before, after))})"
        )
    if before.threshold_us is not None and after.threshold_us is not None:
        if before.threshold_us != after.threshold_us:
            thresholds = " and ".join(units.duration(one.threshold_us) for one in (before, after))
            reasons.append(f"the thresholds differ ({thresholds})")
        return reasons
    for known, other in (before, after), (after, before):
        bound = other.threshold_at_most_us
        if known.threshold_us is not None and bound is not None and known.threshold_us > bound:
            reasons.append(
                f"the thresholds differ ({units.duration(known.threshold_us)} and at most {units.duration(bound)})"
            )
    return reasons


def _named(before: Report, after: Report) -> tuple[tuple[str, Report], tuple[str, Report]]:
    return ("BEFORE", before), ("AFTER", after)


def _weight(site: Site | None, *, counts: bool) -> int:
    """Return how bad a site is: its page time; if counts cannot be compared, its 99th percentile."""
    if site is None:
        return 0
    return site.page_us if counts else site.p99_us or 0


_TITLES = ("", "key", "owner", "site", "holds", "pages", "blocks", "page.s", "p99", "max")
_RIGHT = (False, False, False, False, True, True, True, True, True, True)


def diff_lines(diff: Diff) -> list[Line]:
    """Return a diff as lines; the first says what is worst."""
    worst = diff.changes[0].state if diff.changes else "same"
    lines = [text(_headline(diff), "bad" if worst in ("new", "worse") else "title")]
    for name, report in _named(diff.before, diff.after):
        lines.append(text(f"{name}: {facts(report)}"))
    if diff.not_comparable:
        lines += [
            (),
            *paragraph(
                f"Counts are not compared, because {' and '.join(diff.not_comparable)}. "
                "Only durations are. A site that is new or gone may have lost its records."
            ),
        ]
    if diff.changes:
        rows = [row[1:] for row in diff_rows(diff)]
        styles = [_STYLES[change.state] for change in diff.changes]
        states = [change.state for change in diff.changes]
        lines += [(), *table(_TITLES, [[state, *row] for state, row in zip(states, rows, strict=True)], _RIGHT, styles)]
        lines += [(), *paragraph("Cells are BEFORE > AFTER; - stands for no record.")]
    return lines


def diff_rows(diff: Diff) -> list[list[str]]:
    """Return the cells of a diff: state, key, owner, site, and BEFORE > AFTER for each number."""
    return [
        [
            change.state,
            change.key,
            change.owner,
            change.site,
            *(_counts(diff, change)),
            _pair(*(units.duration(site.p99_us) if site else "-" for site in (change.before, change.after))),
            _pair(*(units.duration(site.max_us) if site else "-" for site in (change.before, change.after))),
        ]
        for change in diff.changes
    ]


def _counts(diff: Diff, change: Change) -> list[str]:
    if diff.not_comparable:
        return ["?"] * 4
    pair = change.before, change.after
    return [
        _pair(*(str(site.holds) if site else "-" for site in pair)),
        _pair(*(str(site.pages) if site else "-" for site in pair)),
        _pair(*(str(len(site.blocks)) if site else "-" for site in pair)),
        _pair(*(units.page_seconds(site.page_us) if site else "-" for site in pair)),
    ]


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} > {after}"


def _headline(diff: Diff) -> str:
    counts = {state: sum(change.state == state for change in diff.changes) for state in _STYLES}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no site in either"
    worst = diff.changes[0] if diff.changes else None
    if worst is None or worst.state not in ("new", "worse"):
        return f"nothing is new or worse: {summary}"
    return f"worst: {worst.owner}: {worst.site} is {worst.state} ({summary})"
