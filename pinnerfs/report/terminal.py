"""A report in colors, on a terminal, if rich is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pinnerfs.report.lines import Line, clean, plain

__all__ = ["show"]

_STYLES = {"title": "bold", "bad": "bold red", "good": "green", "dim": "dim", "bar": "cyan", "": ""}


def show(lines: Iterable[Line]) -> None:
    """Print lines on standard output: in colors on a terminal with rich, otherwise as plain text."""
    lines = list(lines)
    if sys.stdout.isatty() and _show_in_colors(lines):
        return
    sys.stdout.write(plain(lines))
    sys.stdout.flush()


def _show_in_colors(lines: list[Line]) -> bool:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return False
    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    for line in lines:
        assembled = Text.assemble(*((clean(span.text), _STYLES[span.style]) for span in line))
        console.print(assembled, no_wrap=True, overflow="ignore", crop=False)
    return True
