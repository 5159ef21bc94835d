"""pinnerfs check."""

from __future__ import annotations

import time

import click

from pinnerfs.cli.check_output import JsonOutput, Output, TapOutput, TextOutput
from pinnerfs.cli.files import wait_for_scenario
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.memory import memory_for
from pinnerfs.cli.mm import MmOptions, mm
from pinnerfs.cli.options import as_json, limit, max_wait, seeds
from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.jsontext import json_text
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.scenario.checkable import check_checkable
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.schema import Scenario
from pinnerfs.words import count_of

__all__ = ["check"]


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--expect", is_flag=True, help="Also play the scenarios, and check their expectations.")
@click.option("--tap", is_flag=True, help="With --expect, print KTAP, as kselftest and prove read it.")
@as_json
@seeds
@kernel
@mm
@limit
@max_wait
def check(
    scenarios: tuple[str, ...],
    expect: bool,
    tap: bool,
    as_json: bool,
    seeds: tuple[int, ...] | None,
    kernel: str,
    mm: MmOptions,
    limits: Limits,
    max_wait: float,
) -> None:
    """Validate scenarios.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file, or `-` for standard input. All of them are
    validated; if one is invalid, the exit status is 2.

    With --expect each scenario is played with its own seed, or with each of --seeds, as fast as possible, and the
    result of each expectation is printed. If one is not met, the exit status is 1. An expectation that names a kernel
    is played on that kernel, and all others on the one that --kernel names.

    \b
    Example:
      pinnerfs check --expect camera-stall
    """
    if tap and as_json:
        raise click.UsageError("only one format can be printed; wanted one of --tap and --json")
    if tap and not expect:
        raise click.UsageError("--tap goes with --expect: without it nothing is tested")
    if seeds is not None and not expect:
        raise click.UsageError("--seeds goes with --expect: without it nothing is played")
    for name in scenarios:
        wait_for_scenario(name, max_wait)
    invalid = 0
    valid = []
    for name in scenarios:
        try:
            scenario = load(name, limits)
            if expect:
                count = len(seeds or (0,))
                check_checkable(scenario, name, GENERATIONS[kernel], limits, seeds=count, retries=mm.cma_retries)
        except PinnerfsError as error:
            invalid += 1
            say(f"Error: {error}")
        else:
            valid.append((name, scenario))
    if invalid and len(scenarios) == 1:
        raise SystemExit(BAD_INPUT)
    if invalid:
        raise PinnerfsError(f"{invalid} of {count_of(len(scenarios), 'scenario')} cannot be checked", BAD_INPUT)
    if expect:
        _expect(valid, seeds, kernel, mm, TapOutput() if tap else JsonOutput() if as_json else TextOutput())
    elif as_json:
        click.echo(json_text({"scenarios": [{"scenario": name} for name, _ in valid]}), nl=False)
    else:
        click.echo("\n".join(f"{in_a_line(name)}: ok" for name, _ in valid))


def _expect(
    scenarios: list[tuple[str, Scenario]], seeds: tuple[int, ...] | None, kernel: str, mm: MmOptions, output: Output
) -> None:
    """Play the scenarios, and print the result of each expectation."""
    # Validation does not need numpy.
    load_numpy()
    from pinnerfs.check import check_expectations, check_seeds
    from pinnerfs.cli.progress import advance

    failed, total = 0, sum(len(scenario.expect) for _, scenario in scenarios)
    output.begin(total)
    for name, scenario in scenarios:
        began = time.perf_counter()
        with memory_for(scenario):
            if seeds is None:
                report = check_expectations(scenario, advance, kernel, **mm.arguments)
            else:
                report = check_seeds(scenario, seeds, advance, kernel, **mm.arguments)
        output.add(name, report, time.perf_counter() - began)
        failed += sum(not result.met for result in report.results)
    output.end()
    if failed:
        raise PinnerfsError(f"{failed} of {count_of(total, 'expectation')} failed")
