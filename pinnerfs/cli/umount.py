"""pinnerfs umount."""

from __future__ import annotations

import click

from pinnerfs.mounts.table import unmount

__all__ = ["umount"]


@click.command()
@click.argument("mountpoint", metavar="MOUNTPOINT")
def umount(mountpoint: str) -> None:
    """Unmount a fake debugfs, and wait until its daemon is gone.

    \b
    Example:
      pinnerfs umount /tmp/d
    """
    unmount(mountpoint)
