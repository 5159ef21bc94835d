"""pinnerfs schema."""

from __future__ import annotations

import click

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors.

    An editor that knows it completes keys, and marks unknown keys and wrong units. A scenario file names it on its
    first line: `#:schema ./scenario.schema.json`.

    \b
    Example:
      pinnerfs schema > scenario.schema.json
    """
    from pinnerfs.scenario.jsonschema import schema_text

    click.echo(schema_text(), nl=False)
