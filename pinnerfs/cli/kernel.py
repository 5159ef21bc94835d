"""The option --kernel. Apart from the other options, because the list of kernels imports numpy."""

from __future__ import annotations

import click

from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED

__all__ = ["kernel"]

kernel = click.option(
    "--kernel",
    type=click.Choice(list(GENERATIONS)),
    default=INTRODUCED.name,
    show_default=True,
    metavar="NAME",
    help=f"Imitate the page_pinner of this kernel: {', '.join(GENERATIONS)}.",
)
