"""pinnerfs mount."""

from __future__ import annotations

import click

from pinnerfs.cli import options
from pinnerfs.mounts.claim import claim

__all__ = ["mount"]


@click.command()
@options.scenario
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.option("-f", "foreground", is_flag=True, help="Stay in the foreground, and log to stderr.")
@options.device
@click.option("--allow-other", is_flag=True, help="Let other users in (as it is when root mounts); the modes decide.")
def mount(scenario: str, mountpoint: str, foreground: bool, device: options.DeviceOptions, allow_other: bool) -> None:
    """Mount a fake debugfs that plays SCENARIO, a name of the gallery or a path.

    Returns when the mount answers, and leaves a daemon behind, until `pinnerfs umount MOUNTPOINT`.

    \b
    Example:
      pinnerfs mount camera-stall /tmp/d --clock manual
    """
    simulation = device.simulation(scenario, foreground=foreground)
    claimed = claim(mountpoint)
    if claimed.notice:
        click.echo(claimed.notice, err=True)
    daemon = device.daemon(simulation, claimed.path, allow_other=allow_other)
    if foreground:
        daemon.run(claimed.release)
    else:
        daemon.start(claimed.release)
        claimed.release()
