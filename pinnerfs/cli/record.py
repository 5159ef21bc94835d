"""pinnerfs record."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import click

from pinnerfs.cli.child import in_child
from pinnerfs.cli.files import refuse_empty, wait_for_file
from pinnerfs.cli.launch import say
from pinnerfs.cli.options import max_wait

__all__ = ["record"]

SCRIPT = Path(__file__).parent.with_name("record") / "record.sh"


@click.command()
@click.argument("source", metavar="INPUT", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write the capture to this file instead of standard output.")
@click.option("--redact", is_flag=True, help="Replace addresses and serials by numbers, one to one.")
@click.option("--script", is_flag=True, help="Print a shell script that records on a device, where INPUT cannot be.")
@click.option("-f", "--force", is_flag=True, help="Overwrite an existing file.")
@max_wait
def record(source: str | None, output: str | None, redact: bool, script: bool, force: bool, max_wait: float) -> None:
    """Record a debugfs as a capture, one text file that `report` reads and `mount` replays.

    INPUT is a mount of pinnerfs or a real debugfs. With --redact it can also be a capture (`-` for standard input).

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --start 60s
      pinnerfs record /tmp/d | pinnerfs report -
      pinnerfs umount /tmp/d
    """
    from pinnerfs.record.output import check_output, write_output

    if script and (source is not None or redact):
        raise click.UsageError("--script stands alone: INPUT and --redact are for a recording on this machine")
    if not script and source is None:
        raise click.UsageError("no INPUT: name a mount of pinnerfs or a debugfs, or give --script")
    if source == "-" and not redact:
        raise click.UsageError("only --redact takes standard input (-); name a mount of pinnerfs or a debugfs")
    if output is not None:
        refuse_empty("-o", output)
    if output == "-":
        output = None
    if output is not None:
        wait_for_file("write", output, max_wait)
        check_output("-o", output, force)
    made = SCRIPT.read_bytes() if source is None else _recorded(source, redact, max_wait)
    if output is not None:
        write_output("-o", output, made, force, max_wait)
    else:
        click.echo(made, nl=False)


def _recorded(source: str, redacted: bool, max_wait: float) -> bytes:
    """Return the capture of a directory, or a file that is a capture already."""
    from pinnerfs.record.recorder import read_capture, read_stdin, record

    if source == "-" and redacted:
        made = read_stdin()
    elif redacted:
        made = in_child(partial(read_capture, source, max_wait))
    else:
        made = in_child(partial(record, source, max_wait))
    for line in re.findall(rb"^Unable to read /.*", made, re.MULTILINE):
        say(f"{source}: {line.decode(errors='surrogateescape')}")
    if not redacted:
        return made
    from pinnerfs.record.redact import redact

    return redact(made, "stdin" if source == "-" else source)
