"""`make bench`: what pinnerfs costs, as ratios of things measured side by side in one run.

Never a test: a ratio depends on the machine, and on what else it does meanwhile. So measure when nothing else runs.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import click

from pinnerfs.errors import PinnerfsError
from tests.bench import daemon, engine, files, work
from tests.bench.measure import REPEATS, NotMeasured, libfuse_versions
from tests.bench.table import Group, Row, as_json, as_text, machine


def _rows(group: Group) -> list[Row]:
    """What came of a group; whatever stands in the way is told in the table."""
    try:
        figures = group.measure()
    except (NotMeasured, PinnerfsError, OSError, subprocess.SubprocessError) as error:
        return [Row(target, why_not=str(error)) for target in group.targets]
    return [Row(target, some) for target, some in zip(group.targets, figures, strict=True)]


@click.command()
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="bench.json",
    show_default=True,
    help="Write the figures of every repeat here, too.",
)
@click.option("--long", is_flag=True, help="Play 100,000,000 events as well, which takes minutes.")
def main(path: Path, long: bool) -> None:
    """Measure what pinnerfs costs, and print a table."""
    began = time.monotonic()
    facts = machine() | {"libfuse": libfuse_versions(), "repeats": REPEATS}
    rows = []
    for group in [*files.groups(), *daemon.groups(), *engine.groups(), *work.groups(long)]:
        click.echo(f"measuring: {group.targets[0].what}", err=True)
        rows += _rows(group)
    facts["seconds"] = round(time.monotonic() - began)
    click.echo(as_text(rows, facts), nl=False)
    path.write_text(as_json(rows, facts))


if __name__ == "__main__":
    main()
