"""pinnerfs ctl."""

from __future__ import annotations

import click

from pinnerfs.client import Client

__all__ = ["ctl"]


@click.group(no_args_is_help=False)
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.pass_context
def ctl(context: click.Context, mountpoint: str) -> None:
    """Control a mounted fake device: advance its clock, pin pages, read its counters.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d advance 60s
      pinnerfs ctl /tmp/d stats
      pinnerfs umount /tmp/d
    """
    context.obj = mountpoint  # the commands open it: their --help needs no mount


@ctl.command(short_help="Advance a manual clock by TIME.")
@click.argument("time", metavar="TIME")
@click.pass_obj
def advance(mountpoint: str, time: str) -> None:
    """Advance a manual clock by TIME, and return when everything up to then has happened.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d advance 60s
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    Client(mountpoint).advance(time)


@ctl.command()
@click.argument("actions", nargs=-1, required=True, metavar="ACTION...")
@click.pass_obj
def do(mountpoint: str, actions: tuple[str, ...]) -> None:
    """Pin, release, unmap and free pages now. If one ACTION is wrong, none of them is done.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d do 'pin task=camera pages=64 hold=500ms'
      pinnerfs ctl /tmp/d advance 500ms
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    Client(mountpoint).do("\n".join(actions))


@ctl.command()
@click.pass_obj
def clock(mountpoint: str) -> None:
    """Print the boot time of the device in µs.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual --start 5s
      pinnerfs ctl /tmp/d clock
      pinnerfs umount /tmp/d
    """
    click.echo(Client(mountpoint).read("clock"), nl=False)


@ctl.command()
@click.pass_obj
def stats(mountpoint: str) -> None:
    """Print the counters of the accounting, one `name value` per line.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --start 60s
      pinnerfs ctl /tmp/d stats
      pinnerfs umount /tmp/d
    """
    click.echo(Client(mountpoint).read("stats"), nl=False)
