"""A report as lines of text."""

from __future__ import annotations

from pinnerfs.report.bars import bars, threshold_of
from pinnerfs.report.blockmap import block_map
from pinnerfs.report.lines import Line, heading, paragraph, text
from pinnerfs.report.model import Report, Site
from pinnerfs.report.selection import HOLDERS
from pinnerfs.report.source import named
from pinnerfs.report.table import site_table, table
from pinnerfs.words import count_of

__all__ = ["facts", "named_sources", "report_lines", "set_apart"]

_NAMED = 3  # sources that are named


def report_lines(report: Report, *, stacks: bool = False) -> list[Line]:
    """Return everything that `pinnerfs report` prints. The first line names the culprit."""
    lines = [text(report.headline, "bad" if report.culprit else "title"), text(facts(report))]
    if report.proves:
        lines += [(), *paragraph(report.proves)]
    sites = tuple(site for site in report.sites if site.role in HOLDERS)
    if sites:
        lines += [(), *site_table(sites, report.culprit)]
    if victims := tuple(site for site in report.sites if site.role == "victim"):
        lines += [*heading("Who was refused"), *_victim_table(victims)]
    if apart := set_apart(report):
        lines += [(), *paragraph(apart)]
    if pictured := block_map(report):
        lines += [*heading("Where the pages are"), *pictured]
    if pictured := bars(report):
        lines += [*heading("How long"), *pictured]
    if report.findings:
        lines += heading("Findings")
    for finding in report.findings:
        about = f" ({', '.join(finding.sites)})" if finding.sites else ""
        lines += [
            text(f"* {finding.title}{about}", "title"),
            *paragraph(finding.explanation, "  "),
            *paragraph(finding.advice, "  "),
        ]
    if stacks:
        for site in report.sites:
            lines += [*heading(f"Stack of {site.key}, {site.owner}: {site.site}"), *_stack(site)]
    return lines


def facts(report: Report) -> str:
    """Return the facts about the input, in one sentence: its kernel, its records, its threshold."""
    parts = [
        f"kernel {report.generation.replace('|', ' or ')}",
        f"{count_of(report.records, 'record')} = {count_of(len(report.holds), 'hold')}",
        "ring full: older records may be lost" if report.ring_full else "ring not full",
    ]
    threshold, words = threshold_of(report)
    if threshold is not None:
        parts.append(words)
    return f"{named_sources(report)}: {', '.join(parts)}"


def named_sources(report: Report) -> str:
    """Return the names of the inputs: the first ones, and how many more there are."""
    more = len(report.sources) - _NAMED
    names = named(report.sources[:_NAMED])
    return f"{names} and {more} more" if more > 0 else names


def set_apart(report: Report) -> str:
    """Return what the tables leave out, in one sentence; "" if nothing."""
    names = {"allocator": "the allocation's own handling of pages", "end": "frees"}
    parts = []
    for role, what in names.items():
        records = sum(site.records for site in report.sites if site.role == role)
        if records:
            parts.append(f"{count_of(records, 'record')} of {what}")
    return f"Not in the tables: {', '.join(parts)}." if parts else ""


def _victim_table(victims: tuple[Site, ...]) -> list[Line]:
    rows = [
        [site.key, site.owner, site.site, str(site.records), str(site.pages), str(len(site.blocks))] for site in victims
    ]
    titles = ["key", "owner", "site", "recs", "pages", "blocks"]
    return table(titles, rows, [False, False, False, True, True, True])


def _stack(site: Site) -> list[Line]:
    # One space, as in the kernel's files: scripts/decode_stacktrace.sh finds the frames.
    return [text(f" {frame}") for frame in site.stack]
