"""pinnerfs run."""

from __future__ import annotations

import os

import click

from pinnerfs.cli import options
from pinnerfs.cli.child import wait_for_answer
from pinnerfs.cli.device import DeviceOptions, device
from pinnerfs.cli.files import wait_for_file, wait_for_scenario
from pinnerfs.cli.launch import say
from pinnerfs.mounts.claim import prepare_to_cover

__all__ = ["run"]

MOUNTPOINT = "/sys/kernel/debug"


@click.command()
@options.scenario
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--mountpoint",
    metavar="PATH",
    default=MOUNTPOINT,
    show_default=True,
    help="Mount over this directory; COMMAND does not see its files.",
)
@click.option(
    "--android",
    is_flag=True,
    help="Also show COMMAND other files of a phone, such as /d and /system/bin/sh, as far as this machine allows.",
)
@device
@options.max_wait
def run(
    scenario: str,
    command: tuple[str, ...],
    mountpoint: str,
    android: bool,
    device: DeviceOptions,
    max_wait: float,
) -> None:
    """Run COMMAND with a fake debugfs over /sys/kernel/debug that only COMMAND sees.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file or to a capture of a device, or `-` for standard
    input.

    The exit status is that of COMMAND; if a signal kills COMMAND, the same signal kills this command. The mount ends
    with COMMAND. Without root it needs user namespaces and /dev/fuse, and COMMAND sees itself as uid 0.

    \b
    Example:
      pinnerfs run camera-stall --start 60s -- \\
        grep -m 3 Page /sys/kernel/debug/page_pinner/longterm_pinner
    """
    wait_for_scenario(scenario, max_wait)
    if device.log_file is not None:
        wait_for_file("log to", device.log_file, max_wait)
    if "/" in command[0]:
        wait_for_file("run", command[0], max_wait)
    # Not under another mount point, which may hide numpy. And --android needs the areas of the simulation.
    engine = device.engine(scenario, max_wait, defer=mountpoint == MOUNTPOINT and not android)
    from pinnerfs.daemon import runner

    # Only this call: a stopped daemon's mount can be covered.
    wait_for_answer("mount over", mountpoint, max_wait, os.stat)
    path = prepare_to_cover(mountpoint)
    phone = None
    if android:
        from pinnerfs.daemon.phone import Phone

        phone = Phone(say)
    daemon = device.daemon(engine, path, cover=True, android=android)
    status, notice = runner.run(daemon, mountpoint, command, phone)
    if notice:
        say(notice)
    runner.pass_on(status)
