"""pinnerfs dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pinnerfs.cli import options
from pinnerfs.cli.captures import load_argument, over_and_loop
from pinnerfs.cli.files import wait_for_scenario
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.memory import memory_for
from pinnerfs.cli.mm import MmOptions, mm
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.scenario.limits import Limits, check_work
from pinnerfs.scenario.schema import Scenario
from pinnerfs.words import count_of

if TYPE_CHECKING:
    from pinnerfs.replay import Replay

__all__ = ["dump"]


@click.command()
@options.scenario
@click.option(
    "--at",
    "moment",
    type=options.TIME,
    metavar="TIME",
    help="Play the scenario up to TIME. Needed, except for a capture: there the default is its end.",
)
@options.seed
@options.threshold
@kernel
@mm
@click.option(
    "--file",
    metavar="NAME",
    help="Print this record file of the kernel instead of its main one, which is longterm_pinner or buffer.",
)
@options.as_json
@options.limit
@options.max_wait
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="After the records, print what the accounting saw of each task, in lines that start with `# `.",
)
@over_and_loop[0]
@over_and_loop[1]
def dump(
    scenario: str,
    moment: int | None,
    seed: int | None,
    threshold: int | None,
    kernel: str,
    mm: MmOptions,
    file: str | None,
    as_json: bool,
    limits: Limits,
    max_wait: float,
    explained: bool,
    over: int | None,
    loop: bool,
) -> None:
    """Print a record file as a mount of SCENARIO would show it, without mounting.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file or to a capture of a device, or `-` for standard
    input.

    \b
    Example:
      pinnerfs dump camera-stall --at 60s --explain | tail -n 24
    """
    wait_for_scenario(scenario, max_wait)
    loaded = load_argument(scenario, limits, over=over, loop=loop, threshold=threshold, max_wait=max_wait)
    if not isinstance(loaded, Scenario):
        _check_file(file, loaded.generation)
        if file is None:
            _name_other_files(loaded)
        loaded.advance_to((over or 0) if moment is None else moment)
        click.echo(loaded.raw(file), nl=False)
        return
    _check_file(file, GENERATIONS[kernel])
    if moment is None:
        raise click.UsageError("Missing option '--at'.")
    check_work(loaded, scenario, [moment], limits, mm.cma_retries)
    load_numpy()
    from pinnerfs.cli.explain import explain
    from pinnerfs.cli.progress import advance
    from pinnerfs.simulation import Simulation

    with memory_for(loaded):
        simulation = Simulation(loaded, seed=seed, threshold=threshold, kernel=kernel, **mm.arguments)
        advance(simulation, moment)
    if as_json:
        from pinnerfs.cli.dump_json import dump_json

        click.echo(dump_json(simulation, file, explained), nl=False)
        return
    click.echo(simulation.cat(file), nl=False)
    if explained:
        click.echo("\n".join(f"# {line}" for line in explain(simulation)))


def _name_other_files(replay: Replay) -> None:
    """Say which files of a capture have records, if the main file has none."""
    main, records = replay.generation.main_file, replay.recording.records
    if not records[main]:
        for file in filter(records.get, records):
            say(f"{main} has no records in this capture; --file {file} prints {count_of(len(records[file]), 'record')}")


def _check_file(file: str | None, generation: Generation) -> None:
    if file is not None and file not in generation.record_files:
        known = ", ".join(generation.record_files)
        raise click.UsageError(f"--file {file!r}: kernel {generation.name} has no such record file: it has {known}")
