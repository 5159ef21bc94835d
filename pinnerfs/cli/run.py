"""pinnerfs run."""

from __future__ import annotations

import click

from pinnerfs.cli import options
from pinnerfs.daemon import runner
from pinnerfs.mounts.claim import prepare_to_cover

__all__ = ["run"]


@click.command()
@options.scenario
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--mountpoint",
    metavar="PATH",
    default="/sys/kernel/debug",
    show_default=True,
    help="The folder to mount over; what lies there is hidden meanwhile.",
)
@options.device
def run(scenario: str, command: tuple[str, ...], mountpoint: str, device: options.DeviceOptions) -> None:
    """Run COMMAND with a fake debugfs that plays SCENARIO over /sys/kernel/debug, seen by it alone.

    Leaves with the exit status of COMMAND, or dies of the signal that it died of; the mount is gone then. An ordinary
    user needs user namespaces and /dev/fuse, and COMMAND sees itself as uid 0.

    \b
    Example:
      pinnerfs run camera-stall --start 60s -- ./my-script.sh
    """
    simulation = device.simulation(scenario)
    path = prepare_to_cover(mountpoint)
    status, notice = runner.run(device.daemon(simulation, path, cover=True), command)
    if notice:
        click.echo(notice, err=True)
    runner.pass_on(status)
