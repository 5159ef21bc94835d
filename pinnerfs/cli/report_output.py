"""Print and write what `pinnerfs report` made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pinnerfs.report.diff import Diff
    from pinnerfs.report.model import Report

__all__ = ["diff_text", "print_made", "report_text", "write_files"]


def report_text(shown: Report, chosen: str | None, stacks: bool) -> Any:
    if chosen is None:
        from pinnerfs.report.text import report_lines

        return report_lines(shown, stacks=stacks)
    if chosen in ("folded", "speedscope"):
        from pinnerfs.report import profiles

        return profiles.folded(shown) if chosen == "folded" else profiles.speedscope(shown)
    from pinnerfs.report import exports

    return {"json": exports.as_json, "csv": exports.as_csv, "md": exports.as_markdown}[chosen](shown)


def diff_text(difference: Diff, chosen: str | None) -> Any:
    if chosen is None:
        from pinnerfs.report.diff import diff_lines

        return diff_lines(difference)
    if chosen == "folded":
        from pinnerfs.report.profiles import diff_as_folded

        return diff_as_folded(difference)
    from pinnerfs.report import exports

    return {"json": exports.diff_as_json, "csv": exports.diff_as_csv, "md": exports.diff_as_markdown}[chosen](
        difference
    )


def print_made(made: Any) -> None:
    """Print lines, or the text of an export."""
    # A dump may have a character that this terminal's encoding does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if isinstance(made, str):
        click.echo(made, nl=False)
        return
    from pinnerfs.report.terminal import show

    show(made)


def write_files(shown: Report, files: dict[str, str | None], stacks: bool, force: bool, max_wait: float) -> None:
    """Write the files that were asked for, before anything is printed."""
    if all(path is None for path in files.values()):
        return
    from pinnerfs.record.output import write_output

    if (path := files["--html"]) is not None:
        from pinnerfs.report.html import page

        write_output("--html", path, page(shown).encode(), force, max_wait)
    if (path := files["--svg"]) is not None:
        from pinnerfs.report.picture import svg
        from pinnerfs.report.text import report_lines

        write_output("--svg", path, svg(report_lines(shown, stacks=stacks)).encode(), force, max_wait)
    if (path := files["--perfetto"]) is not None:
        from pinnerfs.report.perfetto_trace import trace

        write_output("--perfetto", path, trace(shown), force, max_wait)
