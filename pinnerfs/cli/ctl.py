"""pinnerfs ctl."""

from __future__ import annotations

import click

from pinnerfs.client import Steering

__all__ = ["ctl"]


@click.group()
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.pass_context
def ctl(context: click.Context, mountpoint: str) -> None:
    """Steer a mounted fake device, and ask it.

    \b
    Example:
      pinnerfs ctl /tmp/d advance 5s
      pinnerfs ctl /tmp/d stats
    """
    context.obj = mountpoint  # looked at by the commands: their --help needs no mount


@ctl.command()
@click.argument("time", metavar="TIME")
@click.pass_obj
def advance(mountpoint: str, time: str) -> None:
    """Let a manual clock go on by TIME; returns when the books are up to then.

    \b
    Example:
      pinnerfs ctl /tmp/d advance 5s
    """
    Steering(mountpoint).advance(time)


@ctl.command()
@click.argument("actions", nargs=-1, required=True, metavar="ACTION...")
@click.pass_obj
def do(mountpoint: str, actions: tuple[str, ...]) -> None:
    """Pin, release and free pages now: all the ACTIONs, or none.

    \b
    Example:
      pinnerfs ctl /tmp/d do 'pin task=camera pages=64 hold=500ms'
    """
    Steering(mountpoint).do("\n".join(actions))


@ctl.command()
@click.pass_obj
def clock(mountpoint: str) -> None:
    """Print the device's boot time in µs.

    \b
    Example:
      pinnerfs ctl /tmp/d clock
    """
    click.echo(Steering(mountpoint).read("clock"), nl=False)


@ctl.command()
@click.pass_obj
def stats(mountpoint: str) -> None:
    """Print what the books have counted, one `name value` a line.

    \b
    Example:
      pinnerfs ctl /tmp/d stats
    """
    click.echo(Steering(mountpoint).read("stats"), nl=False)
