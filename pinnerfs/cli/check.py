"""pinnerfs check."""

from __future__ import annotations

import time

import click

from pinnerfs.cli.limit import limit
from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.schema import Scenario

__all__ = ["check"]


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--expect", is_flag=True, help="Play them too, and see whether what they expect is what comes.")
@limit
def check(scenarios: tuple[str, ...], expect: bool, limits: Limits) -> None:
    """Validate scenarios: names of the gallery or paths. All of them are looked at; where one is wrong the status is 2.

    With --expect each is played, with its own seed, as fast as it can be, and each of its expectations reported; where
    one is not met the status is 1.

    \b
    Example:
      pinnerfs check camera-stall ./mine.toml
      pinnerfs check --expect ./mine.toml
    """
    wrong = 0
    good = []
    for name in scenarios:
        try:
            scenario = load(name, limits)
            if expect and not scenario.expect:
                raise PinnerfsError(f"{name}: nothing to check: wanted an [[expect]], but there is none")
        except PinnerfsError as error:
            wrong += 1
            click.echo(f"Error: {in_a_line(str(error))}", err=True)
        else:
            good.append((name, scenario))
    if wrong and len(scenarios) == 1:
        raise SystemExit(BAD_INPUT)
    if wrong:
        cannot = f"cannot be {'checked' if expect else 'played'}"
        raise PinnerfsError(f"{wrong} of {len(scenarios)} scenarios {cannot}", BAD_INPUT)
    if expect:
        _expect(good)
    else:
        for name, _ in good:
            click.echo(f"{name}: ok")


def _expect(scenarios: list[tuple[str, Scenario]]) -> None:
    """Report each expectation on a line of its own, and how long each scenario was played, and took."""
    # These bring numpy, which a mere look does not need.
    from pinnerfs.check import try_expectations
    from pinnerfs.cli.progress import advance

    failed = total = 0
    for name, scenario in scenarios:
        began = time.perf_counter()
        trial = try_expectations(scenario, advance)
        took = time.perf_counter() - began
        for outcome in trial.outcomes:
            verdict = "ok" if outcome.held else "FAILED"
            wanted = f"{outcome.expectation.when()}: wanted {outcome.expectation.wanted()}"
            click.echo(f"{name}: {verdict} {wanted}; came {outcome.came}")
        failed += sum(not outcome.held for outcome in trial.outcomes)
        total += len(trial.outcomes)
        click.echo(f"{name}: played {trial.played / 10**6:g}s in {took:.2f}s")
    if failed:
        raise PinnerfsError(f"{failed} of {total} expectations failed")
