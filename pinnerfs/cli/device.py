"""The options of a fake device, which `mount` and `run` share, and the daemon that they make."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pinnerfs.cli.captures import load_argument, over_and_loop
from pinnerfs.cli.engine import clock, other_files, play_to_start, simulation
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.mm import MmOptions, mm
from pinnerfs.cli.options import TIME, limit, seed, threshold
from pinnerfs.debugfs.engine import Deferred
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.mounts.table import resolve
from pinnerfs.scenario.limits import Limits, check_alloc_work, check_work
from pinnerfs.scenario.schema import Scenario
from pinnerfs.trace import LAYERS, choose

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
        from click.shell_completion import CompletionItem  # only a shell needs it

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

    def engine(
        self, scenario: str, max_wait: float, *, foreground: bool = False, defer: bool = False
    ) -> Simulation | Replay | Deferred:
        """Load the scenario or the capture and return its simulation or replay at time 0.

        max_wait: seconds to wait for the file system of a capture. With `defer` return a simulation that is built
        later, unless an error or a warning may come from building it. PinnerfsError if it cannot be played, or the
        options contradict each other.
        """
        if self.log_file == "-":
            raise PinnerfsError("--log: a daemon has no standard output (-); name a file", BAD_INPUT)
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
        return simulation(self, loaded, traced=bool(traced), defer=defer)

    def daemon(
        self,
        engine: Simulation | Replay | Deferred,
        mountpoint: str,
        *,
        allow_other: bool = False,
        cover: bool = False,
        android: bool = False,
    ) -> Daemon:
        """Return the daemon that mounts a simulation or replay, at the time of --start. `mountpoint` is absolute."""
        from pinnerfs.daemon.daemon import Daemon
        from pinnerfs.debugfs.device import Device

        choose(self.verbose, self.trace)
        if self.log_file is not None:
            log_path = resolve(self.log_file, "log to")
            # Opening the log would create it, and the mount point must stay empty.
            if not cover and os.path.commonpath([log_path, mountpoint]) == mountpoint:
                raise PinnerfsError(f"cannot log to {self.log_file}: it is in the mount point; wanted a file outside")
        daemon = Daemon(
            Device(engine, clock(self)),
            engine.generation,
            allow_other=allow_other,
            cover=cover,
            android=android,
            files=other_files(engine),
            log_file=self.log_file,
        )
        if not isinstance(engine, Deferred):
            play_to_start(self, engine, mountpoint)  # after Daemon has opened the log
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
