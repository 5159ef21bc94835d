"""Bars of durations: one for each call site, against the threshold."""

from __future__ import annotations

from pinnerfs.report import units
from pinnerfs.report.lines import WIDTH, Line, Span, text
from pinnerfs.report.model import Report
from pinnerfs.report.selection import HOLDERS

__all__ = ["bars"]

_LABEL = 10  # columns for the key of a site
_CELLS = WIDTH - _LABEL
_ROWS = 10


def bars(report: Report) -> list[Line]:
    """Return a bar for each of the first sites, from 0 to its longest hold; nothing if no record has a duration."""
    sites = [site for site in report.sites if site.role in HOLDERS and site.max_us][:_ROWS]
    if not sites:
        return []
    longest = max(site.max_us or 0 for site in sites)
    # The shortest record bounds a threshold that no file told.
    threshold = report.threshold_us if report.threshold_us is not None else report.threshold_at_most_us
    mark = None
    if threshold is not None and 0 <= threshold < longest:
        mark = min(_CELLS - 1, threshold * _CELLS // longest)
    end = units.duration(longest)
    lines = [text(f"{'':{_LABEL}}0{end:>{_CELLS - 1}}", "dim")]
    for site in sites:
        reach = [max(1, -(-(value or 0) * _CELLS // longest)) for value in (site.p50_us, site.p99_us, site.max_us)]
        bar = "#" * reach[0] + "=" * (reach[1] - reach[0]) + "-" * (reach[2] - reach[1])
        row = [*f"{bar:<{_CELLS}}"]
        if mark is not None:
            row[mark] = "|"
        lines.append((Span(f"{site.key:<{_LABEL}}"), Span("".join(row), "bar")))
    legend = "# up to the median, = up to the 99th percentile, - up to the longest hold"
    lines.append(text(legend, "dim"))
    if mark is not None:
        known = "threshold" if report.threshold_us is not None else "threshold, at most"
        lines.append(text(f"| {known} {units.duration(threshold)}", "dim"))
    return lines
