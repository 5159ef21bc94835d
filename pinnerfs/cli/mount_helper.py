"""The program mount.fuse.pinnerfs, which mount(8) calls for `-t fuse.pinnerfs` and for lines of fstab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnerfs.cli import errors_of_memory, exit_on_interrupt

if TYPE_CHECKING:
    import click

__all__ = ["main"]


def main() -> None:
    """Run the program `mount.fuse.pinnerfs`."""
    exit_on_interrupt()
    with errors_of_memory():
        from pinnerfs.cli.launch import launch

        launch(_helper, "mount.fuse.pinnerfs")


def _helper() -> click.Command:
    from pinnerfs.cli.mount_options import helper

    return helper
