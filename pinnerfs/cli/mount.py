"""pinnerfs mount."""

from __future__ import annotations

import math
import os

import click

from pinnerfs.cli import options
from pinnerfs.clock import Clock, ManualClock, RealClock
from pinnerfs.debugfs.daemon import Daemon
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.mountpoints import prepare
from pinnerfs.errors import PinnerfsError
from pinnerfs.simulation import Simulation
from pinnerfs.workload.gallery import load

__all__ = ["mount"]


@click.command()
@options.scenario
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.option("-f", "foreground", is_flag=True, help="Stay in the foreground, and log to stderr.")
@click.option(
    "--clock",
    "clock_name",
    type=click.Choice(["real", "manual"]),
    default="real",
    show_default=True,
    help="Whether time passes by itself, or only when `pinnerfs ctl MOUNTPOINT advance` says so.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="X",
    help="Let a real clock run X times as fast.",
)
@click.option(
    "--start", type=options.TIME, default=0, metavar="TIME", help="Run the workload this far before mounting."
)
@options.seed
@options.threshold
@options.kernel
@click.option("--allow-other", is_flag=True, help="Let other users in (as it is when root mounts); the modes decide.")
@click.option(
    "--sendfile",
    is_flag=True,
    help="Show sizes as 1, for readers that begin with sendfile (a static busybox's cat).",
)
@click.option("--log", "log_file", metavar="FILE", help="Log to this file.")
def mount(
    scenario: str,
    mountpoint: str,
    foreground: bool,
    clock_name: str,
    speed: float | None,
    start: int,
    seed: int | None,
    threshold: int | None,
    kernel: str,
    allow_other: bool,
    sendfile: bool,
    log_file: str | None,
) -> None:
    """Mount a fake debugfs that plays SCENARIO, a name of the gallery or a path.

    Returns when the mount answers, and leaves a daemon behind, until `pinnerfs umount MOUNTPOINT`.

    \b
    Example:
      pinnerfs mount camera-stall /tmp/d --clock manual
    """
    if speed is not None and math.isnan(speed):
        # FloatRange lets it through: it lies on no side of any bound.
        raise PinnerfsError("--speed 'X' must be a number above 0, not nan", exit_status=2)
    if speed is not None and clock_name == "manual":
        raise PinnerfsError("--speed 'X' goes with --clock real: a manual clock does not run", exit_status=2)
    simulation = Simulation(load(scenario), seed=seed, threshold=threshold, kernel=kernel)
    path, word = prepare(mountpoint)
    if word:
        click.echo(word, err=True)
    simulation.advance_to(start)
    clock: Clock = ManualClock(start) if clock_name == "manual" else RealClock(start, speed or 1.0)
    daemon = Daemon(
        Device(simulation, clock),
        simulation.generation,
        path,
        allow_other=allow_other,
        sendfile=sendfile,
        log_file=None if log_file is None else os.path.abspath(log_file),
    )
    if foreground:
        daemon.run(lambda: None)
    else:
        daemon.detach()
