"""pinnerfs report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pinnerfs.cli import report_options
from pinnerfs.cli.files import refuse_empty, wait_for_file
from pinnerfs.cli.launch import say
from pinnerfs.cli.report_output import diff_text, print_made, report_text, write_files
from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.report.columns import SORT_KEYS
from pinnerfs.words import count_of

if TYPE_CHECKING:
    from pinnerfs.report.budget import Budget
    from pinnerfs.report.model import Area, Capture, Kind, Report
    from pinnerfs.report.naming import Sites

__all__ = ["report"]

FAILED_BUDGET = 1  # exit status


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--sort", type=click.Choice([*SORT_KEYS]), help="Sort by this column instead of by damage.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Show only the first N call sites.")
@click.option(
    "--site",
    "wanted",
    multiple=True,
    callback=report_options.parts,
    metavar="TEXT",
    help="Only sites with this key, owner or part of a name.",
)
@click.option(
    "--pfn", callback=report_options.pfn_range, metavar="A-B", help="Only records of page frames from A to B."
)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice([*report_options.KINDS]), help="Only records of this kind."
)
@click.option(
    "--cma",
    "areas",
    multiple=True,
    callback=report_options.areas,
    metavar="BASE+PAGES",
    help="Where a CMA area is: its first page frame and its pages. Needed if the dump does not tell.",
)
@click.option("--sites", "names", metavar="FILE", help="A TOML file with further names of drivers and functions.")
@click.option("--dedup", is_flag=True, help="Drop records that were read twice.")
@click.option("--stacks", is_flag=True, help="Also print a stack of each site, for scripts/decode_stacktrace.sh.")
@click.option("--diff", "as_diff", is_flag=True, help="Compare two inputs, BEFORE and AFTER.")
@click.option(
    "--fail-if",
    "budgets",
    multiple=True,
    callback=report_options.budgets,
    metavar="'FIELD OP VALUE'",
    help="Exit with status 1 if this is true, such as 'max > 1s'. "
    "FIELD: records, holds, pages, blocks, max, p99 or refused.",
)
@click.option("--fail-on-new", is_flag=True, help="With --diff, exit with status 1 if a site is new.")
@report_options.formats
@click.option("--html", metavar="FILE", help="Also write one self-contained HTML page.")
@click.option("--svg", metavar="FILE", help="Also write the text as a picture.")
@click.option("--perfetto", metavar="FILE", help="Also write a trace for ui.perfetto.dev, if the records have times.")
@click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
@report_options.max_wait
def report(
    inputs: tuple[str, ...],
    sort: str | None,
    top: int | None,
    wanted: tuple[str, ...],
    pfn: tuple[int, int] | None,
    kinds: tuple[str, ...],
    areas: tuple[Area, ...],
    names: str | None,
    dedup: bool,
    stacks: bool,
    as_diff: bool,
    budgets: tuple[Budget, ...],
    fail_on_new: bool,
    html: str | None,
    svg: str | None,
    perfetto: str | None,
    force: bool,
    max_wait: float,
    **formats: bool,
) -> int:
    """Name the culprit of a page_pinner dump: who held pages too long, and where.

    INPUT is a file with records of any kernel, a bug report (.txt, .zip), a directory, a mounted debugfs, or `-` for
    standard input. Files may be compressed with gzip or xz. What cannot be read is told on stderr.

    \b
    Example:
      pinnerfs dump camera-stall --at 60s > dump.txt
      pinnerfs report dump.txt
    """
    from pinnerfs.report.naming import load_sites
    from pinnerfs.report.selection import only_sites, sorted_by, totals
    from pinnerfs.report.selection import top as only_top

    chosen = report_options.chosen_format(formats)
    files = {"--html": html, "--svg": svg, "--perfetto": perfetto}
    single = {
        **files,
        "--speedscope": chosen == "speedscope" or None,
        "--stacks": stacks or None,
        "--sort": sort,
        "--top": top,
    }
    _check_options(inputs, as_diff, fail_on_new, [name for name, value in single.items() if value is not None])

    _wait_for_files(inputs, names, files, max_wait)
    _check_files(inputs, names, files)

    chosen_kinds = tuple(report_options.KINDS[kind] for kind in kinds)
    captures = [_read(sources, areas, max_wait) for sources in ((inputs[:1], inputs[1:]) if as_diff else (inputs,))]
    for capture in captures:
        for note in capture.notes:
            say(str(note))
    # Once: it may be a pipe.
    lists = load_sites(*(() if names is None else (names,)), max_wait=max_wait)
    if budgets or fail_on_new:
        from pinnerfs.report.choices import NEW, why_always_met

        fields = [*(budget.field for budget in budgets), *([NEW] if fail_on_new else [])]
        if (reason := why_always_met(captures, lists, wanted, chosen_kinds, pfn, fields)) is not None:
            raise PinnerfsError(in_a_line(reason), BAD_INPUT)
    if wanted:
        from pinnerfs.report.choices import unknown_sites

        for word in unknown_sites(captures, lists, wanted):
            say(f"--site {in_a_line(word)}: no record has this key, owner or name")
    reports = [only_sites(_analyse(capture, pfn, chosen_kinds, lists, dedup), wanted) for capture in captures]
    for budget in budgets:
        if (reason := budget.why_unknown(totals(reports[-1]))) is not None:
            raise PinnerfsError(reason, BAD_INPUT)
    if as_diff:
        from pinnerfs.report.diff import compare

        before, after = reports
        difference = compare(before, after)
        if difference.not_comparable and chosen in ("csv", "folded"):
            # These formats have no place for it.
            say(f"the counts cannot be compared: {' and '.join(difference.not_comparable)}")
        print_made(diff_text(difference, chosen))
        failed = [f"{len(difference.new)} new: {', '.join(difference.new)}"] if fail_on_new and difference.new else []
    else:
        (after,) = reports
        shown = only_top(sorted_by(after, sort), top)
        write_files(shown, files, stacks, force, max_wait)
        print_made(report_text(shown, chosen, stacks))
        failed = []
    failed += [broken for budget in budgets if (broken := budget.broken(totals(after)))]
    for reason in failed:
        say(f"Budget exceeded: {reason}")
    return FAILED_BUDGET if failed else 0


def _wait_for_files(inputs: tuple[str, ...], names: str | None, files: dict[str, str | None], max_wait: float) -> None:
    """Return when the file systems of all files that are read or written answer."""
    for path in (*inputs, *(() if names is None else (names,))):
        # Standard input may be a pipe, which may be slow.
        if path != "-":
            wait_for_file("read", path, max_wait)
    for path in files.values():
        if path is not None:
            wait_for_file("write", path, max_wait)


def _check_files(inputs: tuple[str, ...], names: str | None, files: dict[str, str | None]) -> None:
    """Raise UsageError if a file to write has no name, is `-`, is written twice, is read, or is in a directory read."""
    named = {option: path for option, path in files.items() if path is not None}
    for option, path in named.items():
        refuse_empty(option, path)
        if path == "-":
            raise click.UsageError(f"{option}: standard output (-) has the report; name a file")
    try:
        _check_places(inputs, names, named)
    except FileNotFoundError:
        # A relative path is below the working directory.
        paths = ", ".join(map(in_a_line, named.values()))
        raise click.UsageError(f"cannot write {paths}: the working directory was removed") from None


def _check_places(inputs: tuple[str, ...], names: str | None, files: dict[str, str]) -> None:
    if not files:
        return
    known = {os.path.realpath(path): "an input" for path in inputs if path != "-"}
    directories = tuple(os.path.join(path, "") for path in known)
    if names is not None:
        known[os.path.realpath(names)] = "the file of --sites"
    for option, path in files.items():
        place = os.path.realpath(path)
        if place in known:
            raise click.UsageError(f"{option}: {in_a_line(path)} is also {known[place]}; name another file")
        if place.startswith(directories):
            raise click.UsageError(f"{option}: {in_a_line(path)} is in a directory that is read; name another place")
        known[place] = f"the file of {option}"


def _check_options(inputs: tuple[str, ...], as_diff: bool, fail_on_new: bool, single: list[str]) -> None:
    """Raise UsageError for options that do not fit. single: those given that only one report takes."""
    if inputs.count("-") > 1:
        raise click.UsageError("standard input (-) can be read only once")
    if not as_diff:
        if fail_on_new:
            raise click.UsageError("--fail-on-new needs --diff")
        return
    if len(inputs) != 2:
        raise click.UsageError(f"--diff compares two inputs, BEFORE and AFTER; {len(inputs)} came")
    if single:
        raise click.UsageError(f"{single[0]} is for one report; it cannot be combined with --diff")


def _read(inputs: tuple[str, ...], areas: tuple[Area, ...], max_wait: float) -> Capture:
    from pinnerfs.cli.report_progress import Progress
    from pinnerfs.report.reader import read_sources
    from pinnerfs.report.sources import sources

    found = (source for name in inputs for source in sources(name, max_wait))
    return read_sources(inputs, Progress().watch(found), areas)


def _analyse(
    capture: Capture,
    pfn: tuple[int, int] | None,
    kinds: tuple[Kind, ...],
    names: Sites,
    dedup: bool,
) -> Report:
    from pinnerfs.report.analysis import analyse
    from pinnerfs.report.selection import only_records

    if not kinds and not pfn:
        return analyse(capture, names, dedup)
    chosen = only_records(capture, kinds, *(pfn or (None, None)))
    made = analyse(chosen, names, dedup)
    if capture.records and not chosen.records:
        from msgspec.structs import replace

        # An empty choice is no empty dump, and proves nothing.
        left_out = count_of(len(capture.records), "record")
        return replace(
            made, headline=f"none of {left_out} is of the chosen kind and page frames", proves="", findings=()
        )
    return made
