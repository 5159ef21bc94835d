"""pinnerfs mount."""

from __future__ import annotations

import signal
from collections.abc import Callable

import click

from pinnerfs.cli import options
from pinnerfs.cli.child import wait_for_answer
from pinnerfs.cli.device import DeviceOptions, device
from pinnerfs.cli.files import wait_for_file, wait_for_scenario
from pinnerfs.cli.launch import say
from pinnerfs.mounts.claim import claim

__all__ = ["mount"]


@click.command()
@options.scenario
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.option("-f", "foreground", is_flag=True, help="Stay in the foreground, and log to stderr.")
@device
@options.max_wait
@click.option(
    "--allow-other",
    is_flag=True,
    help="Let other users in, as always when root mounts; the modes of the files still apply.",
)
@click.pass_obj
def mount(
    ready: Callable[[], None] | None,
    scenario: str,
    mountpoint: str,
    foreground: bool,
    device: DeviceOptions,
    max_wait: float,
    allow_other: bool,
) -> None:
    """Mount a fake debugfs that plays SCENARIO.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file or to a capture of a device, or `-` for standard
    input. The command returns when the mount answers. A daemon serves the mount until `pinnerfs umount MOUNTPOINT`.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --start 60s
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    wait_for_scenario(scenario, max_wait)
    if device.log_file is not None:
        wait_for_file("log to", device.log_file, max_wait)
    engine = device.engine(scenario, max_wait, foreground=foreground, defer=not foreground)
    wait_for_answer("mount on", mountpoint, max_wait)
    place = claim(mountpoint)
    if place.notice:
        say(place.notice)
    daemon = device.daemon(engine, place.path, allow_other=allow_other)
    if foreground:
        daemon.run(place, lambda: None)
    elif ready is not None:  # in a process of the fork server, which becomes the daemon
        daemon.detach(lambda: place, ready)
    else:
        daemon.start(mountpoint, lambda: place)
        # It is mounted: exiting with 130 from here on would hide that.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
