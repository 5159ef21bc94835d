"""The hidden folder `.pinnerfs/`: how a fake device is steered and asked. No kernel has anything like it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pinnerfs.debugfs.attributes import OpenFile
from pinnerfs.errors import PinnerfsError, in_a_line
from pinnerfs.scenario.quantities import parse_time

if TYPE_CHECKING:
    from pinnerfs.debugfs.device import Device

__all__ = ["CONTROL_FOLDER", "Control"]

CONTROL_FOLDER = ".pinnerfs"

log = logging.getLogger(__name__)

# FUSE cuts a write of 128 KiB or so into pieces; a part of the actions would be carried out without the rest.
MAX_ACTIONS = 1 << 16

# Nobody is answered while time is played, and no signal stops it.
PATIENCE = 30.0  # seconds


class _OpenText:
    """A file that shows what was so when it was opened."""

    def __init__(self, text: str) -> None:
        self._rest = text.encode()

    def read(self, size: int) -> bytes:
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "this file is for reading")


class _OpenOrder:
    """A file that takes an order: it has been carried out, or refused, before the write returns."""

    def __init__(self, order: Callable[[bytes], None]) -> None:
        self._order = order

    def read(self, size: int) -> bytes:
        raise OSError(errno.EINVAL, "this file is for writing")

    def write(self, data: bytes) -> None:
        self._order(data)


class Control:
    """The files of the folder, each with its mode and how it is opened."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._error = ""
        self.files: dict[str, tuple[int, Callable[[], OpenFile]]] = {
            "advance": (0o200, lambda: _OpenOrder(self.advance)),
            "clock": (0o400, lambda: _OpenText(f"{device.clock.now()}\n")),
            "do": (0o200, lambda: _OpenOrder(self.do)),
            "error": (0o400, lambda: _OpenText(self._error)),
            "pid": (0o400, lambda: _OpenText(f"{os.getpid()}\n")),
            "stats": (0o400, lambda: _OpenText(self._stats())),
        }

    def advance(self, data: bytes) -> None:
        """Let a manual clock go on; OSError EINVAL, EPERM or EOVERFLOW, with the reason in `error`.

        ETIMEDOUT where that is a lot of work: the clock has got as far as it shows then. " within=500ms" behind the
        time says how long nobody else is answered meanwhile; it is half a minute at most.
        """
        with self._refusals():
            text, asked, within = data.decode().partition(" within=")
            text = text.strip()
            step = parse_time("advance", text)
            patience = min(PATIENCE, parse_time("within", within.strip()) / 10**6) if asked else PATIENCE
            if left := self._device.advance(step, patience):
                came = f"came {step - left}us far in {patience:g} seconds"
                raise OSError(errno.ETIMEDOUT, f"advance = {text!r} {came}: {left}us are left")
        log.info("advanced by %s", text)

    def do(self, data: bytes) -> None:
        """Pin, release and free pages now; OSError EINVAL, with the reason in `error`."""
        with self._refusals():
            if len(data) > MAX_ACTIONS:
                raise ValueError(f"more than {MAX_ACTIONS} bytes of actions in one write")
            self._device.do(data.decode())
        log.info("done: %r", data.decode())

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Keeps the reason for which a write is refused, until one is not."""
        try:
            yield
        except (PinnerfsError, ValueError) as error:
            self._refuse(str(error))
            raise OSError(errno.EINVAL, str(error)) from None
        except OSError as error:
            self._refuse(str(error.strerror))
            raise
        self._error = ""

    def _refuse(self, why: str) -> None:
        self._error = f"{in_a_line(why)}\n"
        log.info("refused: %s", in_a_line(why))

    def _stats(self) -> str:
        with self._device.up_to_now() as simulation:
            return "".join(f"{name} {value}\n" for name, value in simulation.stats().items())
