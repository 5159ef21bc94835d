"""The options of a fake device, which `mount` and `run` share, and the daemon that they make."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from pinnerfs.cli.captures import load_argument, over_and_loop
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.memory import memory_for
from pinnerfs.cli.mm import MmOptions, mm
from pinnerfs.cli.options import TIME, limit, seed, threshold
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.mounts.table import resolve
from pinnerfs.scenario.limits import Limits, check_alloc_work, check_work
from pinnerfs.scenario.schema import Scenario
from pinnerfs.trace import LAYERS, SimulationTrace, choose

if TYPE_CHECKING:
    from pinnerfs.clock import Clock
    from pinnerfs.daemon.daemon import Daemon
    from pinnerfs.replay import Replay
    from pinnerfs.simulation import Simulation

__all__ = ["DeviceOptions", "device"]


class _Layers(click.ParamType[tuple[str, ...]]):
    """Names of layers, separated by commas; or by colons, because mount(8) splits at commas."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(value.replace(":", ",").split(","))
        for name in names:
            if name not in LAYERS:
                self.fail(f"{name!r} is not one of {', '.join(map(repr, LAYERS))}", param, ctx)
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        """Complete the last name."""
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{layer}") for layer in LAYERS if layer.startswith(last)]


class DeviceOptions(NamedTuple):
    """The options of a fake device; a field for each option of `device`."""

    clock_name: str
    speed: float | None
    max_lag: int | None
    start: int
    seed: int | None
    threshold: int | None
    kernel: str
    mm: MmOptions
    limits: Limits
    log_file: str | None
    verbose: bool
    trace: tuple[str, ...]
    over: int | None
    loop: bool

    def engine(self, scenario: str, max_wait: float, *, foreground: bool = False) -> Simulation | Replay:
        """Load the scenario or the capture and return its simulation or replay at time 0.

        max_wait: seconds to wait for the file system of a capture. PinnerfsError if it cannot be played, or the options
        contradict each other.
        """
        if (self.verbose or self.trace) and self.log_file is None and not foreground:
            option = "--verbose" if self.verbose else "--trace"
            raise PinnerfsError(f"{option} needs --log FILE: a daemon in the background has no stderr", BAD_INPUT)
        if self.speed is not None and math.isnan(self.speed):
            # FloatRange accepts it: it compares false with every bound.
            raise PinnerfsError("--speed must be a number above 0, not nan", BAD_INPUT)
        if self.speed is not None and self.clock_name == "manual":
            wanted = "goes with --clock real: a manual clock does not run"
            raise PinnerfsError(f"--speed {self.speed:g} {wanted}", BAD_INPUT)
        if self.max_lag is not None and self.clock_name == "manual":
            raise PinnerfsError("--max-lag goes with --clock real: a manual clock does not slip", BAD_INPUT)
        if self.max_lag == 0:
            raise PinnerfsError("--max-lag must be more than 0us", BAD_INPUT)
        traced = sorted({"engine", "scenario"} & {*self.trace})
        loaded = load_argument(
            scenario,
            self.limits,
            over=self.over,
            loop=self.loop,
            threshold=self.threshold,
            max_wait=max_wait,
            trace=traced,
        )
        if not isinstance(loaded, Scenario):
            return loaded
        check_work(loaded, scenario, [self.start], self.limits, self.mm.cma_retries)
        check_alloc_work(loaded, scenario, self.limits, self.mm.cma_retries)
        load_numpy()
        from pinnerfs.simulation import Simulation

        with memory_for(loaded):
            return Simulation(
                loaded,
                seed=self.seed,
                threshold=self.threshold,
                kernel=self.kernel,
                limits=self.limits,
                observer=SimulationTrace() if traced else None,
                **self.mm.arguments,
            )

    def daemon(
        self,
        engine: Simulation | Replay,
        mountpoint: str,
        *,
        allow_other: bool = False,
        cover: bool = False,
        android: bool = False,
    ) -> Daemon:
        """Return the daemon that mounts a simulation or replay, at the time of --start. `mountpoint` is absolute."""
        from pinnerfs.clock import MAX_LAG, ManualClock, RealClock
        from pinnerfs.daemon.daemon import Daemon
        from pinnerfs.debugfs.device import Device
        from pinnerfs.pace import reached_speed
        from pinnerfs.replay import Replay

        manual = self.clock_name == "manual"
        speed = self.speed or 1.0
        max_lag = MAX_LAG if self.max_lag is None else self.max_lag / 1e6
        clock: Clock = ManualClock(self.start) if manual else RealClock(self.start, speed, max_lag)
        choose(self.verbose, self.trace)
        if self.log_file is not None:
            log_path = resolve(self.log_file, "log to")
            # Opening the log would create it, and the mount point must stay empty.
            if not cover and os.path.commonpath([log_path, mountpoint]) == mountpoint:
                raise PinnerfsError(f"cannot log to {self.log_file}: it is in the mount point; wanted a file outside")
        daemon = Daemon(
            Device(engine, clock),
            engine.generation,
            allow_other=allow_other,
            cover=cover,
            android=android,
            files=engine.recording.files if isinstance(engine, Replay) else None,
            log_file=self.log_file,
        )
        if isinstance(engine, Replay):
            engine.advance_to(self.start)
            return daemon
        with memory_for(engine.scenario):
            engine.advance_to(self.start)  # after Daemon has opened the log
        if not manual and (reached := reached_speed(engine.scenario, speed)) is not None:
            say(
                f"Warning: this machine plays {engine.scenario.name} at speed {reached:.3g} or so, not {speed:g}: "
                f"the clock will slip, as `pinnerfs ctl {mountpoint} clock` shows; wanted a lower --speed"
            )
        return daemon


_OPTIONS = (
    click.option(
        "--clock",
        "clock_name",
        type=click.Choice(["real", "manual"]),
        default="real",
        show_default=True,
        help="real: time passes by itself. manual: time passes by `pinnerfs ctl MOUNTPOINT advance`.",
    ),
    click.option(
        "--speed",
        type=click.FloatRange(0, 1000, min_open=True),
        metavar="X",
        help="Let a real clock run X times as fast.",
    ),
    click.option(
        "--max-lag",
        type=TIME,
        metavar="TIME",
        help="Let due events delay a reader for at most TIME: after that a real clock slips.  [default: 1s]",
    ),
    click.option("--start", type=TIME, default=0, metavar="TIME", help="Play the scenario up to TIME before mounting."),
    seed,
    threshold,
    kernel,
    mm,
    limit,
    click.option("--log", "log_file", metavar="FILE", help="Log to this file."),
    click.option("--verbose", is_flag=True, help="Also log what users do to the device."),
    click.option(
        "--trace",
        type=_Layers(),
        default=(),
        metavar="LAYER[,LAYER]...",
        help="Log each step of these layers: fuse (requests and answers), engine (the accounting), scenario (events).",
    ),
    *over_and_loop,
)


def device(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a fake device; it gets them as one argument `device`."""

    @functools.wraps(command)
    def gather(**values: Any) -> None:
        chosen = DeviceOptions(**{name: values.pop(name) for name in DeviceOptions._fields})
        command(device=chosen, **values)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), gather)
