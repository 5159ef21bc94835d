"""The hidden directory `.pinnerfs/`: files that control a fake device and show its state. No kernel has it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pinnerfs.debugfs import CONTROL_DIRECTORY
from pinnerfs.debugfs.attributes import OpenCommand, command_file, text_file
from pinnerfs.debugfs.cma import counters_directory
from pinnerfs.debugfs.declaration import Directory, File
from pinnerfs.errors import PinnerfsError, in_a_line
from pinnerfs.scenario.quantities import parse_time

if TYPE_CHECKING:
    from pinnerfs.debugfs.device import Device  # imports numpy, which a client of these files does not need

__all__ = ["Control"]

log = logging.getLogger(__name__)

# Of live actions and rules. FUSE splits a write of about 128 KiB: its first part would run without the rest.
MAX_WRITE = 1 << 16  # bytes

# During an advance the daemon answers no other request. The first write may take longer than those that continue it,
# because the echo of bash does not continue.
ADVANCE_TIMEOUT = 0.5  # seconds
CONTINUED_TIMEOUT = 0.05  # seconds


@dataclass
class _Unfinished:
    """What is left of an advance, for each open file."""

    text: str = ""
    left: int = 0  # µs


class Control:
    """The control files of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._error = ""

    def directory(self, more: Sequence[File | Directory] = ()) -> Directory:
        """Declare the directory, with `more` entries; only its owner can open it."""
        files: list[File | Directory] = [
            File("advance", 0o200, lambda: OpenCommand(partial(self.advance, _Unfinished()))),
            text_file("clock", lambda: f"{self._device.now()}\n", 0o400),
            command_file("do", self.do),
            text_file("error", lambda: self._error, 0o400),
            text_file("inject", self._device.faults.text, 0o600, self.inject),
            text_file("pid", lambda: f"{os.getpid()}\n", 0o400),
            text_file("stats", self._stats, 0o400),
            counters_directory(self._device),
            text_file("dmesg", self._dmesg, 0o400),
            text_file("vmstat", self._vmstat, 0o400),
            *more,
        ]
        return Directory(CONTROL_DIRECTORY, 0o700, files, listed=False)

    def advance(self, unfinished: _Unfinished, data: bytes) -> None:
        """Advance a manual clock by a time such as "5s".

        OSError EINVAL, EPERM or EOVERFLOW, with the reason in `error`. An advance that takes too long ends with EINTR,
        and the clock stands where it ended. The same text written again to the same open file continues it: many
        programs repeat a write that ends with EINTR, and some repeat each failed write.

        " within=50ms" after the time sets a limit, and then the error is ETIMEDOUT: for a client that must do something
        between its writes, because Python does not let it see EINTR.
        """
        with self._refusals():
            text, given, within = data.decode(errors="surrogateescape").partition(" within=")
            text = text.strip()
            continued = not given and unfinished.left and text == unfinished.text
            step = unfinished.left if continued else parse_time("advance", text)
            timeout = CONTINUED_TIMEOUT if continued else ADVANCE_TIMEOUT
            if given:
                timeout = min(timeout, parse_time("within", within.strip()) / 10**6)
            unfinished.text, unfinished.left = text, 0
            left = self._device.advance(step, timeout)
            if left and given:
                done = f"advanced {step - left}us, {left}us left"
                raise OSError(errno.ETIMEDOUT, f"advance = {text!r} timed out after {timeout:g} s: {done}")
            if left:
                unfinished.left = left
                done = f"was interrupted after {timeout:g} s, with {left}us left"
                remedy = "use `pinnerfs ctl MOUNTPOINT advance`, which continues by itself"
                raise OSError(errno.EINTR, f"advance = {text!r} {done}; {remedy}")
        log.info("clock advanced by %s", text)

    def do(self, data: bytes) -> None:
        """Pin, release, unmap, free and allocate pages now; OSError EINVAL, with the reason in `error`."""
        with self._refusals():
            text = self._decoded(data, "actions")
            self._device.do(text)
        log.info("actions done: %r", text)

    def inject(self, data: bytes) -> None:
        """Add and remove rules of faults; OSError EINVAL, with the reason in `error`."""
        with self._refusals():
            text = self._decoded(data, "rules")
            self._device.faults.write(text)
        log.info("rules of faults: %r", text)

    @staticmethod
    def _decoded(data: bytes, what: str) -> str:
        """Return the text of a write. Raise ValueError if it is too long or not UTF-8."""
        if len(data) > MAX_WRITE:
            raise ValueError(f"{len(data)} bytes of {what} in one write: wanted at most {MAX_WRITE}")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{data.decode(errors='surrogateescape')!r}: wanted UTF-8 text") from None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Keep the reason of a refused write in `error` until the next write succeeds."""
        try:
            yield
        except (PinnerfsError, ValueError) as error:
            self._refuse(str(error))
            raise OSError(errno.EINVAL, str(error)) from None
        except OSError as error:
            self._refuse(str(error.strerror), logged=error.errno not in (errno.EINTR, errno.ETIMEDOUT))
            raise
        self._error = ""

    def _refuse(self, reason: str, logged: bool = True) -> None:
        self._error = f"{in_a_line(reason)}\n"
        if logged:
            log.info("refused: %s", in_a_line(reason))

    def _dmesg(self) -> str:
        with self._device.up_to_now() as simulation:
            return simulation.dmesg()

    def _vmstat(self) -> str:
        with self._device.up_to_now() as simulation:
            return _lines(simulation.vmstat())

    def _stats(self) -> str:
        clock = self._device.clock
        with self._device.up_to_now() as simulation:
            slipped = {"clock_slipped": clock.slipped} if clock.speed else {}
            return _lines(simulation.stats() | slipped)


def _lines(numbers: dict[str, int]) -> str:
    return "".join(f"{name} {value}\n" for name, value in numbers.items())
