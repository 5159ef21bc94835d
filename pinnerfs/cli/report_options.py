"""The values that the options of `pinnerfs report` take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from pinnerfs.report.source import MAX_WAIT

if TYPE_CHECKING:
    from pinnerfs.report.budget import Budget
    from pinnerfs.report.model import Area, Kind

__all__ = ["FORMATS", "KINDS", "areas", "budgets", "chosen_format", "formats", "max_wait", "parts", "pfn_range"]

FORMATS = {
    "json": "Print everything as JSON, for scripts.",
    "csv": "Print the table as CSV; times in us.",
    "md": "Print Markdown, to paste into a bug report.",
    "folded": "Print stacks with their page time, for flamegraph.pl.",
    "speedscope": "Print a file for speedscope: page time and holds.",
}
KINDS: dict[str, Kind] = {"pin": "PIN", "put": "PUT", "free": "FREE", "detect": "DETECT", "event": "EVENT"}

_NUMBER = "0x[0-9a-fA-F]{1,16}|[0-9]{1,19}"


def _number(text: str) -> int:
    return int(text, 16 if text.startswith("0x") else 10)


def pfn_range(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read `A-B`, two page frame numbers."""
    match = re.fullmatch(rf"({_NUMBER})-({_NUMBER})", value or "", re.ASCII)
    if value is not None and match is None:
        raise click.BadParameter(f"{value!r}: wanted A-B, such as 0xf3500-0xf37ff", context, option)
    if match is None:
        return None
    first, last = _number(match[1]), _number(match[2])
    if first > last:
        raise click.BadParameter(f"{value!r}: the range is reversed; wanted {match[2]}-{match[1]}", context, option)
    return first, last


def parts(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Read keys, owners and parts of names. An empty text is part of every name."""
    if "" in values:
        raise click.BadParameter("'': wanted a key, an owner or part of a name", context, option)
    return values


def areas(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Area, ...]:
    """Read `BASE+PAGES`, a page frame number and a number of pages."""
    from pinnerfs.report.model import Area

    found: list[Area] = []
    for value in values:
        match = re.fullmatch(rf"({_NUMBER})\+({_NUMBER})", value, re.ASCII)
        if match is None or _number(match[2]) == 0:
            raise click.BadParameter(f"{value!r}: wanted BASE+PAGES, such as 0xf8000+16384", context, option)
        name = "" if not found else str(len(found) + 1)
        found.append(Area(f"cma{name}", _number(match[1]), _number(match[2]), origin="--cma"))
    return tuple(found)


def budgets(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Budget, ...]:
    """Read `FIELD OP VALUE`."""
    if not values:
        return ()
    from pinnerfs.report.budget import parse_budget

    try:
        return tuple(parse_budget(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


def formats(command: Any) -> Any:
    """Add one flag for each format of standard output."""
    for name, about in reversed(FORMATS.items()):
        command = click.option(f"--{name}", is_flag=True, help=about)(command)
    return command


def chosen_format(flags: dict[str, bool]) -> str | None:
    """Return the format whose flag is given, or None. Raise UsageError if there are two."""
    given = [name for name, is_given in flags.items() if is_given]
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise click.UsageError(f"only one format can be printed; wanted one of {names}")
    return given[0] if given else None


def _seconds(context: click.Context, option: click.Parameter, value: str | None) -> float:
    """Read a time with its unit."""
    if value is None:
        return MAX_WAIT
    from pinnerfs.scenario.quantities import parse_time

    try:
        seconds = parse_time("--max-wait", value) / 10**6
    except ValueError as error:
        raise click.UsageError(str(error), context) from None
    if not seconds:
        raise click.UsageError(f"--max-wait = {value!r} must be more than 0, such as '10s'", context)
    return seconds


max_wait = click.option(
    "--max-wait",
    show_default=f"{MAX_WAIT:g}s",
    callback=_seconds,
    metavar="TIME",
    help="Give up a file that does not answer for this time: exit with status 75.",
)
