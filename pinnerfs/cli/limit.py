"""The option --limit of all commands that play or look at a scenario. Beside `options`, as that brings numpy."""

from __future__ import annotations

import click

from pinnerfs.scenario.limits import LIMITS, Limits

__all__ = ["limit"]


def _limits(context: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> Limits:
    try:
        return LIMITS.raised(settings)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


limit = click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_limits,
    metavar="NAME=VALUE",
    help="Let the scenario take more: of file, memory, instances, pins, rate or phases. May be there several times.",
)
