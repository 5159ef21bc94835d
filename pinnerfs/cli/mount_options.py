"""Mounting with options as mount(8) writes them: `SCENARIO MOUNTPOINT -o OPTION,OPTION`."""

from __future__ import annotations

import os
import re

import click

from pinnerfs.cli.child import wait_for_answer
from pinnerfs.cli.launch import HELP_OPTIONS
from pinnerfs.cli.mount import mount
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.mounts.answers import MAX_WAIT
from pinnerfs.mounts.namespace import set_read_only
from pinnerfs.mounts.table import FSTYPE, Proc, open_directory
from pinnerfs.scenario.messages import nearest
from pinnerfs.scenario.quantities import parse_time

__all__ = ["helper"]

# The options of `pinnerfs mount`, without the dashes.
VALUES = (
    "clock",
    "speed",
    "max_lag",
    "start",
    "seed",
    "threshold",
    "kernel",
    "mm",
    "cma_retries",
    "log",
    "trace",
    "max_wait",
    "over",
)
FLAGS = ("allow_other", "verbose", "quiet_migration")
# The options of a debugfs, which a remount may change.
ROOT = ("mode", "uid", "gid")
MAX_NUMBER = (1 << 32) - 2  # -1 is no user
# Ignored: they are for mount(8) itself, or have no effect on a file system without devices and programs.
NEUTRAL = {
    *("rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"),
    *("suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "silent", "loud", "lazytime", "nolazytime"),
    *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"),
}


@click.command(context_settings=HELP_OPTIONS)
@click.argument("source", metavar="SCENARIO")
@click.argument("target", metavar="MOUNTPOINT")
@click.option("-s", "sloppy", is_flag=True, help="Ignore unknown options.")
@click.option("-f", "fake", is_flag=True, help="Check the options without mounting.")
@click.option("-n", is_flag=True, expose_value=False, help="Ignored: pinnerfs does not write to mtab.")
@click.option("-v", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-o", "lists", multiple=True, metavar="OPTION[,OPTION]...", help="Options, as in fstab.")
def helper(source: str, target: str, sloppy: bool, fake: bool, lists: tuple[str, ...]) -> None:
    """Mount SCENARIO for mount(8): the options of `pinnerfs mount`, and mode, uid and gid as a debugfs takes them.

    \b
    Example (as root):
      ln -sf "$(command -v mount.fuse.pinnerfs)" /sbin/
      mkdir -p /tmp/d
      mount -t fuse.pinnerfs camera-stall /tmp/d -o start=60s,mode=755
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      umount /tmp/d
    """
    options = dict(_split(option) for given in lists for option in given.split(",") if option)
    remount = "remount" in options
    unknown = [name for name in options if not _is_known(name)]
    # A remount repeats all options of the mount table. A debugfs ignores unknown ones there as well.
    if unknown and not sloppy and not remount:
        known = (*VALUES, *FLAGS, *ROOT, "ro")
        wanted = f"wanted one of {', '.join(known)}{nearest(unknown[0], known)}"
        if unknown[0] == "loop":
            wanted = "mount(8) keeps it for loop devices: `pinnerfs mount --loop` repeats a capture"
        raise PinnerfsError(f"cannot mount on {target}: unknown option {unknown[0]!r}; {wanted}", BAD_INPUT)
    numbers = _root_numbers(target, options)
    if fake:
        return
    if not remount:
        words = [f"--{name.replace('_', '-')}={options[name]}" for name in VALUES if name in options]
        words += [f"--{name.replace('_', '-')}" for name in FLAGS if name in options]
        try:
            mount.main(
                [*words, "--", source, target], prog_name="mount.fuse.pinnerfs", standalone_mode=False, **HELP_OPTIONS
            )
        except click.BadParameter as error:
            if error.param is not None:
                error.param_hint = f"'-o {error.param.opts[0].removeprefix('--').replace('-', '_')}'"
            raise
    else:
        wait_for_answer("remount", target, _max_wait(target, options))
    _adjust_root(target, numbers, read_only="ro" in options)


def _split(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name, value


def _is_known(name: str) -> bool:
    return name in {*VALUES, *FLAGS, *ROOT, *NEUTRAL, "ro", "remount"} or name.startswith(("x-", "X-"))


def _max_wait(target: str, options: dict[str, str]) -> float:
    """Return how many seconds a remount waits for the daemon."""
    if "max_wait" not in options:
        return MAX_WAIT
    try:
        return parse_time("max_wait", options["max_wait"]) / 10**6
    except ValueError as error:
        raise PinnerfsError(f"cannot remount {target}: {error}", BAD_INPUT) from None


def _root_numbers(target: str, options: dict[str, str]) -> dict[str, int]:
    """Return the mode, uid and gid that the options ask for."""
    numbers = {}
    for name in ROOT:
        if name in options:
            form, base = (r"[0-7]{1,11}", 8) if name == "mode" else (r"[0-9]{1,10}", 10)
            number = int(options[name], base) if re.fullmatch(form, options[name]) else -1
            if not 0 <= number <= MAX_NUMBER:
                wanted = "an octal number, such as 755" if name == "mode" else f"a number up to {MAX_NUMBER}"
                raise PinnerfsError(f"{name}={options[name]} for {target} must be {wanted}", BAD_INPUT)
            numbers[name] = number
    return numbers


def _adjust_root(target: str, numbers: dict[str, int], *, read_only: bool) -> None:
    """Set the mode and the owner of the mount's root, and whether the mount is read-only."""
    descriptor = open_directory(target, "set the options of")
    try:
        with Proc() as proc:
            mount = proc.mount_at(descriptor)
            if mount is None or mount.fstype != FSTYPE:
                raise PinnerfsError(f"cannot set the options of {target}: wanted a {FSTYPE} mount, but none is there")
            link = proc.link(descriptor)  # not the path, which may lead to another file by now
            if os.statvfs(descriptor).f_flag & os.ST_RDONLY:
                set_read_only(link, False)  # a remount may still change the root
            os.stat(link)  # the kernel takes root for the owner until the first stat
            if "mode" in numbers:
                os.chmod(link, numbers["mode"] & 0o7777)
            os.chown(link, numbers.get("uid", -1), numbers.get("gid", -1))
            if read_only:
                set_read_only(link, True)
    except OSError as error:
        raise PinnerfsError(f"cannot set the options of {target}: {error.strerror}") from None
    finally:
        os.close(descriptor)
