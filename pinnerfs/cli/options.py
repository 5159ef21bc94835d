"""Arguments and options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import click

from pinnerfs.cli.limit import limit
from pinnerfs.clock import Clock, ManualClock, RealClock
from pinnerfs.daemon.daemon import Daemon
from pinnerfs.debugfs.device import Device
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.simulation import Simulation
from pinnerfs.trace import LAYERS, TracedSimulation, choose

__all__ = ["TIME", "DeviceOptions", "device", "kernel", "scenario", "seed", "threshold"]


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
                f"{value!r}: {error.strerror}; wanted µs, such as 300000, as the file takes them",
                param,
                ctx,
            )


class _Layers(click.ParamType[tuple[str, ...]]):
    """Names of layers, with commas between them; or colons, which mount(8) does not take for itself."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(value.replace(":", ",").split(","))
        for name in names:
            if name not in LAYERS:
                self.fail(f"{name!r} is not one of {', '.join(map(repr, LAYERS))}", param, ctx)
        return names


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


@dataclass(frozen=True)
class DeviceOptions:
    """What a fake device is to be like, as `mount` and `run` are told; a field for each option of `device`."""

    clock_name: str
    speed: float | None
    start: int
    seed: int | None
    threshold: int | None
    kernel: str
    limits: Limits
    log_file: str | None
    verbose: bool
    trace: tuple[str, ...]

    def simulation(self, scenario: str, *, foreground: bool = False) -> Simulation:
        """The scenario at time 0. PinnerfsError where it cannot be played, or the options do not go together."""
        if (self.verbose or self.trace) and self.log_file is None and not foreground:
            option = "--verbose" if self.verbose else "--trace"
            raise PinnerfsError(
                f"{option} needs --log FILE: a daemon in the background has no stderr", exit_status=BAD_INPUT
            )
        if self.speed is not None and math.isnan(self.speed):
            # FloatRange lets it through: it lies on no side of any bound.
            raise PinnerfsError("--speed must be a number above 0, not nan", exit_status=BAD_INPUT)
        if self.speed is not None and self.clock_name == "manual":
            wanted = "goes with --clock real: a manual clock does not run"
            raise PinnerfsError(f"--speed {self.speed:g} {wanted}", exit_status=BAD_INPUT)
        kind = TracedSimulation if {"engine", "scenario"} & {*self.trace} else Simulation
        return kind(
            load(scenario, self.limits),
            seed=self.seed,
            threshold=self.threshold,
            kernel=self.kernel,
            limits=self.limits,
        )

    def daemon(
        self, simulation: Simulation, mountpoint: str, *, allow_other: bool = False, cover: bool = False
    ) -> Daemon:
        """What mounts it, at the time of --start."""
        manual = self.clock_name == "manual"
        clock: Clock = ManualClock(self.start) if manual else RealClock(self.start, self.speed or 1.0)
        choose(self.verbose, self.trace)
        daemon = Daemon(
            Device(simulation, clock),
            simulation.generation,
            mountpoint,
            allow_other=allow_other,
            cover=cover,
            log_file=None if self.log_file is None else os.path.abspath(self.log_file),
        )
        simulation.advance_to(self.start)  # now that there is a log for it
        return daemon


_DEVICE = (
    click.option(
        "--clock",
        "clock_name",
        type=click.Choice(["real", "manual"]),
        default="real",
        show_default=True,
        help="Whether time passes by itself, or only when `pinnerfs ctl MOUNTPOINT advance` says so.",
    ),
    click.option(
        "--speed",
        type=click.FloatRange(0, 1000, min_open=True),
        metavar="X",
        help="Let a real clock run X times as fast.",
    ),
    click.option("--start", type=TIME, default=0, metavar="TIME", help="Run the workload this far before mounting."),
    seed,
    threshold,
    kernel,
    limit,
    click.option("--log", "log_file", metavar="FILE", help="Log to this file."),
    click.option("--verbose", is_flag=True, help="Log what is done to the device, too."),
    click.option(
        "--trace",
        type=_Layers(),
        default=(),
        metavar="LAYER[,LAYER]...",
        help="Log each step of these layers: fuse (requests, answers), engine (what it books), scenario (its events).",
    ),
)


def device(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a fake device; it gets them as one argument `device`."""

    @functools.wraps(command)
    def gather(**values: Any) -> None:
        chosen = DeviceOptions(**{field.name: values.pop(field.name) for field in fields(DeviceOptions)})
        command(device=chosen, **values)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_DEVICE), gather)
