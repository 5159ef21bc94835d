"""Exports for spreadsheets, bug reports and scripts: CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec

from pinnerfs.errors import in_a_line
from pinnerfs.jsontext import json_text
from pinnerfs.report.columns import COLUMNS, shown_columns
from pinnerfs.report.diff import Diff
from pinnerfs.report.lines import clean
from pinnerfs.report.model import Report
from pinnerfs.report.selection import HOLDERS, totals
from pinnerfs.report.text import facts

__all__ = ["as_csv", "as_json", "as_markdown", "diff_as_csv", "diff_as_json", "diff_as_markdown"]


def as_json(report: Report) -> str:
    """Return the report as JSON: its fields as in `pinnerfs.report.model.Report`, and the totals."""
    return json_text({"totals": totals(report), **_fields(report)})


def diff_as_json(diff: Diff) -> str:
    """Return a diff as JSON: both reports, and the changes."""
    return json_text(_fields(diff))


def as_csv(report: Report) -> str:
    """Return one row for each call site; times in µs."""
    names = [column.name for column in COLUMNS]
    sites = [site for site in report.sites if site.role in HOLDERS]
    return _csv(names, [[column.value(site) for column in COLUMNS] for site in sites])


def diff_as_csv(diff: Diff) -> str:
    """Return one row for each call site of either report; times in µs, and counts also if they are not comparable."""
    names = ["holds", "pages", "blocks", "page_us", "p50_us", "p99_us", "max_us"]
    columns = [column for column in COLUMNS if column.name in names]
    titles = [f"{when}_{column.name}" for column in columns for when in ("before", "after")]
    return _csv(
        ["state", "key", "owner", "site", *titles],
        [
            [
                *(change.state, change.key, change.owner, change.site),
                *(column.value(site) if site else "" for column in columns for site in (change.before, change.after)),
            ]
            for change in diff.changes
        ],
    )


def as_markdown(report: Report) -> str:
    """Return a report to paste into a bug: the culprit, the table and the findings."""
    sites = tuple(site for site in report.sites if site.role in HOLDERS)
    columns = shown_columns(sites)
    lines = [f"**{_md(report.headline)}**", "", _md(facts(report)), ""]
    if report.proves:
        lines += [_md(report.proves), ""]
    if sites:
        lines += _md_table(
            [column.title for column in columns],
            [[column.text(site) for column in columns] for site in sites],
            [column.is_number for column in columns],
        )
    for finding in report.findings:
        lines += ["", f"- **{_md(finding.title)}** {_md(finding.explanation)} {_md(finding.advice)}"]
    return "\n".join(lines).rstrip() + "\n"


def diff_as_markdown(diff: Diff) -> str:
    """Return a diff to paste into a bug."""
    from pinnerfs.report.diff import diff_lines, diff_rows

    lines = [f"**{_md(diff_lines(diff)[0][0].text)}**", ""]
    if diff.not_comparable:
        lines += [_md(f"Counts are not compared, because {' and '.join(diff.not_comparable)}."), ""]
    titles = ["state", "key", "owner", "site", "holds", "pages", "blocks", "page.s", "p99", "max"]
    lines += _md_table(titles, diff_rows(diff), [False] * 4 + [True] * 6)
    return "\n".join(lines) + "\n"


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return dict(msgspec.to_builtins(struct))


def _csv(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows([clean(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()


def _md_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    return [
        f"| {' | '.join(titles)} |",
        f"|{'|'.join('--:' if to_right else '---' for to_right in right)}|",
        *(f"| {' | '.join(_md(cell) for cell in row)} |" for row in rows),
    ]


def _md(text: str) -> str:
    """Escape what Markdown and HTML read as markup."""
    text = in_a_line(text)
    for char in "\\`*_[]|<>":
        text = text.replace(char, f"\\{char}")
    return text
