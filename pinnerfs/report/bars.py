"""Bars of durations: one for each call site, against the threshold."""

from __future__ import annotations

from pinnerfs.report import units
from pinnerfs.report.lines import WIDTH, Line, Span, text
from pinnerfs.report.model import Report
from pinnerfs.report.selection import HOLDERS

__all__ = ["bars", "threshold_of"]

_LABEL = 10  # columns for the key of a site
_CELLS = WIDTH - _LABEL
_ROWS = 10


def bars(report: Report) -> list[Line]:
    """Return a bar for each of the first sites, from 0 to its longest hold; nothing if no record has a duration."""
    sites = [site for site in report.sites if site.role in HOLDERS and site.max_us][:_ROWS]
    if not sites:
        return []
    longest = max(site.max_us or 0 for site in sites)
    threshold, words = threshold_of(report)
    mark = None
    # Only pins are compared with the threshold.
    if threshold is not None and 0 <= threshold < longest and any(site.role == "culprit" for site in sites):
        mark = min(_CELLS - 1, threshold * _CELLS // longest)
    end = units.duration(longest)
    lines = [text(f"{'':{_LABEL}}0{end:>{_CELLS - 1}}", "dim")]
    for site in sites:
        reach = [max(1, -(-(value or 0) * _CELLS // longest)) for value in (site.p50_us, site.p99_us, site.max_us)]
        bar = "#" * reach[0] + "=" * (reach[1] - reach[0]) + "-" * (reach[2] - reach[1])
        row = [*f"{bar:<{_CELLS}}"]
        if mark is not None and site.role == "culprit":
            row[mark] = "|"
        lines.append((Span(f"{site.key:<{_LABEL}}"), Span("".join(row), "bar")))
    legend = "# up to the median, = up to the 99th percentile, - up to the longest hold"
    lines.append(text(legend, "dim"))
    if mark is not None:
        lines.append(text(f"| {words}", "dim"))
    return lines


def threshold_of(report: Report) -> tuple[int | None, str]:
    """Return the threshold of pins in µs, and in words. Where no file tells it, the shortest record bounds it."""
    if report.threshold_us is not None or report.threshold_at_most_us is None:
        return report.threshold_us, f"threshold {units.duration(report.threshold_us)}"
    return report.threshold_at_most_us, f"threshold at most {units.duration(report.threshold_at_most_us)}"
