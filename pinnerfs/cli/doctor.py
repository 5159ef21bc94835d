"""pinnerfs doctor."""

from __future__ import annotations

import click

from pinnerfs.cli.options import TIME, as_json
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.jsontext import json_text

__all__ = ["doctor"]


@click.command()
@as_json
@click.option(
    "--max-wait",
    type=TIME,
    default="5s",
    show_default=True,
    metavar="TIME",
    help="Report a mount whose daemon does not answer for this time.",
)
def doctor(as_json: bool, max_wait: int) -> None:
    """Check whether this machine can mount, and print what mends it.

    Each check prints one line: ok; a warning about a feature that does not work, or about other users; or an error. The
    last two lines say whether `pinnerfs mount` and `pinnerfs run` can work for this user. If neither can, the exit
    status is 69.

    \b
    Example:
      pinnerfs doctor || echo this machine cannot mount
    """
    from pinnerfs.cli.child import in_child
    from pinnerfs.cli.load_numpy import load_numpy
    from pinnerfs.doctor import examine

    found = examine(in_child, load_numpy, max_wait / 10**6)
    if as_json:
        data = {"checks": found.findings, "mount": found.mount.state == "ok", "run": found.run.state == "ok"}
        click.echo(json_text(data), nl=False)
    else:
        for finding in (*found.findings, found.mount, found.run):
            click.echo(finding.line)
    if not found.can_mount:
        raise PinnerfsError("this machine cannot mount; `dump` and `check --expect` need only numpy", NO_FUSE)
