"""pinnerfs dump."""

from __future__ import annotations

import sys
import time

import click

from pinnerfs.cli import options
from pinnerfs.simulation import Simulation
from pinnerfs.workload.gallery import load

__all__ = ["dump"]

PATIENCE = 1.0  # seconds before a progress bar appears


@click.command()
@options.scenario
@click.option("--at", "moment", type=options.TIME, required=True, metavar="TIME", help="How far to run the workload.")
@options.seed
@options.threshold
@options.kernel
def dump(scenario: str, moment: int, seed: int | None, threshold: int | None, kernel: str) -> None:
    """Print longterm_pinner as a mount of SCENARIO would show it, without mounting anything.

    \b
    Example:
      pinnerfs dump camera-stall --at 60s
    """
    simulation = Simulation(load(scenario), seed=seed, threshold=threshold, kernel=kernel)
    if sys.stderr.isatty():
        _run_with_progress(simulation, moment)
    else:
        simulation.advance_to(moment)
    click.echo(simulation.longterm_pinner(), nl=False)


def _run_with_progress(simulation: Simulation, moment: int) -> None:
    began = time.monotonic()
    steps = simulation.steps_to(moment)
    for _ in steps:
        if time.monotonic() - began > PATIENCE:
            break
    else:
        return
    with click.progressbar(length=moment, label="running", file=sys.stderr) as bar:
        bar.update(simulation.now)
        done = simulation.now
        for now in steps:
            bar.update(now - done)
            done = now
