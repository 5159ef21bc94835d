"""pinnerfs list."""

from __future__ import annotations

import click

from pinnerfs.cli.options import as_json
from pinnerfs.jsontext import json_text
from pinnerfs.scenario.gallery import gallery, load

__all__ = ["list_"]


@click.command("list")
@click.option("--kernels", is_flag=True, help="Print the kernels for --kernel instead, each with what it shows.")
@as_json
def list_(kernels: bool, as_json: bool) -> None:
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
        from pinnerfs.cli.kernel import kernel_data, kernel_table

        text = json_text({"kernels": kernel_data()}) if as_json else "\n".join([*kernel_table(), ""])
        click.echo(text, nl=False)
        return
    scenarios = {name: load(name).description for name in gallery()}
    if as_json:
        data = [
            {"name": name, "description": description, "path": str(gallery()[name])}
            for name, description in scenarios.items()
        ]
        click.echo(json_text({"scenarios": data}), nl=False)
        return
    width = max(map(len, scenarios), default=0)
    for name, description in scenarios.items():
        click.echo(f"{name:{width}}  {description}")
