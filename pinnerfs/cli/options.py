"""Arguments and options that several commands share. Imports only what each command needs, and the rest late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pinnerfs.mounts.answers import MAX_WAIT

if TYPE_CHECKING:
    from pinnerfs.scenario.limits import Limits

__all__ = ["TIME", "Whole", "accepted", "as_json", "limit", "max_wait", "scenario", "seed", "seeds", "threshold"]

T = TypeVar("T")
V = TypeVar("V")


def accepted(parse: Callable[[V], T], value: V, context: click.Context, option: click.Parameter) -> T:
    """Return what `parse` makes of an option's value. Raise BadParameter where it raises ValueError."""
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


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


class Whole(click.IntRange):
    """A whole number from a least to a most one."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)
        self.name = f"whole number from {least} to {most}"


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

    return accepted(LIMITS.raised, settings, context, option)


def _seeds(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    from pinnerfs.sweep.points import parse_seeds

    return accepted(parse_seeds, value, context, option)


TIME = _Time()

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
scenario = click.argument("scenario", metavar="SCENARIO")
seed = click.option(
    "--seed",
    type=Whole(0, 2**64 - 1),
    metavar="N",
    help="Draw with this seed instead of the scenario's own.",
)
seeds = click.option(
    "--seeds", callback=_seeds, metavar="LIST", help="Draw with each of these seeds, such as 0..99 or 1,2,10..19."
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
    default=int(MAX_WAIT * 10**6),  # µs; a text would have to be parsed in each process
    callback=lambda context, option, value: value / 10**6,
    metavar="TIME",
    help=f"Exit with status 75 if the daemon of a mount does not answer for this time.  [default: {MAX_WAIT:g}s]",
)
