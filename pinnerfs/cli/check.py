"""pinnerfs check."""

from __future__ import annotations

import click

from pinnerfs.errors import PinnerfsError
from pinnerfs.workload.gallery import load

__all__ = ["check"]


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
def check(scenarios: tuple[str, ...]) -> None:
    """Validate scenarios: names of the gallery or paths. All of them are looked at; one that is wrong fails.

    \b
    Example:
      pinnerfs check camera-stall ./mine.toml
    """
    wrong = 0
    good = []
    for scenario in scenarios:
        try:
            load(scenario)
        except PinnerfsError as error:
            wrong += 1
            click.echo(f"Error: {error}", err=True)
        else:
            good.append(scenario)
    if wrong:
        raise PinnerfsError(f"{wrong} of {len(scenarios)} scenarios cannot be played")
    for scenario in good:
        click.echo(f"{scenario}: ok")
