"""pinnerfs dump."""

from __future__ import annotations

import click

from pinnerfs.cli import options
from pinnerfs.cli.explain import explain
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.memory import memory_for
from pinnerfs.cli.progress import advance
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits, check_work
from pinnerfs.simulation import Simulation

__all__ = ["dump"]


@click.command()
@options.scenario
@click.option("--at", "moment", type=options.TIME, required=True, metavar="TIME", help="Play the scenario up to TIME.")
@options.seed
@options.threshold
@kernel
@options.limit
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="After the records, print what the accounting saw of each task, in lines that start with `# `.",
)
def dump(
    scenario: str,
    moment: int,
    seed: int | None,
    threshold: int | None,
    kernel: str,
    limits: Limits,
    explained: bool,
) -> None:
    """Print longterm_pinner as a mount of SCENARIO would show it, without mounting.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file, or `-` for standard input.

    \b
    Example:
      pinnerfs dump camera-stall --at 60s --explain | tail -n 24
    """
    loaded = load(scenario, limits)
    check_work(loaded, scenario, [moment], limits)
    with memory_for(loaded):
        simulation = Simulation(loaded, seed=seed, threshold=threshold, kernel=kernel)
        advance(simulation, moment)
    click.echo(simulation.longterm_pinner(), nl=False)
    if explained:
        click.echo("\n".join(f"# {line}" for line in explain(simulation)))
