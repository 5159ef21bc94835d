"""The hidden folder `.pinnerfs/`: how a fake device is steered and asked. No kernel has anything like it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.files import OpenFile
from pinnerfs.workload.quantities import parse_time

__all__ = ["CONTROL_FOLDER", "Control"]

CONTROL_FOLDER = ".pinnerfs"


class _OpenText:
    """A file that shows what was so when it was opened."""

    def __init__(self, text: str) -> None:
        self._rest = text.encode()

    def read(self, size: int) -> bytes:
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "this file is for reading")


class _OpenAdvance:
    """`advance`: a time written to it passes before the write returns."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def read(self, size: int) -> bytes:
        raise OSError(errno.EINVAL, "this file is for writing")

    def write(self, data: bytes) -> None:
        self._control.advance(data)


class Control:
    """The files of the folder, each with its mode and how it is opened."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._error = ""
        self.files: dict[str, tuple[int, Callable[[], OpenFile]]] = {
            "advance": (0o200, lambda: _OpenAdvance(self)),
            "clock": (0o400, lambda: _OpenText(f"{device.clock.now()}\n")),
            "error": (0o400, lambda: _OpenText(self._error)),
            "pid": (0o400, lambda: _OpenText(f"{os.getpid()}\n")),
            "stats": (0o400, lambda: _OpenText(self._stats())),
        }

    def advance(self, data: bytes) -> None:
        """Let a manual clock go on; OSError EINVAL or EPERM, with the reason in `error`."""
        try:
            try:
                step = parse_time("advance", data.decode().strip())
            except ValueError as error:
                raise OSError(errno.EINVAL, str(error)) from None
            self._device.clock.advance(step)
        except OSError as error:
            self._error = f"{error.strerror}\n"
            raise
        with self._device.up_to_now():
            self._error = ""

    def _stats(self) -> str:
        with self._device.up_to_now() as simulation:
            return "".join(f"{name} {value}\n" for name, value in simulation.stats().items())
