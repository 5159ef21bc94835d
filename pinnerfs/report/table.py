"""Tables as lines: of call sites, and of any rows."""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.report.columns import shown_columns
from pinnerfs.report.lines import Line, Span, clean
from pinnerfs.report.model import Site

__all__ = ["site_table", "table"]

_GAP = "  "


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], styles: Sequence[str] = ()
) -> list[Line]:
    """Return rows of cells under their titles. right: the columns to align right. styles: the style of each row."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]

    def line(row: Sequence[str], style: str) -> Line:
        aligned = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        return (Span(_GAP.join(aligned).rstrip(), style),)

    return [line(titles, "dim"), *(line(row, styles[at] if styles else "") for at, row in enumerate(cells))]


def site_table(sites: tuple[Site, ...], culprit: str | None) -> list[Line]:
    """Return the table of call sites, one row for each."""
    columns = shown_columns(sites)
    return table(
        [column.title for column in columns],
        [[column.text(site) for column in columns] for site in sites],
        [column.is_number for column in columns],
        ["bad" if site.key == culprit else "" for site in sites],
    )
