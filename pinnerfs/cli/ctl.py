"""pinnerfs ctl."""

from __future__ import annotations

import click

from pinnerfs.debugfs.steering import Steering

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
    context.obj = Steering(mountpoint)


@ctl.command()
@click.argument("time", metavar="TIME")
@click.pass_obj
def advance(steering: Steering, time: str) -> None:
    """Let a manual clock go on by TIME; returns when the books are up to then.

    \b
    Example:
      pinnerfs ctl /tmp/d advance 5s
    """
    steering.advance(time)


@ctl.command()
@click.argument("actions", nargs=-1, required=True, metavar="ACTION...")
@click.pass_obj
def do(steering: Steering, actions: tuple[str, ...]) -> None:
    """Pin, release and free pages now: all the ACTIONs, or none.

    \b
    Example:
      pinnerfs ctl /tmp/d do 'pin task=camera pages=64 hold=500ms'
    """
    steering.do("\n".join(actions))


@ctl.command()
@click.pass_obj
def clock(steering: Steering) -> None:
    """Print the device's boot time in µs.

    \b
    Example:
      pinnerfs ctl /tmp/d clock
    """
    click.echo(steering.read("clock"), nl=False)


@ctl.command()
@click.pass_obj
def stats(steering: Steering) -> None:
    """Print what the books have counted, one `name value` a line.

    \b
    Example:
      pinnerfs ctl /tmp/d stats
    """
    click.echo(steering.read("stats"), nl=False)
