"""mount.fuse.pinnerfs: what mount(8) looks for in /sbin, with `-t fuse.pinnerfs` and for a line of fstab."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from pinnerfs.cli import launch
from pinnerfs.cli.mount import mount
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.namespace import set_read_only

__all__ = ["main"]

# Those of `pinnerfs mount`, as mount(8) writes them: without the dashes.
VALUES = ("clock", "speed", "start", "seed", "threshold", "kernel", "log", "trace")
FLAGS = ("allow_other", "verbose")
# Those of a debugfs's own, which a remount may change.
ROOT = ("mode", "uid", "gid")
# For mount(8) itself, or without a meaning where there are neither devices nor programs.
NEUTRAL = {
    *("rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"),
    *("suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "silent", "loud", "lazytime", "nolazytime"),
    *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"),
}


@click.command()
@click.argument("source", metavar="SCENARIO")
@click.argument("target", metavar="MOUNTPOINT")
@click.option("-s", "sloppy", is_flag=True, help="Pass over options that nobody knows.")
@click.option("-f", "fake", is_flag=True, help="Look at the options, and mount nothing.")
@click.option("-n", is_flag=True, expose_value=False, help="Nothing: there is no mtab to be left alone.")
@click.option("-v", is_flag=True, expose_value=False, help="Nothing.")
@click.option("-o", "lists", multiple=True, metavar="OPTION[,OPTION]...", help="Options, as in fstab.")
def _helper(source: str, target: str, sloppy: bool, fake: bool, lists: tuple[str, ...]) -> None:
    """Mount SCENARIO for mount(8), with the options of `pinnerfs mount`, and mode, uid and gid as a debugfs has them.

    \b
    Example:
      ln -s "$(command -v mount.fuse.pinnerfs)" /sbin/
      mount -t fuse.pinnerfs camera-stall /mnt -o speed=10,mode=755
    """
    options = dict(_parted(option) for given in lists for option in given.split(",") if option)
    remount = "remount" in options
    unknown = [name for name in options if not _is_known(name)]
    # A remount comes with whatever the mount table says, and a debugfs, too, passes over what it does not know.
    if unknown and not sloppy and not remount:
        wanted = ", ".join((*VALUES, *FLAGS, *ROOT, "ro"))
        raise PinnerfsError(f"cannot mount on {target}: unknown option {unknown[0]!r}; wanted one of {wanted}")
    adjust = _adjustment(target, options)
    if fake:
        return
    if not remount:
        words = [f"--{name}={options[name]}" for name in VALUES if name in options]
        words += [f"--{name.replace('_', '-')}" for name in FLAGS if name in options]
        mount.main([*words, "--", source, target], prog_name="mount.fuse.pinnerfs", standalone_mode=False)
    adjust()


def _parted(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name, value


def _is_known(name: str) -> bool:
    return name in {*VALUES, *FLAGS, *ROOT, *NEUTRAL, "ro", "remount"} or name.startswith(("x-", "X-"))


def _adjustment(target: str, options: dict[str, str]) -> Callable[[], None]:
    """What is left to do once it is mounted: the root's mode and owner, and whether one may write."""
    numbers = {}
    for name in ROOT:
        if name in options:
            try:
                numbers[name] = int(options[name], 8 if name == "mode" else 10)
            except ValueError:
                wanted = "an octal number, such as 755" if name == "mode" else "a number"
                raise PinnerfsError(f"{name}={options[name]} for {target} must be {wanted}") from None

    def adjust() -> None:
        try:
            if os.statvfs(target).f_flag & os.ST_RDONLY:
                set_read_only(target, False)  # for the changes at least
            if "mode" in numbers:
                os.chmod(target, numbers["mode"])
            os.chown(target, numbers.get("uid", -1), numbers.get("gid", -1))
            if "ro" in options:
                set_read_only(target, True)
        except OSError as error:
            raise PinnerfsError(f"cannot set the options of {target}: {error.strerror}") from None

    return adjust


def main() -> None:
    """Do what mount(8) asks."""
    launch(_helper, "mount.fuse.pinnerfs")
