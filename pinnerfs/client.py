"""Steering a mounted fake device from outside, by the files of its hidden folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinnerfs.debugfs.control import CONTROL_DIRECTORY
from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.quantities import parse_time

__all__ = ["Steering"]

# While time is played nobody else is answered, and no signal ends the write: so a little at a time.
SLICE = " within=500ms"


class Steering:
    """The hidden folder of a mount, as who holds its wheel sees it. PinnerfsError where nothing of ours is mounted."""

    def __init__(self, mountpoint: str | os.PathLike[str]) -> None:
        self._folder = Path(mountpoint, CONTROL_DIRECTORY)
        try:
            os.stat(self._folder)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "wanted a pinnerfs mount, but none is there" if missing else error.strerror
            raise PinnerfsError(f"cannot steer {os.fspath(mountpoint)}: {reason}") from None

    def advance(self, time: str) -> None:
        """Let a manual clock go on by a time such as "5s"; the books are up to then afterwards."""
        with self._refusals("cannot advance the clock"):
            before = int(self._read("clock"))
            while True:
                try:
                    return self._write("advance", f"{time}{SLICE}")
                except OSError as error:
                    # It is a lot of work, and others have had their turn now.
                    if error.errno != errno.ETIMEDOUT:
                        raise
                after = int(self._read("clock"))
                time = f"{parse_time('advance', time) - (after - before)}us"
                before = after

    def do(self, actions: str) -> None:
        """Pin, release and free pages now, one action a line: all of them, or none."""
        with self._refusals("cannot do it"):
            self._write("do", actions)

    def read(self, name: str) -> str:
        """The text of a file of the folder."""
        with self._refusals(f"cannot read {name}"):
            return self._read(name)

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text()

    def _write(self, name: str, text: str) -> None:
        """One write, of a byte at least: one of none would not reach the daemon."""
        with open(self._folder / name, "wb", buffering=0) as file:
            file.write(text.encode(errors="surrogateescape") or b"\n")

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """An errno in words: the daemon's own, where it left some."""
        try:
            yield
        except OSError as error:
            try:
                reason = (self._folder / "error").read_text().strip()
            except OSError:
                reason = ""
            raise PinnerfsError(f"{what}: {reason or error.strerror}") from None
