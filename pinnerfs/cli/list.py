"""pinnerfs list."""

from __future__ import annotations

import click

from pinnerfs.scenario.gallery import gallery, load

__all__ = ["list_"]


@click.command("list")
def list_() -> None:
    """Print the scenarios that come with pinnerfs, one per line.

    Each line has the name and a description.

    \b
    Example:
      pinnerfs list
    """
    names = list(gallery())
    width = max(map(len, names), default=0)
    for name in names:
        click.echo(f"{name:{width}}  {load(name).description}")
