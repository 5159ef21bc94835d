"""pinnerfs dump."""

from __future__ import annotations

import click

from pinnerfs.cli import options
from pinnerfs.cli.progress import advance
from pinnerfs.simulation import Simulation
from pinnerfs.workload.gallery import load

__all__ = ["dump"]


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
    advance(simulation, moment)
    click.echo(simulation.longterm_pinner(), nl=False)
