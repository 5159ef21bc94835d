"""pinnerfs umount."""

from __future__ import annotations

import click

from pinnerfs.cli.launch import say
from pinnerfs.mounts.unmount import unmount

__all__ = ["umount"]


@click.command()
@click.argument("mountpoint", metavar="MOUNTPOINT")
def umount(mountpoint: str) -> None:
    """Unmount a fake debugfs and wait until its daemon has ended.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d
      pinnerfs umount /tmp/d && echo unmounted
    """
    notice = unmount(mountpoint)
    if notice:
        say(notice)
