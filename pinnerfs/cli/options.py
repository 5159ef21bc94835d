"""Arguments and options that several commands share, and how their values are read."""

from __future__ import annotations

from typing import Any

import click

from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed
from pinnerfs.kernel.generations import GENERATIONS, INTRODUCED
from pinnerfs.workload.quantities import parse_time

__all__ = ["TIME", "kernel", "scenario", "seed", "threshold"]


class _Time(click.ParamType[int]):
    """A time with its unit, as scenarios have them; in µs."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_time("the time", value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Threshold(click.ParamType[int]):
    """What the file takes; in µs, signed."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return to_signed(parse_simple_attribute(value.encode(errors="surrogateescape")))
        except OSError as error:
            self.fail(
                f"{value!r} is {error.strerror}: wanted µs, such as 300000, as the file takes them",
                param,
                ctx,
            )


TIME = _Time()

scenario = click.argument("scenario", metavar="SCENARIO")
seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    metavar="N",
    help="Draw with this seed, not the scenario's own.",
)
threshold = click.option(
    "--threshold",
    type=_Threshold(),
    metavar="VALUE",
    help="Start with this threshold: what the file takes, in µs.",
)
kernel = click.option(
    "--kernel",
    type=click.Choice(list(GENERATIONS)),
    default=INTRODUCED.name,
    show_default=True,
    help="Which kernel's page_pinner to imitate.",
)
