"""A report as one HTML page without outside references."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from pinnerfs.report import units
from pinnerfs.report.bars import threshold_of
from pinnerfs.report.blockmap import BlockMap, Row, block_maps
from pinnerfs.report.columns import Column, shown_columns
from pinnerfs.report.lines import clean
from pinnerfs.report.model import Finding, Report, Site
from pinnerfs.report.selection import HOLDERS
from pinnerfs.report.text import facts, named_sources, set_apart

__all__ = ["page"]


def page(report: Report) -> str:
    """Return the page: summary, sortable table, map, durations, findings and stacks."""
    holders = tuple(site for site in report.sites if site.role in HOLDERS)
    victims = [site for site in report.sites if site.role == "victim"]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=_text(f"pinnerfs report: {named_sources(report)}"),
        headline=_text(report.headline),
        facts=_text(facts(report)),
        proves=f"<p>{_text(report.proves)}</p>" if report.proves else "",
        sites=_site_table(holders, report.culprit) if holders else "",
        victims=_section("Who was refused", _victims(victims) if victims else "", set_apart(report)),
        map=_section("Where the pages are", "".join(_map(area) for area in block_maps(report, cells=128))),
        bars=_section("How long", _bars(report, holders)),
        findings=_section("Findings", "".join(map(_finding, report.findings))),
        stacks=_section("Stacks", "".join(map(_stack, report.sites))),
        notes=_section("What was skipped", "".join(f"<p>{_text(str(note))}</p>" for note in report.notes)),
    )


def _text(untrusted: str) -> str:
    return escape(clean(untrusted))


def _section(title: str, content: str, after: str = "") -> str:
    after = f"<p>{_text(after)}</p>" if after else ""
    return f"<h2>{title}</h2>\n{content}\n{after}" if content else after


def _site_table(sites: tuple[Site, ...], culprit: str | None) -> str:
    columns = shown_columns(sites)
    titles = "".join(_title(column) for column in columns)
    rows = "\n".join(
        f"<tr{_class('culprit' if site.key == culprit else '')}>"
        + "".join(_cell(column, site) for column in columns)
        + "</tr>"
        for site in sites
    )
    return (
        '<div class="wide"><table class="sortable" id="sites">'
        f"<thead><tr>{titles}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _title(column: Column) -> str:
    number = _class("number" if column.is_number else "")
    return f'<th scope="col"{number} title="{_text(column.about)}"><button>{_text(column.title)}</button></th>'


def _cell(column: Column, site: Site) -> str:
    value = column.order(site)
    text = _text(column.text(site))
    if column.name == "key":
        text = f'<a href="#stack-{text}"><code>{text}</code></a>'
    number = _class("number" if column.is_number else "")
    return f'<td{number} data-value="{_text(str("" if value is None else value))}">{text}</td>'


def _victims(victims: list[Site]) -> str:
    rows = "".join(
        f'<tr><td><a href="#stack-{_text(site.key)}"><code>{_text(site.key)}</code></a></td>'
        f"<td>{_text(site.owner)}</td><td>{_text(site.site)}</td>"
        f'<td class="number">{site.records}</td><td class="number">{site.pages}</td></tr>'
        for site in victims
    )
    titles = "<tr><th>key<th>owner<th>site<th class=number>recs<th class=number>pages</tr>"
    return f"<table><thead>{titles}</thead><tbody>{rows}</tbody></table>"


def _map(area: BlockMap) -> str:
    name = f"CMA area {area.name}" if area.name else "All blocks touched"
    blocks = f"blocks {area.first} to {area.last}" if area.first < area.last else f"block {area.first}"
    caption = f"{name}: {blocks}, {units.memory(area.block_pages)} each"
    rows = "".join(f"<span>{_text(row.key or 'all')}</span>{_cells(area, row)}" for row in area.rows)
    return f'<p>{_text(caption)}</p><div class="map">{rows}</div>'


def _cells(area: BlockMap, row: Row) -> str:
    made = []
    for number, share in enumerate(row.shares):
        first = area.first + number * area.per_cell
        last = min(first + area.per_cell - 1, area.last)
        blocks = f"block {first}" if first == last else f"blocks {first} to {last}"
        # The least share that is held is visible.
        color = f' style="background:rgba(var(--held),{0.2 + 0.8 * share:.2f})"' if share else ""
        made.append(f'<i{color} title="{blocks}: {100 * share:.3g}% of the pages"></i>')
    return f'<div class="cells">{"".join(made)}</div>'


def _bars(report: Report, sites: tuple[Site, ...]) -> str:
    timed = [site for site in sites if site.max_us]
    if not timed:
        return ""
    longest = max(site.max_us or 0 for site in timed)
    threshold, words = threshold_of(report)
    mark = ""
    if threshold is not None and 0 <= threshold < longest and any(site.role == "culprit" for site in timed):
        mark = f'<b style="left:{100 * threshold / longest:.2f}%" title="{words}"></b>'
    rows = []
    for site in timed:
        reach = "".join(
            f'<i style="width:{100 * (value or 0) / longest:.2f}%"></i>'
            for value in (site.max_us, site.p99_us, site.p50_us)
        )
        times = (("median", site.p50_us), ("99th percentile", site.p99_us), ("longest", site.max_us))
        title = ", ".join(f"{name} {units.duration(value)}" for name, value in times)
        own_mark = mark if site.role == "culprit" else ""
        rows.append(f'<span>{_text(site.key)}</span><div class="track" title="{title}">{reach}{own_mark}</div>')
    legend = f"From 0 to {units.duration(longest)}: up to the median, the 99th percentile and the longest hold."
    if mark:
        legend += f" The line is the {words}."
    return f'<p>{legend}</p><div class="map">{"".join(rows)}</div>'


def _finding(finding: Finding) -> str:
    keys = f" ({', '.join(finding.sites)})" if finding.sites else ""
    # The name of the page and no link: the report is opened where this project is not.
    page = f"<p>More: <code>{_text(finding.page)}</code></p>" if finding.page else ""
    return (
        f'<div class="finding" id="finding-{_text(finding.name)}"><b>{_text(finding.title)}</b>{_text(keys)}'
        f"<p>{_text(finding.explanation)}</p><p>{_text(finding.advice)}</p>{page}</div>"
    )


def _stack(site: Site) -> str:
    frames = "\n".join(_text(frame) for frame in site.stack)
    return (
        f'<details id="stack-{_text(site.key)}" open><summary><code>{_text(site.key)}</code> '
        f"{_text(site.owner)}: {_text(site.site)}</summary><pre>{frames}</pre></details>"
    )
