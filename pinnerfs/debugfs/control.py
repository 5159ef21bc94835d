"""The hidden directory `.pinnerfs/`: files that control a fake device and show its state. No kernel has it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pinnerfs.debugfs.attributes import command_file, text_file
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.errors import PinnerfsError, in_a_line
from pinnerfs.scenario.quantities import parse_time

if TYPE_CHECKING:
    from pinnerfs.debugfs.device import Device  # imports numpy, which a client of these files does not need

__all__ = ["CONTROL_DIRECTORY", "Control"]

CONTROL_DIRECTORY = ".pinnerfs"

log = logging.getLogger(__name__)

# FUSE splits a write of about 128 KiB: its first part would run without the rest.
MAX_ACTIONS = 1 << 16  # bytes

# During an advance the daemon answers no other request, and no signal interrupts it.
ADVANCE_TIMEOUT = 30.0  # seconds


class Control:
    """The control files of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._error = ""

    def directory(self) -> Directory:
        """Declare the directory; only its owner can open it."""
        files = [
            command_file("advance", self.advance),
            text_file("clock", lambda: f"{self._device.clock.now()}\n", 0o400),
            command_file("do", self.do),
            text_file("error", lambda: self._error, 0o400),
            text_file("pid", lambda: f"{os.getpid()}\n", 0o400),
            text_file("stats", self._stats, 0o400),
        ]
        return Directory(CONTROL_DIRECTORY, 0o700, files, listed=False)

    def advance(self, data: bytes) -> None:
        """Advance a manual clock by a time such as "5s".

        OSError EINVAL, EPERM or EOVERFLOW, with the reason in `error`. An advance that takes too long is ETIMEDOUT: the
        clock then stands where the advance stopped. " within=500ms" after the time sets that limit; the default, and
        the maximum, is ADVANCE_TIMEOUT.
        """
        with self._refusals():
            text, given, within = data.decode(errors="surrogateescape").partition(" within=")
            text = text.strip()
            step = parse_time("advance", text)
            timeout = min(ADVANCE_TIMEOUT, parse_time("within", within.strip()) / 10**6) if given else ADVANCE_TIMEOUT
            if left := self._device.advance(step, timeout):
                done = f"advanced {step - left}us, {left}us left"
                raise OSError(errno.ETIMEDOUT, f"advance = {text!r} timed out after {timeout:g} s: {done}")
        log.info("clock advanced by %s", text)

    def do(self, data: bytes) -> None:
        """Pin, release, unmap and free pages now; OSError EINVAL, with the reason in `error`."""
        with self._refusals():
            if len(data) > MAX_ACTIONS:
                raise ValueError(f"{len(data)} bytes of actions in one write: wanted at most {MAX_ACTIONS}")
            try:
                text = data.decode()
            except UnicodeDecodeError:
                raise ValueError(f"{data.decode(errors='surrogateescape')!r}: wanted UTF-8 text") from None
            self._device.do(text)
        log.info("actions done: %r", text)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Keep the reason of a refused write in `error` until the next write succeeds."""
        try:
            yield
        except (PinnerfsError, ValueError) as error:
            self._refuse(str(error))
            raise OSError(errno.EINVAL, str(error)) from None
        except OSError as error:
            self._refuse(str(error.strerror))
            raise
        self._error = ""

    def _refuse(self, reason: str) -> None:
        self._error = f"{in_a_line(reason)}\n"
        log.info("refused: %s", in_a_line(reason))

    def _stats(self) -> str:
        with self._device.up_to_now() as simulation:
            return "".join(f"{name} {value}\n" for name, value in simulation.stats().items())
