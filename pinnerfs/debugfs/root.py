"""The root directory of the fake debugfs."""

from __future__ import annotations

from pinnerfs.debugfs.cma import cma_directory
from pinnerfs.debugfs.control import Control
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import page_pinner_directory
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["root_directory"]


def root_directory(device: Device, generation: Generation) -> Directory:
    """Declare all that a device's debugfs contains, in the order in which a kernel's late_initcalls create it."""
    return Directory(
        "", 0o700, [page_pinner_directory(device, generation), cma_directory(device), Control(device).directory()]
    )
