"""pinnerfs umount."""

from __future__ import annotations

import click

from pinnerfs.cli.child import wait_for_answer
from pinnerfs.cli.launch import say
from pinnerfs.cli.options import max_wait
from pinnerfs.mounts.unmount import unmount

__all__ = ["umount"]


@click.command()
@click.argument("mountpoint", metavar="MOUNTPOINT")
@max_wait
def umount(mountpoint: str, max_wait: float) -> None:
    """Unmount a fake debugfs and wait until its daemon has ended.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d
      pinnerfs umount /tmp/d && echo unmounted
    """
    wait_for_answer("unmount", mountpoint, max_wait)
    notice = unmount(mountpoint)
    if notice:
        say(notice)
