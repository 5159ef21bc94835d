"""pinnerfs ctl."""

from __future__ import annotations

from dataclasses import dataclass

import click

from pinnerfs.cli.child import in_child
from pinnerfs.cli.launch import say
from pinnerfs.cli.options import as_json, max_wait
from pinnerfs.client import Client
from pinnerfs.jsontext import json_text

__all__ = ["ctl"]


@dataclass(frozen=True)
class _Target:
    """The mount to control. It is accessed by the commands, so that their --help needs none."""

    mountpoint: str
    max_wait: float

    def client(self) -> Client:
        return Client(self.mountpoint, self.max_wait)


@click.group(no_args_is_help=False)
@click.argument("mountpoint", metavar="MOUNTPOINT")
@max_wait
@click.pass_context
def ctl(context: click.Context, mountpoint: str, max_wait: float) -> None:
    """Control a mounted fake device: advance its clock, pin pages, read its counters and its log.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d advance 60s
      pinnerfs ctl /tmp/d stats
      pinnerfs umount /tmp/d
    """
    context.obj = _Target(mountpoint, max_wait)


@ctl.command(short_help="Advance a manual clock by TIME.")
@click.argument("time", metavar="TIME")
@click.pass_obj
def advance(target: _Target, time: str) -> None:
    """Advance a manual clock by TIME, and return when everything up to then has happened.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d advance 60s
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    in_child(lambda: target.client().advance(time))


@ctl.command()
@click.argument("actions", nargs=-1, required=True, metavar="ACTION...")
@click.pass_obj
def do(target: _Target, actions: tuple[str, ...]) -> None:
    """Pin, release, unmap, free and allocate pages now. If one ACTION is wrong, none of them is done.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual
      pinnerfs ctl /tmp/d do 'pin task=camera pages=64 hold=500ms'
      pinnerfs ctl /tmp/d advance 500ms
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    in_child(lambda: target.client().do("\n".join(actions)))


@ctl.command()
@click.pass_obj
def clock(target: _Target) -> None:
    """Print the boot time of the device in µs.

    If a real clock has slipped, because this machine cannot keep up with it, a line on stderr says how far.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --clock manual --start 5s
      pinnerfs ctl /tmp/d clock
      pinnerfs umount /tmp/d
    """
    click.echo(in_child(lambda: target.client().clock()))
    if slipped := in_child(lambda: target.client().clock_slipped()):
        say(
            f"Note: the clock has slipped by {slipped / 1e6:.6f} s, because this machine cannot keep up with it; "
            "mount with a lower --speed, or a higher --max-lag"
        )


@ctl.command(short_help="Print the kernel log of failed CMA allocations.")
@click.pass_obj
def dmesg(target: _Target) -> None:
    """Print the kernel log: the lines about failed CMA allocations, with their boot time.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount faceunlock-fails /tmp/d --kernel android14-6.1 --clock manual
      pinnerfs ctl /tmp/d advance 60s
      pinnerfs ctl /tmp/d dmesg
      pinnerfs umount /tmp/d
    """
    click.echo(in_child(lambda: target.client().dmesg()), nl=False)


@ctl.command()
@as_json
@click.pass_obj
def stats(target: _Target, as_json: bool) -> None:
    """Print the counters of the accounting, one `name value` per line.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --start 60s
      pinnerfs ctl /tmp/d stats
      pinnerfs umount /tmp/d
    """
    if as_json:
        text = json_text({"stats": in_child(lambda: target.client().stats())})
    else:
        text = in_child(lambda: target.client().read("stats"))
    click.echo(text, nl=False)
