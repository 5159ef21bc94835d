"""pinnerfs list."""

from __future__ import annotations

import click

from pinnerfs.scenario.gallery import gallery, load

__all__ = ["list_"]


@click.command("list")
@click.option("--kernels", is_flag=True, help="Print the kernels for --kernel instead, each with what it shows.")
def list_(kernels: bool) -> None:
    """Print the scenarios that come with pinnerfs, or the kernels.

    Without an option, print one scenario per line: its name and a description.

    With --kernels, print for each kernel its files, the lines of a record in each record file, what the kernel tracks,
    the memory management around it (as for --mm), and the evidence: a real kernel was asked (recorded), its source was
    read, or it is expected to be so.

    \b
    Example:
      pinnerfs list --kernels
    """
    if kernels:
        from pinnerfs.cli.kernel import kernel_table

        click.echo("\n".join(kernel_table()))
        return
    names = list(gallery())
    width = max(map(len, names), default=0)
    for name in names:
        click.echo(f"{name:{width}}  {load(name).description}")
