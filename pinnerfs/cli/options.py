"""Arguments and options that several commands share. Imports only what each command needs, and the rest late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pinnerfs.mounts.answers import MAX_WAIT

if TYPE_CHECKING:
    from pinnerfs.scenario.limits import Limits

__all__ = ["TIME", "limit", "max_wait", "scenario", "seed", "threshold"]


class _Time(click.ParamType[int]):
    """A time with its unit, as scenarios have them; in µs."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from pinnerfs.scenario.quantities import parse_time

        try:
            return parse_time("the time" if param is None else param.opts[0], value)
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from None


class _Threshold(click.ParamType[int]):
    """A threshold as `parse_threshold` takes it; in µs, signed."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from pinnerfs.threshold import parse_threshold

        try:
            return parse_threshold(value)
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from None


def _limits(context: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> Limits:
    from pinnerfs.scenario.limits import LIMITS

    try:
        return LIMITS.raised(settings)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


TIME = _Time()

scenario = click.argument("scenario", metavar="SCENARIO")
seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    metavar="N",
    help="Draw with this seed instead of the scenario's own.",
)
threshold = click.option(
    "--threshold",
    type=_Threshold(),
    metavar="VALUE",
    help="Start with this threshold: a time such as 300ms, or a number of µs as the file takes it.",
)
limit = click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_limits,
    metavar="NAME=VALUE",
    help="Raise a limit on the scenario: file, memory, instances, pins, rate or work. Can be repeated.",
)
max_wait = click.option(
    "--max-wait",
    type=TIME,
    default=f"{MAX_WAIT:g}s",
    show_default=True,
    callback=lambda context, option, value: value / 10**6,
    metavar="TIME",
    help="Exit with status 75 if the daemon of a mount does not answer for this time.",
)
