"""The program mount.fuse.pinnerfs, which mount(8) calls for `-t fuse.pinnerfs` and for lines of fstab."""

from __future__ import annotations

from pinnerfs.cli import exit_on_interrupt

__all__ = ["main"]


def main() -> None:
    """Run the program `mount.fuse.pinnerfs`."""
    exit_on_interrupt()
    from pinnerfs.cli.launch import launch
    from pinnerfs.cli.mount_options import helper

    launch(helper, "mount.fuse.pinnerfs")
