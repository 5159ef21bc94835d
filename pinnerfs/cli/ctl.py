"""pinnerfs ctl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pinnerfs.debugfs.control import CONTROL_FOLDER
from pinnerfs.errors import PinnerfsError

__all__ = ["ctl"]


@contextmanager
def _refusals(folder: Path, what: str) -> Iterator[None]:
    """An errno in words: the daemon's own, where it left some."""
    try:
        yield
    except OSError as error:
        try:
            reason = (folder / "error").read_text().strip()
        except OSError:
            reason = ""
        raise PinnerfsError(f"{what}: {reason or error.strerror}") from None


@click.group()
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.pass_context
def ctl(context: click.Context, mountpoint: str) -> None:
    """Steer a mounted fake device, and ask it.

    \b
    Example:
      pinnerfs ctl /tmp/d advance 5s
      pinnerfs ctl /tmp/d stats
    """
    folder = Path(mountpoint, CONTROL_FOLDER)
    try:
        os.stat(folder)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "wanted a pinnerfs mount, but none is there" if missing else error.strerror
        raise PinnerfsError(f"cannot steer {mountpoint}: {reason}") from None
    context.obj = folder


@ctl.command()
@click.argument("time", metavar="TIME")
@click.pass_obj
def advance(folder: Path, time: str) -> None:
    """Let a manual clock go on by TIME; returns when the books are up to then.

    \b
    Example:
      pinnerfs ctl /tmp/d advance 5s
    """
    with _refusals(folder, "cannot advance the clock"):
        _write(folder / "advance", time)


@ctl.command()
@click.argument("actions", nargs=-1, required=True, metavar="ACTION...")
@click.pass_obj
def do(folder: Path, actions: tuple[str, ...]) -> None:
    """Pin, release and free pages now: all the ACTIONs, or none.

    \b
    Example:
      pinnerfs ctl /tmp/d do 'pin task=camera pages=64 hold=500ms'
    """
    with _refusals(folder, "cannot do it"):
        _write(folder / "do", "\n".join(actions))


@ctl.command()
@click.pass_obj
def clock(folder: Path) -> None:
    """Print the device's boot time in µs.

    \b
    Example:
      pinnerfs ctl /tmp/d clock
    """
    _print(folder, "clock")


@ctl.command()
@click.pass_obj
def stats(folder: Path) -> None:
    """Print what the books have counted, one `name value` a line.

    \b
    Example:
      pinnerfs ctl /tmp/d stats
    """
    _print(folder, "stats")


def _write(file: Path, text: str) -> None:
    """One write, of a byte at least: one of none would not reach the daemon."""
    with open(file, "wb", buffering=0) as opened:
        opened.write(text.encode(errors="surrogateescape") or b"\n")


def _print(folder: Path, name: str) -> None:
    with _refusals(folder, f"cannot read {name}"):
        text = (folder / name).read_text()
    click.echo(text, nl=False)
