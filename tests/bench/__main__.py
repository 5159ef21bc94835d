"""`make bench`: the cost of pinnerfs, as ratios of things measured side by side.

Not a test: ratios depend on the machine and its load. Measure on an idle machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import TextIO

import click

from tests.bench import cma, daemon, engine, files, report, starting, sweeps, work
from tests.bench.measure import FEW_REPEATS, REPEATS, libfuse_versions, measured
from tests.bench.table import as_json, as_text, machine


@click.command()
@click.option(
    "--json",
    "file",
    type=click.File("w"),
    default="bench.json",
    show_default=True,
    help="Also write the figures of every repeat to this file.",
)
def main(file: TextIO) -> None:
    """Measure the cost of pinnerfs and print a table."""
    with tempfile.TemporaryDirectory() as cache:
        # As for a user: an installed pinnerfs is compiled once, whatever the caller's environment says.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = cache
        _measure(file)


def _measure(file: TextIO) -> None:
    began = time.monotonic()
    facts = machine() | {"libfuse": libfuse_versions(), "repeats": f"{REPEATS}, or {FEW_REPEATS} for slow rows"}
    rows = []
    groups = [
        *files.groups(),
        *starting.groups(),
        *daemon.groups(),
        *engine.groups(),
        *cma.groups(),
        *work.groups(),
        *report.groups(),
        *sweeps.groups(),
    ]
    for group in groups:
        click.echo(f"measuring: {group.targets[0].what}", err=True)
        rows += measured(group)
    facts["seconds"] = round(time.monotonic() - began)
    click.echo(as_text(rows, facts), nl=False)
    file.write(as_json(rows, facts))


if __name__ == "__main__":
    main()
