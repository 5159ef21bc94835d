"""The root directory of the fake debugfs."""

from __future__ import annotations

from pinnerfs.debugfs.android import dma_buf_directory, phone_files
from pinnerfs.debugfs.cma import cma_directory
from pinnerfs.debugfs.control import Control
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import page_pinner_directory
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["root_directory"]


def root_directory(device: Device, generation: Generation, *, android: bool = False) -> Directory:
    """Declare all that a device's debugfs contains; with `android` also what `run --android` shows.

    The order is that in which a kernel's initcalls create it.
    """
    early = [dma_buf_directory(device.mm)] if android else []
    control = Control(device).directory(phone_files(device) if android else ())
    return Directory("", 0o700, [*early, page_pinner_directory(device, generation), cma_directory(device), control])
