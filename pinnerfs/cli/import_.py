"""pinnerfs import."""

from __future__ import annotations

import os

import click

from pinnerfs.cli.files import wait_for_file
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.options import max_wait

__all__ = ["import_"]


@click.command("import")
@click.argument("capture", metavar="CAPTURE")
@max_wait
def import_(capture: str, max_wait: float) -> None:
    """Print a scenario that does what a capture shows: a skeleton to edit.

    Its dump has the same call sites, in the same order of weight. A dump does not tell everything: what is guessed is
    marked. CAPTURE is all that `report` reads: a capture of `record`, a dump, a bug report (.txt, .zip), a directory, a
    mounted debugfs, or `-` for standard input.

    \b
    Example:
      pinnerfs dump camera-stall --at 60s > dump.txt
      pinnerfs import dump.txt > mine.toml
      pinnerfs check --expect ./mine.toml
    """
    load_numpy()
    from pinnerfs.importing import import_capture
    from pinnerfs.replay.loading import read_opened
    from pinnerfs.scenario.reading import open_pipe

    if capture != "-":
        wait_for_file("read", capture, max_wait)
    # A capture is always a path. `open_pipe` takes a name without a slash for that of a scenario.
    with open_pipe(capture if capture == "-" else os.path.join(".", capture)) as pipe:
        found = read_opened(capture, max_wait, pipe)
    for note in found.notes:
        say(str(note))
    click.echo(import_capture(found), nl=False)
